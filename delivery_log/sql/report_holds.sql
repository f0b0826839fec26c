-- What one worker ($11) holds, wants to probe ($9) or is probing ($10), and what is over ($12). $13: a claim, in seconds.
with mine as materialized (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::float8[], $7::float8[],
        $8::boolean[], $9::boolean[], $10::boolean[], $14::text[])
        as m (id, platform, organization_id, reason, age, next_probe, wait, news, wants_probe, probing, credential)
),
released as (
    update platform_holds set released_at = now(), held_until = now(), probing_until = null
    where id = any($12::uuid[]) and released_at is null
),
begun as (
    insert into platform_holds
        (id, platform, organization_id, reason, owner, held_from, held_until, next_probe_at, probe_wait, credential)
    select id, platform, organization_id, reason, $11, now() - make_interval(secs => age), now(),
           now() + make_interval(secs => next_probe), wait, credential
    from mine
    on conflict (id) do nothing
)
update platform_holds h
set held_until = now(),
    next_probe_at = case
        -- Two workers' answers: the longer wish is obeyed.
        when m.news and m.reason = 'throttled'
            then greatest(h.next_probe_at, now() + make_interval(secs => m.next_probe))
        when m.news then now() + make_interval(secs => m.next_probe)
        else h.next_probe_at end,
    probe_wait = case when m.news then m.wait else h.probe_wait end,
    prober = case
        when m.wants_probe and h.next_probe_at <= now()
            and (h.probing_until is null or h.probing_until <= now() or h.prober = $11) then $11
        else h.prober end,
    probing_until = case
        when m.wants_probe and h.next_probe_at <= now()
            and (h.probing_until is null or h.probing_until <= now() or h.prober = $11)
            or m.probing and h.prober = $11 then now() + make_interval(secs => $13)
        when m.news and h.prober = $11 then null
        else h.probing_until end
from mine m
where h.id = m.id and h.released_at is null and h.id <> all ($12::uuid[])
