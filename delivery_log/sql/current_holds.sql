-- Those that somebody has renewed within the last $1 seconds.
select platform, organization_id, reason, owner, extract(epoch from now() - held_from)::float8 as age
from platform_holds
where held_until > now() - make_interval(secs => $1)
order by platform, reason, organization_id
