-- Rows that no longer move. $4 ordered platforms, $5 grace s, $6 limit, $7 token.
-- One sweeper at a time; another that tries meanwhile finds nothing to do. What a turn looks at is bounded, and begins
-- at a company drawn by lot, so that a backlog of any size costs a turn the same and nobody is left out for long.
with recursive turn as materialized (
    select pg_try_advisory_xact_lock(hashtext('impact-in sweeper')) as mine, gen_random_uuid() as lot
),
read_up_to as materialized (
    select * from unnest($1::text[], $2::float8[], $3::float8[]) as r (platform, delay, age)
),
named as materialized (
    select distinct platform, platform = any($4::text[]) as ordered from read_up_to
),
-- Keyed platforms: only a company's eldest can move, so only it is looked at. One step of the index a company.
head as (
    select n.platform, first.company_id, first.id, first.wrapped, 1 as step
    from named n
    cross join turn t
    cross join lateral (
        select * from (
            (select d.company_id, d.id, false as wrapped from impact_deliveries d
             where d.status in ('pending', 'retrying') and d.platform = n.platform and d.company_id >= t.lot
             order by d.company_id, d.seq limit 1)
            union all
            (select d.company_id, d.id, true from impact_deliveries d
             where d.status in ('pending', 'retrying') and d.platform = n.platform and d.company_id < t.lot
             order by d.company_id, d.seq limit 1)
        ) either order by wrapped limit 1
    ) first
    where n.ordered
    union all
    select h.platform, next.company_id, next.id, next.wrapped, h.step + 1
    from head h
    cross join turn t
    cross join lateral (
        select * from (
            (select d.company_id, d.id, h.wrapped as wrapped from impact_deliveries d
             where d.status in ('pending', 'retrying') and d.platform = h.platform and d.company_id > h.company_id
               and (not h.wrapped or d.company_id < t.lot)
             order by d.company_id, d.seq limit 1)
            union all
            (select d.company_id, d.id, true from impact_deliveries d
             where d.status in ('pending', 'retrying') and d.platform = h.platform and not h.wrapped
               and d.company_id < t.lot
             order by d.company_id, d.seq limit 1)
        ) either order by wrapped limit 1
    ) next
    where h.step < 10000
),
-- Additive platforms: any row can move.
loose as (
    select drawn.id, row_number() over (partition by n.platform, drawn.company_id order by drawn.seq) as place
    from named n
    cross join turn t
    cross join lateral (
        (select d.id, d.company_id, d.seq from impact_deliveries d
         where d.status in ('pending', 'retrying') and d.platform = n.platform and d.company_id >= t.lot
         order by d.company_id, d.seq limit 10000)
        union all
        (select d.id, d.company_id, d.seq from impact_deliveries d
         where d.status in ('pending', 'retrying') and d.platform = n.platform and d.company_id < t.lot
         order by d.company_id, d.seq limit 10000)
    ) drawn
    where not n.ordered
),
idle as materialized (
    select d.id,
           case
               when d.lease_owner is not null then 'lease_ended'
               when d.published_hop < d.hop and d.published_at < now() - make_interval(secs => $5 + d.publish_delay)
                   then 'unpublished'
               when d.blocked and (
                   d.platform = any($4::text[]) or d.next_attempt_at >= d.updated_at
                   -- Parked without a time, where order does not matter: whoever parked it wakes it as there is room.
                   -- Where that was lost, a company's eldest are found here, so that a backlog does not go in circles.
                   or d.updated_at < now() - interval '30 seconds' and turned_up.place <= 500
               ) then 'woken'
               when d.blocked then null
               when d.published_hop = d.hop and exists (
                   select from read_up_to r
                   where r.platform = d.platform and r.delay = d.publish_delay
                     and d.published_at < now() - make_interval(secs => r.age)
               ) then 'missing'
               -- A delay that no retry topic has any more: nobody reads where its record was put.
               when d.published_hop = d.hop and d.publish_delay > 0
                   and coalesce(d.next_attempt_at, d.published_at) < now() - make_interval(secs => $5)
                   and not exists (
                       select from read_up_to r where r.platform = d.platform and r.delay = d.publish_delay
                   ) then 'missing'
           end as reason
    from (select id, 1 as place from head union all select id, place from loose) turned_up
    join impact_deliveries d on d.id = turned_up.id
    where d.status in ('pending', 'retrying')
      and (d.lease_until is null or d.lease_until <= now())
      and (d.next_attempt_at is null or d.next_attempt_at <= now())
    union all
    select d.id, 'unannounced'
    from impact_deliveries d
    where d.unannounced and d.published_at < now() - make_interval(secs => $5)
      and d.platform in (select platform from named)
),
chosen as materialized (
    select d.id, i.reason
    from idle i
    join impact_deliveries d on d.id = i.id
    where i.reason is not null and (select mine from turn)
    order by d.seq
    limit $6
    for no key update of d skip locked
)
update impact_deliveries d
set hop = d.hop + 1, blocked = false, published_at = now(), publish_delay = 0, token = $7, updated_at = now()
from chosen c
where d.id = c.id
  and (c.reason = 'unannounced' and d.unannounced
       or d.status in ('pending', 'retrying') and (d.lease_until is null or d.lease_until <= now()))
returning d.id, d.event_id, d.company_id, d.platform, d.hop, d.attempts, d.replays, d.traceparent, d.first_failed_at,
          d.seq, c.reason, d.error_code, d.error_msg,
          (select a.outcome from delivery_attempts a where a.delivery_id = d.id order by a.attempt desc limit 1)
              as last_outcome
