-- One delivery with its attempts and status events, in one snapshot. A batch's status belongs to each of its members.
select d.id, d.event_id, d.company_id, d.platform, d.organization_id, d.payload_hash, d.status, d.outcome, d.mocked,
       d.retries, d.replays, d.error_code, d.error_msg, d.transaction_id, d.idempotency_key, d.platform_status,
       d.next_attempt_at, d.delivered_at, d.created_at, d.updated_at, d.trace_id,
       (
           select coalesce(jsonb_agg(to_jsonb(a) order by a.attempt), '[]')
           from (
               select attempt, started_at, duration_ms, http_status, outcome, counted,
                      error_code, error_msg as error_message, transaction_id
               from delivery_attempts
               where delivery_id = d.id
           ) a
       ) as attempts_made,
       (
           select coalesce(jsonb_agg(to_jsonb(s) - 'id' order by s.occurred_at, s.received_at, s.id), '[]')
           from (
               select id, event_type, platform_status, transaction_id, error_msg as error_message,
                      occurred_at, received_at
               from status_events
               where delivery_id = d.id
               union
               select id, event_type, platform_status, transaction_id, error_msg, occurred_at, received_at
               from status_events
               where platform = d.platform and transaction_id = d.transaction_id
           ) s
       ) as statuses
from impact_deliveries d
where d.id = $1
