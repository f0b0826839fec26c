-- Requests to platform $1 in the last $3 seconds, those under way included; of the organizations $2, or where that is
-- null of the whole account (''). All members of a batch are one request, which its repetitions under one batch_id are
-- not: they began at another time. Older ones are counted in steps of 300 s, as younger than they are, never as older.
with request as (
    select coalesce(a.batch_id, a.delivery_id) as id, a.started_at,
           case when $2::text[] is null then '' else d.organization_id end as organization_id
    from delivery_attempts a
    join impact_deliveries d on d.id = a.delivery_id
    where a.started_at > now() - make_interval(secs => $3)
      and d.platform = $1 and ($2::text[] is null or d.organization_id = any($2::text[]))
    union
    select coalesce(d.batch_id, d.id), d.lease_started_at,
           case when $2::text[] is null then '' else d.organization_id end
    from impact_deliveries d
    where d.platform = $1 and d.status in ('pending', 'retrying')
      and d.lease_started_at > now() - make_interval(secs => $3)
      and ($2::text[] is null or d.organization_id = any($2::text[]))
),
aged as (
    -- A worker's clock may be ahead of ours.
    select organization_id, greatest(extract(epoch from now() - started_at)::float8, 0.0) as age from request
)
select organization_id, case when age < 600 then age else floor(age / 300) * 300 end as age, count(*) as number
from aged
group by 1, 2
