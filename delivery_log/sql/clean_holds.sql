-- Holds that are over, and that no deadline needs: begin takes off the time since a delivery's first failure.
with turn as materialized (
    select pg_try_advisory_xact_lock(hashtext('impact-in holds')) as mine
),
failing as materialized (
    select platform, min(first_failed_at) as since
    from impact_deliveries
    where status in ('pending', 'retrying') and first_failed_at is not null and (select mine from turn)
    group by platform
)
delete from platform_holds h
where (select mine from turn) and h.held_until < now() - interval '1 hour'
  and not exists (select from failing f where f.platform = h.platform and f.since < h.held_until)
returning 1
