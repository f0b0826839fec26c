-- These records are acked, and their rows wait here: for an elder sibling's end, or for their time.
update impact_deliveries d
set blocked = true, published_hop = d.hop, updated_at = now(),
    next_attempt_at = case
        when p.delay > 0 then greatest(d.next_attempt_at, now() + make_interval(secs => p.delay))
        else d.next_attempt_at end
from unnest($1::uuid[], $2::integer[], $3::float8[]) as p (id, hop, delay)
where d.id = p.id and d.hop = p.hop and d.status in ('pending', 'retrying')
  and (d.lease_until is null or d.lease_until <= now())
