-- Those that somebody has renewed within the last $1 seconds, and the known ones ($2) whatever became of them.
select id, platform, organization_id, reason, owner, extract(epoch from now() - held_from)::float8 as age,
       coalesce(extract(epoch from next_probe_at - now()), 0)::float8 as next_probe, probe_wait as wait,
       greatest(coalesce(extract(epoch from probing_until - now()), 0), 0)::float8 as probing, prober,
       released_at is not null as released, credential
from platform_holds
where held_until > now() - make_interval(secs => $1) and released_at is null or id = any($2::uuid[])
order by platform, reason, organization_id, id
