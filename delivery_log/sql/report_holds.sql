insert into platform_holds (id, platform, organization_id, reason, owner, held_from, held_until)
select h.id, h.platform, h.organization_id, h.reason, $6, now() - make_interval(secs => h.age), now()
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[]) as h (id, platform, organization_id, reason, age)
on conflict (id) do update set held_until = excluded.held_until
