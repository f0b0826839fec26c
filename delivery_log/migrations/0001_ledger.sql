-- The ledger from its first day (contract, section 6; design, sections 3 to 6).
-- Written for PostgreSQL 15 and later. Nothing here may need more than table owner's rights.

-- Who this ledger is: part of the name of every fast memory of it, so that an old memory never judges a new ledger.
create table ledger_identity (
    id uuid primary key default gen_random_uuid(),
    created_at timestamptz not null default now()
);
insert into ledger_identity default values;

-- The order of a company's deliveries. No column default: a dump of impact_deliveries alone must restore anywhere.
create sequence impact_delivery_seq;
-- The number of a worker process's start: tells a process from its predecessor under the same static name.
create sequence worker_epoch_seq;

create table company_platforms (
    company_id uuid not null,
    platform text not null,
    organization_id text not null,
    enabled boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (company_id, platform)
);

create table platform_settings (
    platform text not null,
    name text not null,
    value jsonb not null,
    updated_at timestamptz not null default now(),
    primary key (platform, name)
);

create table impact_events (
    id uuid primary key,
    content_hash text not null,
    company_id uuid not null,
    body bytea,                                  -- Avro; null once retention took it: id and hash stay longer
    disposition text not null check (disposition in ('accepted', 'unrouted')),
    reason text check (reason in ('unknown_company', 'not_applicable')),
    topic text,                                  -- null where it came by HTTP
    "partition" integer,
    "offset" bigint,
    traceparent text not null,
    trace_id text not null,
    created_at timestamptz not null default now()
);
create index impact_events_by_company on impact_events (company_id, created_at);

-- fillfactor: begin and finish rewrite each row a few times; room in the page keeps those updates off the indexes.
create table impact_deliveries (
    id uuid primary key,
    event_id uuid not null,
    company_id uuid not null,
    platform text not null,
    organization_id text not null,
    content_hash text not null,                  -- the event's: a record that says otherwise is not this delivery's
    payload_hash text,
    payload_sample jsonb,
    status text not null check (status in ('pending', 'retrying', 'delivered', 'failed')),
    outcome text check (outcome in ('delivered', 'dead', 'rejected', 'cancelled')),
    mocked boolean not null default false,
    retries integer not null default 0,
    replays integer not null default 0,
    parked_at timestamptz,
    error_code text,
    error_msg text,
    transaction_id text,
    idempotency_key text,
    platform_status text check (platform_status in ('received', 'confirmed', 'rejected')),
    platform_status_contradicted boolean not null default false,
    next_attempt_at timestamptz,
    delivered_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    trace_id text,
    traceparent text,

    seq bigint not null,                         -- a company's order at a platform
    generation integer not null default 0,       -- raised by a replay: another body, another key
    hop integer not null default 1,              -- the one live record of this delivery carries this number
    published_hop integer not null default 0,    -- what a broker confirmed
    published_at timestamptz not null default now(),
    publish_delay double precision not null default 0, -- seconds that the live record waits in a retry topic
    blocked boolean not null default false,      -- no record lives: waits here, for an elder sibling's end or for its time

    attempts integer not null default 0,         -- number of the last attempt begun
    counted integer not null default 0,          -- attempts that count against the delivery
    first_failed_at timestamptz,
    last_failed_at timestamptz,
    deadline_at timestamptz,
    uncertain_since timestamptz,                 -- an attempt may have had its effect: same key, same content
    lease_owner text,
    lease_epoch bigint,
    lease_started_at timestamptz,
    lease_until timestamptz,
    batch_id uuid,
    batch_limit integer,
    unannounced boolean not null default false,  -- dead, and its record on the dead-letter topic not confirmed yet
    token uuid,                                  -- of the call that changed the row last: a repeated call knows itself

    unique (event_id, platform)
) with (fillfactor = 60);

create index impact_deliveries_unfinished on impact_deliveries (platform, company_id, seq)
    where status in ('pending', 'retrying');
-- A flag of its own: an index over hop and published_hop would cost each begin its place in the page.
create index impact_deliveries_unannounced on impact_deliveries (published_at) where unannounced;
create index impact_deliveries_by_transaction on impact_deliveries (platform, transaction_id)
    where transaction_id is not null;
create index impact_deliveries_newest on impact_deliveries (created_at desc, id desc);

create table delivery_attempts (
    delivery_id uuid not null,
    attempt integer not null,
    started_at timestamptz not null,
    duration_ms double precision,
    http_status integer,
    outcome text not null check (outcome in ('accepted', 'refused', 'throttled', 'unavailable',
        'credentials_rejected', 'forbidden', 'uncertain', 'unknown_outcome')),
    counted boolean not null,
    error_code text,
    error_msg text,
    transaction_id text,
    batch_id uuid,
    payload_hash text,
    idempotency_key text,
    primary key (delivery_id, attempt)
);

create table status_events (
    id uuid primary key,                         -- UUID v5 of platform and content
    platform text not null,
    event_type text not null,
    transaction_id text,
    activity_id text,                            -- Workday without a transaction id
    delivery_id uuid,
    batch_id uuid,
    platform_status text check (platform_status in ('received', 'confirmed', 'rejected')),
    payload jsonb not null,
    error_msg text,
    occurred_at timestamptz not null,
    received_at timestamptz not null default now(),
    linked_at timestamptz,                       -- a batch's status has no delivery_id of its own, yet is linked
    trace_id text,
    token uuid                                   -- of the call that stored it: a repeated call knows what it stored
);
create index status_events_unlinked on status_events (received_at) where linked_at is null;
create index status_events_by_delivery on status_events (delivery_id) where delivery_id is not null;
create index status_events_by_transaction on status_events (platform, transaction_id);

-- Up to which record timestamp each partition has been worked off: what is older and has not moved is missing.
create table reader_progress (
    topic text not null,
    "partition" integer not null,
    read_up_to timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (topic, "partition")
);
