-- Creates or changes where companies' numbers go. Rows in key order, deliveries in id order.
with given as materialized (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[])
        as g (company_id, platform, organization_id, enabled)
),
entered as (
    insert into company_platforms as c (company_id, platform, organization_id, enabled)
    select company_id, platform, organization_id, enabled from given order by company_id, platform
    on conflict (company_id, platform) do update
    -- Also where nothing changes: whoever sets it wants it tried again (a 403 holds it until then).
    set organization_id = excluded.organization_id, enabled = excluded.enabled, updated_at = now()
),
due as materialized (
    select d.id
    from given g
    join impact_deliveries d on d.company_id = g.company_id and d.platform = g.platform
    where d.status in ('pending', 'retrying') and d.error_code = 'ORG_FORBIDDEN' and d.lease_owner is null
      and d.next_attempt_at > now()
    order by d.id
    for no key update of d
),
waiting as materialized (
    select d.id, g.organization_id
    from given g
    join impact_deliveries d on d.company_id = g.company_id and d.platform = g.platform
    where d.status in ('pending', 'retrying') and d.organization_id <> g.organization_id
      -- Where an attempt may have had its effect, the same content has to go again. A lease that is over but was never
      -- given back is such an attempt: its owner stays in the row.
      and d.uncertain_since is null and d.lease_owner is null
    order by d.id
    for no key update of d
)
update impact_deliveries d
set organization_id = coalesce((select w.organization_id from waiting w where w.id = d.id), d.organization_id),
    next_attempt_at = case when d.id in (select id from due) then now() else d.next_attempt_at end,
    updated_at = now()
where d.id in (select id from waiting union select id from due)
