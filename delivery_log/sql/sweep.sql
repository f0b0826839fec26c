-- Rows that no longer move. $4 ordered platforms, $5 grace s, $6 limit, $7 token.
-- One sweeper at a time; another that tries meanwhile finds nothing to do.
with turn as materialized (
    select pg_try_advisory_xact_lock(hashtext('impact-in sweeper')) as mine
),
read_up_to as materialized (
    select * from unnest($1::text[], $2::float8[], $3::float8[]) as r (platform, delay, age)
),
idle as materialized (
    select d.id, d.platform, d.company_id, d.seq,
           case
               when d.lease_owner is not null then 'lease_ended'
               when d.published_hop < d.hop and d.published_at < now() - make_interval(secs => $5 + d.publish_delay)
                   then 'unpublished'
               when d.blocked then 'woken'
               when d.published_hop = d.hop and exists (
                   select from read_up_to r
                   where r.platform = d.platform and r.delay = d.publish_delay
                     and d.published_at < now() - make_interval(secs => r.age)
               ) then 'missing'
           end as reason
    from impact_deliveries d
    where d.status in ('pending', 'retrying')
      and d.platform in (select platform from read_up_to)
      and (d.lease_until is null or d.lease_until <= now())
      and (d.next_attempt_at is null or d.next_attempt_at <= now())
      and not (
          d.platform = any($4::text[]) and exists (
              select from impact_deliveries elder
              where elder.platform = d.platform and elder.company_id = d.company_id
                and elder.seq < d.seq and elder.status in ('pending', 'retrying')
          )
      )
),
chosen as materialized (
    select d.id, i.reason
    from idle i
    join impact_deliveries d on d.id = i.id
    where i.reason is not null and (select mine from turn)
    order by d.seq
    limit $6
    for no key update of d skip locked
),
swept as (
    update impact_deliveries d
    set hop = d.hop + 1, blocked = false, published_at = now(), publish_delay = 0, token = $7, updated_at = now()
    from chosen c
    where d.id = c.id and d.status in ('pending', 'retrying') and (d.lease_until is null or d.lease_until <= now())
    returning d.id, d.event_id, d.company_id, d.platform, d.hop, d.attempts, d.replays, d.traceparent, d.seq, c.reason
)
select s.*, e.body, e.topic, e."partition", e."offset"
from swept s
join impact_events e on e.id = s.event_id
where e.body is not null
order by s.seq
