-- Stores webhooks. $11 token. In id order, so that two batches with the same webhooks never wait for each other in a ring.
with given as (
    select * from unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
        $9::timestamptz[], $10::text[]
    )
        as g (id, platform, event_type, transaction_id, activity_id, platform_status, payload, error_msg,
              occurred_at, trace_id)
),
stored as (
    insert into status_events (id, platform, event_type, transaction_id, activity_id, platform_status, payload,
        error_msg, occurred_at, trace_id, token)
    select id, platform, event_type, transaction_id, activity_id, platform_status, payload::jsonb,
        error_msg, occurred_at, trace_id, $11::uuid
    from given
    order by id
    on conflict (id) do nothing
    returning id
)
select id from stored
union all
-- This very call, repeated because its reply was lost.
select id from status_events where id = any($1::uuid[]) and token = $11::uuid
