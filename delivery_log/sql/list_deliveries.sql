-- A page, newest first, behind the row ($7, $8) where one is given. $9 rows at most.
select d.id, d.event_id, d.company_id, d.platform, d.organization_id, d.payload_hash, d.status, d.outcome, d.mocked,
       d.retries, d.replays, d.error_code, d.error_msg, d.transaction_id, d.idempotency_key, d.platform_status,
       d.next_attempt_at, d.delivered_at, d.created_at, d.updated_at, d.trace_id
from impact_deliveries d
where ($1::uuid is null or d.company_id = $1)
  and ($2::text is null or d.platform = $2)
  and ($3::text is null or d.status = $3)
  and ($4::text is null or d.error_code = $4)
  and ($5::timestamptz is null or d.created_at >= $5)
  and ($6::timestamptz is null or d.created_at < $6)
  and ($7::timestamptz is null or (d.created_at, d.id) < ($7, $8::uuid))
order by d.created_at desc, d.id desc
limit $9
