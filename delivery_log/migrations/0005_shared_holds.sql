-- A hold is one for all workers: when the next probe may go, who has the right to send it, and whether it is over.
alter table platform_holds
    add column next_probe_at timestamptz,
    add column probe_wait double precision not null default 0, -- seconds that came before the next probe
    add column prober text,
    add column probing_until timestamptz,
    add column released_at timestamptz;
