-- Leases what may go. $9 token, $10 owner, $11 epoch, $12 lease s, $13 ordered, $14 key memory s.
-- Claims of one batch that may go are sealed in it, where there are two of them at least.
-- A row that somebody else has locked is not waited for: it would hold up all others of the call.
with claim as materialized (
    select * from unnest(
        $1::uuid[], $2::integer[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::text[],
        $15::uuid[], $16::text[]
    ) with ordinality
        as c (id, hop, content_hash, organization_id, generation, payload_hash, payload_sample, idempotency_key,
              batch_id, batch_key, ord)
),
locked as materialized (
    select * from impact_deliveries where id = any($1::uuid[]) order by id for no key update skip locked
),
looked as materialized (
    select c.ord, c.id, d.platform, c.payload_hash, c.payload_sample, c.idempotency_key, c.batch_id, c.batch_key,
           d.batch_id as row_batch_id,
           -- What may have had its effect alone goes again alone, under its own key.
           case when d.uncertain_since is not null or d.lease_owner is not null then 1 else d.batch_limit end as most,
           d.attempts, d.counted, d.replays, d.first_failed_at, d.deadline_at, d.uncertain_since,
           d.lease_owner, d.lease_started_at, d.lease_until, d.next_attempt_at,
           d.organization_id as current_organization_id, d.generation as current_generation,
           d.payload_hash as last_payload_hash, d.idempotency_key as last_idempotency_key,
           -- This very call, repeated because its reply was lost.
           d.token is not distinct from $9::uuid as repeated,
           case
               when d.id is null and exists (select from impact_deliveries busy where busy.id = c.id) then 'busy'
               when d.id is null then 'unknown'
               when d.content_hash <> c.content_hash then 'mismatch'
               when d.token = $9::uuid and d.blocked
                   then case when d.next_attempt_at > now() then 'not_yet' else 'blocked' end
               when d.token = $9::uuid then 'go'
               when d.status = 'delivered' or d.outcome in ('dead', 'rejected') then 'done'
               when d.status = 'failed' then 'cancelled'
               when d.hop <> c.hop then 'stale'
               when d.lease_until > now() and not (d.lease_owner = $10 and d.lease_epoch < $11) then 'leased'
               when d.batch_id is not null then 'sealed'
               when d.next_attempt_at > now() then 'not_yet'
               when $13 and exists (
                   select from impact_deliveries elder
                   where elder.platform = d.platform and elder.company_id = d.company_id
                     and elder.seq < d.seq and elder.status in ('pending', 'retrying')
               ) then 'blocked'
               when d.organization_id <> c.organization_id or d.generation <> c.generation then 'changed'
               when (d.uncertain_since is not null or d.lease_owner is not null)
                   and d.payload_hash <> c.payload_hash then 'content_changed'
               when coalesce(d.uncertain_since, case when d.lease_owner is not null then d.lease_started_at end)
                   < now() - make_interval(secs => $14) then 'key_forgotten'
               else 'go'
           end as first_verdict
    from claim c
    left join locked d on d.id = c.id
),
judged as materialized (
    select i.*,
           case
               when i.repeated then i.row_batch_id
               when i.verdict = 'go' and i.batch_id is not null
                   and count(*) filter (where i.verdict = 'go') over (partition by i.batch_id) > 1 then i.batch_id
           end as sealed_in
    from (
        select l.*,
               case
                   when l.first_verdict = 'go' and l.batch_id is not null and not l.repeated
                       and l.most < count(*) filter (where l.first_verdict = 'go') over (partition by l.batch_id)
                       then 'limited'
                   else l.first_verdict
               end as verdict
        from looked l
    ) i
),
begun as (
    update impact_deliveries d
    set attempts = d.attempts + case when j.verdict = 'go' then 1 else 0 end,
        -- A lease that was never given back: that attempt's fate is unknown, and it counts.
        counted = d.counted + case when j.lease_owner is null then 0 else 1 end,
        uncertain_since = case
            when j.lease_owner is null then d.uncertain_since else coalesce(d.uncertain_since, d.lease_started_at) end,
        lease_owner = $10, lease_epoch = $11, lease_started_at = now(),
        lease_until = now() + make_interval(secs => $12),
        payload_hash = case when j.verdict = 'go' then j.payload_hash else d.payload_hash end,
        payload_sample = coalesce(d.payload_sample, j.payload_sample::jsonb),
        idempotency_key = case
            when j.verdict <> 'go' then d.idempotency_key
            when j.sealed_in is null then j.idempotency_key
            else j.batch_key end,
        batch_id = case when j.verdict = 'go' then j.sealed_in else d.batch_id end,
        published_hop = d.hop, blocked = false, token = $9, updated_at = now()
    from judged j
    where d.id = j.id and j.verdict in ('go', 'content_changed', 'key_forgotten') and not j.repeated
),
waiting as (
    update impact_deliveries d
    set blocked = true, published_hop = d.hop, token = $9, updated_at = now()
    from judged j
    where d.id = j.id and not j.repeated
      and (j.verdict = 'blocked' or (j.verdict = 'not_yet' and j.next_attempt_at > now() + interval '1 second'))
),
lost as (
    insert into delivery_attempts
        (delivery_id, attempt, started_at, outcome, counted, payload_hash, idempotency_key)
    select j.id, j.attempts, j.lease_started_at, 'unknown_outcome', true, j.last_payload_hash, j.last_idempotency_key
    from judged j
    where j.verdict in ('go', 'content_changed', 'key_forgotten') and j.lease_owner is not null and not j.repeated
        and j.attempts > 0
    on conflict (delivery_id, attempt) do nothing
)
select j.verdict, j.replays, j.most, j.sealed_in, j.row_batch_id, j.current_organization_id, j.current_generation,
       j.attempts + case when j.verdict = 'go' and not j.repeated then 1 else 0 end as attempt,
       j.counted + case when j.lease_owner is not null and not j.repeated then 1 else 0 end as counted,
       j.uncertain_since is not null or (j.lease_owner is not null and not j.repeated) as uncertain,
       extract(epoch from now() - j.first_failed_at)::float8 as failing_for,
       -- The clock stands still while the platform, or the organization, is held by anybody.
       extract(epoch from j.deadline_at - now() + case when j.deadline_at is null then null else (
           select coalesce(sum(upper(held) - lower(held)), interval '0')
           from unnest((
               select range_agg(tstzrange(h.held_from, h.held_until) * tstzrange(j.first_failed_at, now()))
               from platform_holds h
               where h.platform = j.platform and h.held_until > j.first_failed_at
                 and (h.organization_id is null or h.organization_id = j.current_organization_id)
           )) as held
       ) end)::float8 as to_deadline,
       extract(epoch from case j.verdict
           when 'leased' then j.lease_until when 'not_yet' then j.next_attempt_at end - now())::float8 as remaining
from judged j
order by j.ord
