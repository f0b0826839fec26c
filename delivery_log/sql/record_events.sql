-- Events and the deliveries that their companies' platforms ask for, in one statement.
-- Ids are unique within a call. An event that is there already, from before or from a call that committed meanwhile,
-- gets nothing; `is_new` and `known_hash` both empty means that it was committed after this statement's snapshot.
with arrival as materialized (
    select * from unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::integer[], $9::bigint[]
    ) with ordinality
        as a (id, company_id, content_hash, body, traceparent, trace_id, topic, "partition", "offset", ord)
),
wish as materialized (
    select * from unnest($10::bigint[], $11::text[], $12::uuid[]) as w (ord, platform, delivery_id)
),
route as materialized (
    select a.ord, a.id as event_id, a.company_id, a.content_hash, a.traceparent, a.trace_id,
           w.delivery_id, w.platform, p.organization_id
    from arrival a
    join wish w using (ord)
    join company_platforms p on p.company_id = a.company_id and p.platform = w.platform and p.enabled
    -- Whoever changes a route meanwhile waits for these rows, and then changes them too.
    for share of p
),
inserted as (
    insert into impact_events
        (id, content_hash, company_id, body, disposition, reason, topic, "partition", "offset", traceparent, trace_id)
    select a.id, a.content_hash, a.company_id, a.body,
           case when r.ord is null then 'unrouted' else 'accepted' end,
           case
               when r.ord is not null then null
               when exists (select from company_platforms p where p.company_id = a.company_id and p.enabled)
                   then 'not_applicable'
               else 'unknown_company'
           end,
           a.topic, a."partition", a."offset", a.traceparent, a.trace_id
    from arrival a
    left join (select distinct ord from route) r using (ord)
    order by a.ord
    on conflict (id) do nothing
    returning id, disposition, reason
),
delivery as (
    insert into impact_deliveries
        (id, event_id, company_id, platform, organization_id, content_hash, status, traceparent, trace_id, seq)
    -- nextval outside the sorted subquery: seq grows in the order of the arrivals.
    select s.delivery_id, s.event_id, s.company_id, s.platform, s.organization_id, s.content_hash, 'pending',
           s.traceparent, s.trace_id, nextval('impact_delivery_seq')
    from (select r.* from route r join inserted i on i.id = r.event_id order by r.ord, r.platform) s
    returning event_id, platform, seq
)
select i.id is not null as is_new, i.disposition, coalesce(i.reason, e.reason) as reason,
       e.content_hash as known_hash, e.topic, e."partition", e."offset", d.platforms
from arrival a
left join inserted i on i.id = a.id
left join impact_events e on e.id = a.id
left join (select event_id, array_agg(platform order by seq) as platforms from delivery group by event_id) d
    on d.event_id = a.id
order by a.ord
