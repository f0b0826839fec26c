-- What is held, by whom and for how long (design, section 4, Holding). While a platform or an organization is held, the
-- deadlines of its deliveries stand still: begin takes the time of these rows off.
create table platform_holds (
    id uuid primary key,
    platform text not null,
    organization_id text,                        -- null: the whole platform
    reason text not null check (reason in ('paused', 'breaker', 'credentials', 'forbidden', 'throttled')),
    owner text not null,
    held_from timestamptz not null,
    held_until timestamptz not null              -- renewed each second while it lasts
);
create index platform_holds_by_end on platform_holds (platform, held_until);
