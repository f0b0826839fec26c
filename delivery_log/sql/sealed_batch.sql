-- All members of a batch, finished ones too, in the order in which they are sent.
select d.id, d.event_id, d.company_id, d.platform, d.hop, d.attempts, d.replays, d.traceparent, d.first_failed_at,
       d.organization_id, d.generation, e.body, e.topic, e."partition", e."offset"
from impact_deliveries d
join impact_events e on e.id = d.event_id
where d.batch_id = $1 and e.body is not null
order by d.id
