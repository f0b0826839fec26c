-- Writes what attempts ended with. $15 token, $16 owner, $17 epoch, $18 deadline s, $19 ordered. $20 to $23 batches.
-- An acceptance is written whichever attempt it belongs to; all else only where the attempt is the row's last and the
-- lease is ours. Returns a row a result (kind 'finished'; 'busy': somebody has the row locked, ask again), then the
-- siblings woken (kind 'woken'), without bodies: an answer stays small, so that no stopped client holds locks by it.
with result as materialized (
    select * from unnest(
        $1::uuid[], $2::integer[], $3::text[], $4::boolean[], $5::text[], $6::float8[], $7::boolean[],
        $8::timestamptz[], $9::float8[], $10::integer[], $11::text[], $12::text[], $13::text[], $14::boolean[],
        $20::uuid[], $21::boolean[], $22::integer[], $23::boolean[]
    ) with ordinality
        as r (id, attempt, attempt_outcome, counts, what_next, delay, fate_known,
              started_at, duration_ms, http_status, error_code, error_msg, transaction_id, mocked,
              batch_id, leaves, batch_limit, settles, ord)
),
locked as materialized (
    select * from impact_deliveries where id = any($1::uuid[]) order by id for no key update skip locked
),
-- A batch is written whole or not at all: half of it would be another batch under the same key.
torn as materialized (
    select distinct r.batch_id
    from result r
    where r.batch_id is not null and not exists (select from locked l where l.id = r.id)
      and exists (select from impact_deliveries d where d.id = r.id)
),
judged as materialized (
    select r.*, d.company_id, d.platform, d.status, d.outcome, d.hop, d.payload_hash, d.idempotency_key,
           d.token is not distinct from $15::uuid as repeated,
           d.attempts = r.attempt and d.lease_owner = $16 and d.lease_epoch = $17 as ours,
           case
               -- What a platform rejected afterwards stays rejected: only a replay changes that.
               when r.what_next = 'delivered' then d.status <> 'delivered' and d.outcome is distinct from 'rejected'
               else d.attempts = r.attempt and d.lease_owner = $16 and d.lease_epoch = $17
                   and d.status in ('pending', 'retrying')
           end as applies
    from result r
    join locked d on d.id = r.id
    where r.batch_id is null or r.batch_id not in (select t.batch_id from torn t)
),
changed as (
    update impact_deliveries d
    set status = case
            when not j.applies then d.status
            when j.what_next = 'delivered' then 'delivered'
            when j.what_next = 'later' then 'retrying'
            else 'failed' end,
        outcome = case
            when not j.applies then d.outcome
            when j.what_next = 'delivered' then 'delivered'
            when j.what_next = 'later' then null
            else 'dead' end,
        -- Who goes on in a smaller batch is looked for, not retried.
        retries = d.retries + case when j.applies and j.what_next = 'later' and j.batch_limit is null then 1 else 0 end,
        counted = d.counted + case when j.ours and j.counts then 1 else 0 end,
        -- Later, and dead too, there shall be a record: on a retry topic, on the dead-letter topic.
        hop = d.hop + case when j.applies and j.what_next <> 'delivered' then 1 else 0 end,
        unannounced = case when j.applies then j.what_next = 'dead' else d.unannounced end,
        published_at = case when j.applies and j.what_next <> 'delivered' then now() else d.published_at end,
        publish_delay = case when j.applies and j.what_next = 'later' then j.delay else d.publish_delay end,
        next_attempt_at = case
            when j.applies and j.what_next = 'later' then now() + make_interval(secs => j.delay)
            when j.applies then null else d.next_attempt_at end,
        delivered_at = case when j.applies and j.what_next = 'delivered' then now() else d.delivered_at end,
        mocked = case when j.applies and j.what_next = 'delivered' then j.mocked else d.mocked end,
        error_code = case when j.applies then j.error_code else d.error_code end,
        error_msg = case when j.applies then j.error_msg else d.error_msg end,
        transaction_id = case when j.applies then coalesce(j.transaction_id, d.transaction_id) else d.transaction_id end,
        -- What was said of an earlier transaction is not said of this one.
        platform_status = case
            when j.applies and j.transaction_id is distinct from d.transaction_id and j.transaction_id is not null
                then null else d.platform_status end,
        platform_status_contradicted = d.platform_status_contradicted and not (
            j.applies and j.transaction_id is distinct from d.transaction_id and j.transaction_id is not null),
        first_failed_at = case
            when j.ours and j.counts and j.what_next <> 'delivered' then coalesce(d.first_failed_at, now())
            else d.first_failed_at end,
        last_failed_at = case when j.ours and j.what_next <> 'delivered' then now() else d.last_failed_at end,
        deadline_at = case
            when j.ours and j.counts and j.what_next <> 'delivered'
                then coalesce(d.deadline_at, now() + make_interval(secs => $18))
            else d.deadline_at end,
        uncertain_since = case
            when j.applies and (j.what_next = 'delivered' or j.settles) then null
            when j.fate_known then d.uncertain_since
            else coalesce(d.uncertain_since, d.lease_started_at, now()) end,
        batch_id = case when j.applies and j.leaves then null else d.batch_id end,
        batch_limit = case when j.applies then least(d.batch_limit, j.batch_limit) else d.batch_limit end,
        lease_owner = null, lease_epoch = null, lease_started_at = null, lease_until = null,
        token = $15, updated_at = now()
    from judged j
    where d.id = j.id and (j.applies or j.ours) and not j.repeated
),
written as (
    insert into delivery_attempts as a (delivery_id, attempt, started_at, duration_ms, http_status, outcome, counted,
        error_code, error_msg, transaction_id, payload_hash, idempotency_key, batch_id)
    select j.id, j.attempt, coalesce(j.started_at, now()), j.duration_ms, j.http_status, j.attempt_outcome, j.counts,
           j.error_code, j.error_msg, j.transaction_id, j.payload_hash, j.idempotency_key, j.batch_id
    from judged j
    where j.attempt > 0
    -- An answer after "unknown outcome" adds what it says and lifts nothing, an acceptance neither: the next attempt was
    -- begun without it, and a second request shall be told from one for no reason. "unknown outcome" replaces nothing.
    on conflict (delivery_id, attempt) do update
    set duration_ms = excluded.duration_ms, http_status = excluded.http_status,
        error_code = excluded.error_code, error_msg = excluded.error_msg, transaction_id = excluded.transaction_id,
        outcome = case when a.outcome = 'unknown_outcome' then a.outcome else excluded.outcome end,
        counted = case when a.outcome = 'unknown_outcome' then a.counted else excluded.counted end
    where excluded.outcome <> 'unknown_outcome'
),
candidate as materialized (
    select sibling.id
    from (
        select distinct platform, company_id from judged
        where $19 and applies and what_next <> 'later' and not repeated
    ) ended
    cross join lateral (
        select s.id, s.blocked
        from impact_deliveries s
        where s.platform = ended.platform and s.company_id = ended.company_id
          and s.status in ('pending', 'retrying') and s.id <> all ($1::uuid[])
        order by s.seq
        limit 8
        -- Who is locked is being decided on elsewhere; the sweeper looks after it should that be lost.
        for no key update skip locked
    ) sibling
    where sibling.blocked
),
woken as (
    update impact_deliveries d
    set blocked = false, hop = d.hop + 1, published_at = now(), publish_delay = 0, token = $15, updated_at = now()
    from candidate c
    where d.id = c.id
    returning d.id, d.event_id, d.company_id, d.platform, d.hop, d.attempts, d.replays, d.traceparent,
              d.first_failed_at, d.seq
)
select 'finished' as kind, j.ord, null::bigint as seq, j.id, null::uuid as event_id, j.company_id, j.platform,
       j.hop + case when j.applies and j.what_next <> 'delivered' and not j.repeated then 1 else 0 end as hop,
       null::integer as attempts, null::integer as replays, null::text as traceparent,
       null::timestamptz as first_failed_at,
       -- A repeated call finds what it had written.
       (j.applies or j.repeated) as applied,
       case
           when j.repeated or not j.applies then j.status
           when j.what_next = 'delivered' then 'delivered'
           when j.what_next = 'later' then 'retrying'
           else 'failed' end as status,
       case
           when j.repeated or not j.applies then j.outcome
           when j.what_next = 'delivered' then 'delivered'
           when j.what_next = 'later' then null
           else 'dead' end as outcome
from judged j
union all
select 'busy', r.ord, null, r.id, null, null, null, null, null, null, null, null, null, null, null
from result r
where r.batch_id in (select t.batch_id from torn t)
   or not exists (select from locked l where l.id = r.id) and exists (select from impact_deliveries d where d.id = r.id)
union all
select 'woken', null, w.seq, w.id, w.event_id, w.company_id, w.platform, w.hop, w.attempts, w.replays, w.traceparent,
       w.first_failed_at, null, null, null
from woken w
order by kind, ord, seq
