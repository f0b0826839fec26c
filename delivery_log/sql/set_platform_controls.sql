-- null: as the platform itself has it.
with given as (
    select * from unnest($1::text[], $2::text[], $3::text[]) as g (platform, name, value)
),
removed as (
    delete from platform_settings s using given g where s.platform = g.platform and s.name = g.name and g.value is null
)
insert into platform_settings (platform, name, value)
select platform, name, value::jsonb from given where value is not null
on conflict (platform, name) do update set value = excluded.value, updated_at = now()
