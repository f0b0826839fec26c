-- These records are acked, and their rows wait here: for an elder sibling's end, or for their time. A row that shall wait
-- behind an organization ($4, '' for none) which is no longer its own is left as it is, and returned.
with waiting as materialized (
    select * from unnest($1::uuid[], $2::integer[], $3::float8[], $4::text[]) as w (id, hop, delay, organization_id)
),
moved as materialized (
    select d.id, d.organization_id, d.generation
    from waiting w
    join impact_deliveries d on d.id = w.id
    where d.hop = w.hop and d.status in ('pending', 'retrying') and (d.lease_until is null or d.lease_until <= now())
      and w.organization_id not in ('', d.organization_id)
),
parked as (
    update impact_deliveries d
    set blocked = true, published_hop = d.hop, updated_at = now(),
        next_attempt_at = case
            when w.delay > 0 then greatest(d.next_attempt_at, now() + make_interval(secs => case
                -- An operator has just touched it, and not every worker has heard of that.
                when exists (
                    select from company_platforms c
                    where w.organization_id <> '' and c.company_id = d.company_id and c.platform = d.platform
                      and c.updated_at > now() - interval '5 seconds'
                ) then least(w.delay, 1.0)
                else w.delay end))
            else d.next_attempt_at end,
        error_code = case when w.organization_id = '' then d.error_code else 'ORG_FORBIDDEN' end
    from waiting w
    where d.id = w.id and d.hop = w.hop and d.status in ('pending', 'retrying')
      and (d.lease_until is null or d.lease_until <= now())
      and w.organization_id in ('', d.organization_id)
)
select id, organization_id, generation from moved
