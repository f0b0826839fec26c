-- The unfinished deliveries of these events, as they stand, to be published again.
select d.id, d.event_id, d.company_id, d.platform, d.hop, d.attempts, d.replays, d.traceparent, d.first_failed_at,
       e.body, e.topic, e."partition", e."offset"
from impact_deliveries d
join impact_events e on e.id = d.event_id
where d.event_id = any($1::uuid[]) and d.status in ('pending', 'retrying') and e.body is not null
order by d.seq
