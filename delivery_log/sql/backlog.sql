-- What waits. $1: seconds after which an acceptance should have been confirmed; $2: no more than so many are counted.
with unfinished as (
    select platform, count(*) filter (where status = 'retrying') as retrying,
           min(published_at) filter (where published_hop < hop) as unpublished_since
    from impact_deliveries
    where status in ('pending', 'retrying')
    group by platform
),
unconfirmed as (
    select p.platform, (
        select count(*) from (
            select from impact_deliveries d
            where d.platform = p.platform and d.status = 'delivered' and not d.mocked
              and (d.platform_status is null or d.platform_status = 'received')
              and d.delivered_at < now() - make_interval(secs => $1)
            limit $2
        ) late
    ) as number
    from (select distinct platform from company_platforms) p
),
dead as (
    select min(published_at) as unpublished_since from impact_deliveries where unannounced
)
select p.platform, coalesce(f.retrying, 0)::integer as retrying, coalesce(c.number, 0)::integer as unconfirmed,
       greatest(extract(epoch from now() - least(f.unpublished_since, (select unpublished_since from dead))), 0)::float8
           as unpublished_for
from (select platform from unfinished union select platform from unconfirmed) p
left join unfinished f on f.platform = p.platform
left join unconfirmed c on c.platform = p.platform
