insert into reader_progress (topic, "partition", read_up_to, updated_at)
select p.topic, p."partition", now() - make_interval(secs => p.age), now()
from unnest($1::text[], $2::integer[], $3::float8[]) as p (topic, "partition", age)
on conflict (topic, "partition") do update set read_up_to = excluded.read_up_to, updated_at = excluded.updated_at
