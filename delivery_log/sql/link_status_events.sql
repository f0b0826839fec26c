-- Joins up to $1 waiting webhooks with their deliveries, and moves those to what their whole history says.
--
-- All webhooks of a chosen transaction go together, locked in id order before the deliveries are: of two linkers the
-- one with the older snapshot then finds nothing left to do, and never judges by half a history.
with named as materialized (
    select distinct platform, transaction_id
    from (
        select e.platform, e.transaction_id
        from status_events e
        where e.linked_at is null and e.transaction_id is not null and exists (
            select from impact_deliveries d
            where d.platform = e.platform and d.transaction_id = e.transaction_id
              and d.status in ('delivered', 'failed')
        )
        order by e.received_at
        limit $1
    ) waiting
),
event as materialized (
    select e.id, e.platform, e.transaction_id
    from named n
    join status_events e on e.platform = n.platform and e.transaction_id = n.transaction_id
    where e.linked_at is null
    order by e.id
    for no key update of e
),
member as materialized (
    select d.id, d.platform, d.transaction_id, d.batch_id
    from (select distinct platform, transaction_id from event) t
    join impact_deliveries d on d.platform = t.platform and d.transaction_id = t.transaction_id
    where d.status in ('delivered', 'failed')
    order by d.id
    for no key update of d
),
-- All that was ever said of each member, known webhooks and new ones.
history as materialized (
    select m.id as delivery_id, m.batch_id, h.id, h.activity_id, h.platform_status, h.error_msg, h.occurred_at,
           h.linked_at is null as waiting,
           coalesce(bool_or(h.platform_status = 'confirmed') over subject
               and bool_or(h.platform_status = 'rejected') over subject, false) as contradicted
    from member m
    join status_events h on h.platform = m.platform and h.transaction_id = m.transaction_id
    window subject as (partition by m.id, h.activity_id)
),
-- What each subject (Workday: an activity; else the transaction) is in the end: received only where there is nothing
-- else, then the later time, a tie rejects.
last_word as (
    select distinct on (delivery_id, activity_id) *
    from history
    order by delivery_id, activity_id,
        case when platform_status is null then 2 when platform_status = 'received' then 1 else 0 end,
        occurred_at desc, platform_status = 'rejected' desc, id desc
),
-- Any rejected subject rejects, any confirmed one else confirms. One row a member.
judged as materialized (
    select distinct on (delivery_id) delivery_id, platform_status, error_msg,
           bool_or(contradicted) over (partition by delivery_id) as contradicted
    from last_word
    order by delivery_id,
        case platform_status when 'rejected' then 0 when 'confirmed' then 1 when 'received' then 2 else 3 end,
        occurred_at desc, id desc
),
moved as (
    update impact_deliveries d
    set platform_status = j.platform_status,
        platform_status_contradicted = j.contradicted,
        -- Between delivered and rejected the platform decides; dead and cancelled are not its to change.
        status = case when d.status = 'delivered' or d.outcome = 'rejected'
            then case when j.platform_status = 'rejected' then 'failed' else 'delivered' end else d.status end,
        outcome = case when d.status = 'delivered' or d.outcome = 'rejected'
            then case when j.platform_status = 'rejected' then 'rejected' else 'delivered' end else d.outcome end,
        error_code = case when d.status = 'delivered' or d.outcome = 'rejected'
            then case when j.platform_status = 'rejected' then 'PLATFORM_REJECTED' end else d.error_code end,
        error_msg = case when d.status = 'delivered' or d.outcome = 'rejected'
            then case when j.platform_status = 'rejected' then j.error_msg end else d.error_msg end,
        updated_at = now()
    from judged j
    where d.id = j.delivery_id
),
linked as (
    update status_events e
    set linked_at = now(),
        delivery_id = case when t.members = 1 then t.delivery_id end,
        batch_id = t.batch_id
    from (
        select id, count(*) as members, (array_agg(delivery_id))[1] as delivery_id, (array_agg(batch_id))[1] as batch_id
        from history
        where waiting
        group by id
    ) t
    where e.id = t.id and e.linked_at is null
    returning 1
)
select count(*)::integer as linked from linked
