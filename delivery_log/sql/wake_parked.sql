-- So many ($3) of each company's eldest rows that wait in the ledger and are due. $4 token.
with chosen as materialized (
    select parked.id
    from unnest($2::uuid[], $3::integer[]) as c (company_id, most)
    cross join lateral (
        select d.id
        from impact_deliveries d
        where d.platform = $1 and d.company_id = c.company_id and d.status in ('pending', 'retrying') and d.blocked
          and (d.next_attempt_at is null or d.next_attempt_at <= now())
          and (d.lease_until is null or d.lease_until <= now())
        order by d.seq
        limit c.most
        for no key update skip locked
    ) parked
)
update impact_deliveries d
set blocked = false, hop = d.hop + 1, published_at = now(), publish_delay = 0, token = $4, updated_at = now()
from chosen c
where d.id = c.id
returning d.id, d.event_id, d.company_id, d.platform, d.hop, d.attempts, d.replays, d.traceparent, d.first_failed_at,
          d.seq
