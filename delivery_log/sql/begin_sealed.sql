-- Leases a whole batch, or nothing of it. $1 batch, $2 to $5 its members as they would be sent, $6 its key, $7 token,
-- $8 owner, $9 epoch, $10 lease s, $11 key memory s. Returns a row a member, all with the same verdict.
with claim as materialized (
    select * from unnest($2::uuid[], $3::text[], $4::integer[], $5::text[])
        as c (id, organization_id, generation, payload_hash)
),
member as materialized (
    select * from impact_deliveries where batch_id = $1 or id = any($2::uuid[]) order by id for no key update skip locked
),
looked as materialized (
    select m.*,
           m.status in ('pending', 'retrying') as unfinished,
           m.token is not distinct from $7::uuid as repeated,
           coalesce(m.uncertain_since, case when m.lease_owner is not null then m.lease_started_at end) as unsure_since
    from member m
),
judged as materialized (
    select case
               when count(*) < (select count(*) from impact_deliveries where batch_id = $1 or id = any($2::uuid[]))
                   then 'busy'
               -- Somebody has dissolved it, or its members were answered meanwhile.
               when bool_or(l.batch_id is distinct from $1) then 'dissolved'
               when bool_or(l.lease_until > now() and not l.repeated and not (l.lease_owner = $8 and l.lease_epoch < $9))
                   then 'leased'
               when not bool_or(l.unfinished) then 'dissolved'
               when min(coalesce(l.next_attempt_at, '-infinity')) filter (where l.unfinished) > now() then 'not_yet'
               when min(l.unsure_since) is null and bool_or(
                   l.status = 'failed' and coalesce(l.outcome, 'cancelled') = 'cancelled'
                   or c.id is null or l.payload_hash is distinct from c.payload_hash
                   or (l.organization_id, l.generation) is distinct from (c.organization_id, c.generation)
               ) then 'dissolved'
               when bool_or(c.id is null or l.payload_hash is distinct from c.payload_hash) then 'content_changed'
               when min(l.unsure_since) < now() - make_interval(secs => $11) then 'key_forgotten'
               else 'go'
           end as verdict,
           extract(epoch from max(l.lease_until) - now())::float8 as lease_remaining,
           extract(epoch from min(l.next_attempt_at) filter (where l.unfinished) - now())::float8 as due_in
    from looked l
    left join claim c on c.id = l.id
),
begun as (
    update impact_deliveries d
    set attempts = d.attempts + case when j.verdict = 'go' then 1 else 0 end,
        -- A lease that was never given back: that attempt's fate is unknown, and it counts.
        counted = d.counted + case when l.lease_owner is null then 0 else 1 end,
        uncertain_since = case when d.status = 'delivered' then d.uncertain_since else l.unsure_since end,
        lease_owner = $8, lease_epoch = $9, lease_started_at = now(), lease_until = now() + make_interval(secs => $10),
        idempotency_key = case when j.verdict = 'go' then $6::text else d.idempotency_key end,
        published_hop = case when l.unfinished then d.hop else d.published_hop end,
        blocked = false, token = $7, updated_at = now()
    from looked l, judged j
    where d.id = l.id and j.verdict in ('go', 'content_changed', 'key_forgotten') and not l.repeated
),
freed as (
    update impact_deliveries d
    set batch_id = null, hop = d.hop + 1, blocked = false, published_at = now(), publish_delay = 0, token = $7,
        updated_at = now()
    from looked l, judged j
    where d.id = l.id and j.verdict = 'dissolved' and l.unfinished and l.batch_id = $1
),
waiting as (
    update impact_deliveries d
    set blocked = true, published_hop = d.hop, token = $7, updated_at = now()
    from looked l, judged j
    where d.id = l.id and j.verdict = 'not_yet' and j.due_in > 1 and l.unfinished and not l.repeated
),
lost as (
    insert into delivery_attempts
        (delivery_id, attempt, started_at, outcome, counted, payload_hash, idempotency_key, batch_id)
    select l.id, l.attempts, l.lease_started_at, 'unknown_outcome', true, l.payload_hash, l.idempotency_key, $1
    from looked l, judged j
    where j.verdict in ('go', 'content_changed', 'key_forgotten') and l.lease_owner is not null and not l.repeated
        and l.attempts > 0
    on conflict (delivery_id, attempt) do nothing
)
select l.id, l.event_id, l.company_id, l.platform, l.traceparent, l.first_failed_at, l.attempts, l.replays, j.verdict,
       l.hop + case when l.batch_id is null then 0 else 1 end as hop,
       -- Freed now, or by this very call before its reply was lost.
       l.unfinished and (l.batch_id = $1 or l.batch_id is null and l.repeated) as is_freed,
       case j.verdict when 'leased' then j.lease_remaining when 'not_yet' then j.due_in end as remaining,
       l.attempts + case when j.verdict = 'go' and not l.repeated then 1 else 0 end as attempt,
       l.counted + case when l.lease_owner is not null and not l.repeated then 1 else 0 end as counted,
       case when l.repeated then l.uncertain_since else l.unsure_since end is not null as uncertain,
       extract(epoch from now() - l.first_failed_at)::float8 as failing_for,
       extract(epoch from l.deadline_at - now() + case when l.deadline_at is null then null else (
           select coalesce(sum(upper(held) - lower(held)), interval '0')
           from unnest((
               select range_agg(tstzrange(h.held_from, h.held_until) * tstzrange(l.first_failed_at, now()))
               from platform_holds h
               where h.platform = l.platform and h.held_until > l.first_failed_at
                 and (h.organization_id is null or h.organization_id = l.organization_id)
           )) as held
       ) end)::float8 as to_deadline
from looked l, judged j
order by l.id
