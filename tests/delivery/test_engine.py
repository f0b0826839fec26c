"""One delivery: admit → begin → send → finish → route, and every way that it may go wrong between two steps."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from connectors.contract import (
    Accepted,
    CredentialsRejected,
    Forbidden,
    Outcome,
    Refused,
    Shipment,
    Throttled,
    Unavailable,
    Uncertain,
)
from connectors.recording import RecordingConnector, Scripted
from delivery.observer import AttemptMade, DeadLettered
from delivery.records import request_record
from delivery_log.contract import CompanyPlatform, ReadUpTo
from delivery_log.memory.companies import MemoryCompanyRegistry
from schemas import headers
from schemas.event import ImpactMetricEvent
from schemas.identity import delivery_id, idempotency_key
from tests.delivery.virtual_time import settle
from tests.delivery.world import ANOTHER, ME, MY_SUCCESSOR, TOPICS, TRACE, World, event, raw

pytestmark = pytest.mark.fast
READ_ALL = ReadUpTo(platform="benevity", delay=0.0, age=1.0)


def world_with(*script: Outcome | Scripted, **connector: Any) -> World:
    return World(RecordingConnector(script=list(script), **connector))


class Slow(RecordingConnector):
    """Has its effect, and answers when told to."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.answer = asyncio.Event()

    async def send(self, shipments: Sequence[Shipment], idempotency_key: UUID) -> list[Outcome]:
        outcomes = await super().send(shipments, idempotency_key)
        await self.answer.wait()
        return outcomes


# ------------------------------------------------------------- outcomes


async def test_an_accepted_delivery_is_delivered_and_nothing_is_published() -> None:
    world = world_with(Accepted(http_status=200, transaction_id="tx-1"))
    of = event()
    [record] = await world.arrive(of)
    await world.engine().deliver(record)
    row = world.row(of)
    assert (row.status, row.outcome, row.transaction_id, row.lease_owner) == ("delivered", "delivered", "tx-1", None)
    assert world.attempts(of) == [(1, "accepted", True)]
    assert world.broker.calls == []
    [shipment] = world.connector.shipments
    assert shipment.idempotency_key == idempotency_key(row.id, 0)
    assert (shipment.event, shipment.organization_id) == (of, "org")
    assert shipment.traceparent[:36] == TRACE[:36]
    assert shipment.traceparent != TRACE
    assert row.payload_hash is not None
    assert row.payload_sample is not None
    assert str(of.event_id) not in row.payload_sample


async def test_a_refused_delivery_becomes_a_dead_letter_with_its_reasons() -> None:
    world = world_with(Refused(http_status=400, error_code="INVALID_METRIC", error_message="no such metric"))
    of = event()
    [record] = await world.arrive(of)
    await world.engine().deliver(record)
    row = world.row(of)
    assert (row.status, row.outcome, row.error_code) == ("failed", "dead", "INVALID_METRIC")
    [letter] = world.broker.records(world.dlt)
    assert letter.value == raw(of)
    assert letter.key == str(of.company_id).encode()
    [found] = world.broker.headers(world.dlt)
    assert found["ii-error-kind"] == "refused"
    assert found["ii-error-code"] == "INVALID_METRIC"
    assert found["ii-error-message"] == "no such metric"
    assert found["ii-attempt"] == "1"
    assert found["ii-delivery-id"] == str(row.id)
    assert world.watcher.of(DeadLettered) == [DeadLettered("benevity", "INVALID_METRIC")]


async def test_an_unavailable_platform_leads_to_the_first_retry_topic_under_the_next_hop() -> None:
    world = world_with(Unavailable(http_status=503, error_code="HTTP_503", error_message="busy"))
    of = event()
    [record] = await world.arrive(of)
    await world.engine().deliver(record)
    row = world.row(of)
    assert (row.status, row.outcome, row.hop, row.retries, row.counted) == ("retrying", None, 2, 1, 1)
    [waiting] = world.broker.records(world.retry_topic(5))
    assert (waiting.value, waiting.key) == (record.value, record.key)
    [found] = world.broker.headers(world.retry_topic(5))
    assert (found["ii-hop"], found["ii-attempt"], found["ii-error-kind"]) == ("2", "1", "unavailable")
    assert (found["ii-error-code"], found["ii-error-message"]) == ("HTTP_503", "busy")
    assert {"ii-not-before", "ii-deadline", "ii-first-failed-at", "ii-last-failed-at"} <= set(found)
    assert found["traceparent"] == TRACE


async def test_a_retry_is_sent_under_the_same_key_with_the_same_body() -> None:
    world = world_with(Unavailable(), Uncertain(), Accepted())
    of = event()
    [record] = await world.arrive(of)
    engine, waiter = world.engine(), world.retry_topics()
    await engine.deliver(record)
    await asyncio.sleep(5)
    waiter.forward_due()
    await engine.deliver(world.last(world.topic))
    await asyncio.sleep(60)
    waiter.forward_due()
    await engine.deliver(world.last(world.topic))
    assert world.row(of).status == "delivered"
    assert len(world.keys_sent()) == 1
    assert len({shipment.body for shipment in world.connector.shipments}) == 1
    assert [name for _, name, _ in world.attempts(of)] == ["unavailable", "uncertain", "accepted"]


@pytest.mark.parametrize(
    ("outcome", "name", "code"),
    [
        (Throttled(after=2), "throttled", "THROTTLED"),
        (Forbidden(), "forbidden", "ORG_FORBIDDEN"),
        (CredentialsRejected(), "credentials_rejected", "CREDENTIALS_REJECTED"),
    ],
)
async def test_what_is_not_the_deliverys_fault_costs_it_nothing(outcome: Outcome, name: str, code: str) -> None:
    world = world_with(*[outcome] * 4)
    of = event()
    [record] = await world.arrive(of)
    engine, waiter = world.engine(), world.retry_topics()
    await engine.deliver(record)
    for _ in range(3):
        await asyncio.sleep(601)  # further than the deadline would be, and than a probe has to wait
        assert waiter.forward_due() == 1
        await engine.deliver(world.last(world.topic))
    row = world.row(of)
    assert (row.status, row.counted, row.deadline_at, row.error_code) == ("retrying", 0, None, code)
    assert [attempt[1:] for attempt in world.attempts(of)] == [(name, False)] * 4
    assert len(world.broker.records(world.retry_topic(5))) == 4


async def test_a_new_organization_frees_what_waits_behind_a_forbidden_one_within_moments() -> None:
    world = world_with(Forbidden())
    company = uuid4()
    sent, behind, untouched = event(company), event(company), event()
    [first, second] = await world.arrive(sent, behind)
    [other] = await world.arrive(untouched)
    engine, companies = world.engine(), MemoryCompanyRegistry(world.state)
    await engine.deliver(first)
    world.row(sent).status = "failed"  # cancelled, so that it blocks nobody
    await engine.deliver(second)
    await engine.deliver(other)
    assert world.watcher.skipped == ["parked", "parked"]
    assert world.row(behind).error_code == "ORG_FORBIDDEN"
    await companies.set_company_platforms(
        [CompanyPlatform(company_id=company, platform="benevity", organization_id="new")]
    )
    await asyncio.sleep(1.0)
    [swept] = await world.ledger.sweep([READ_ALL], ordered=["benevity"], grace=5.0, limit=10)
    record = request_record(swept.request, TOPICS)
    world.broker.put(record.topic, record.key, record.value, record.headers)
    # The worker still believes in the old organization.
    await engine.deliver(world.last(world.topic))
    assert world.row(behind).status == "delivered"
    assert [shipment.organization_id for shipment in world.connector.shipments] == ["org", "new"]


async def test_a_longer_retry_after_takes_the_shortest_topic_that_is_not_shorter() -> None:
    world = world_with(Throttled(after=6))
    of = event()
    [record] = await world.arrive(of)
    await world.engine().deliver(record)
    assert len(world.broker.records(world.retry_topic(60))) == 1
    assert world.row(of).next_attempt_at == world.clock() + timedelta(seconds=60)


async def test_a_wish_longer_than_any_topic_waits_in_the_ledger_and_is_not_sent_early() -> None:
    world = world_with(Unavailable(after=600, http_status=503))
    of = event()
    [record] = await world.arrive(of)
    engine = world.engine()
    await engine.deliver(record)
    await asyncio.sleep(60)
    world.retry_topics().forward_due()
    await engine.deliver(world.last(world.topic))
    assert world.watcher.skipped == ["not_yet"]
    assert len(world.connector.requests) == 1
    assert world.row(of).blocked


async def test_past_the_deadline_a_counted_failure_is_the_last() -> None:
    world = world_with(Unavailable(error_code="HTTP_503"), Unavailable(error_code="HTTP_502", error_message="still"))
    of = event()
    [record] = await world.arrive(of)
    engine = world.engine()
    await engine.deliver(record)
    await asyncio.sleep(301)
    world.retry_topics().forward_due()
    await engine.deliver(world.last(world.topic))
    row = world.row(of)
    assert (row.status, row.outcome, row.error_code) == ("failed", "dead", "HTTP_502")
    [found] = world.broker.headers(world.dlt)
    assert (found["ii-error-kind"], found["ii-error-message"], found["ii-attempt"]) == ("deadline", "still", "2")


async def test_past_the_deadline_a_delivery_is_still_attempted_and_may_be_accepted() -> None:
    world = world_with(Unavailable())
    of = event()
    [record] = await world.arrive(of)
    engine = world.engine()
    await engine.deliver(record)
    await asyncio.sleep(10_000)
    world.retry_topics().forward_due()
    await engine.deliver(world.last(world.topic))
    assert world.row(of).status == "delivered"


# ------------------------------------------------------------- the connector's own faults


async def test_a_connector_that_raises_in_send_leaves_an_uncertain_attempt() -> None:
    def defect(shipment: Shipment) -> Outcome:
        raise ValueError("with the event's content in it")

    world = World(RecordingConnector(script=defect))
    of = event()
    [record] = await world.arrive(of)
    await world.engine().deliver(record)
    assert world.attempts(of) == [(1, "uncertain", True)]
    row = world.row(of)
    assert (row.status, row.error_code) == ("retrying", "INTERNAL_ERROR")
    assert "content" not in (row.error_message or "")
    assert row.uncertain_since is not None
    assert world.watcher.troubles == ["connector_send"]


@pytest.mark.parametrize("outcomes", [[], [Accepted(), Accepted()]])
async def test_a_connector_with_the_wrong_number_of_outcomes_leaves_an_uncertain_attempt(
    outcomes: list[Outcome],
) -> None:
    class Miscounting(RecordingConnector):
        async def send(self, shipments: Sequence[Shipment], idempotency_key: UUID) -> list[Outcome]:
            return outcomes

    world = World(Miscounting())
    of = event()
    [record] = await world.arrive(of)
    await world.engine().deliver(record)
    assert world.attempts(of) == [(1, "uncertain", True)]


async def test_a_connector_that_never_answers_is_cut_off_before_the_lease_ends() -> None:
    world = World(Slow())
    of = event()
    [record] = await world.arrive(of)
    await world.engine(lease=20.0, request_timeout=30.0).deliver(record)
    assert asyncio.get_running_loop().time() == pytest.approx(18, abs=0.1)
    row = world.row(of)
    assert (row.status, row.error_code) == ("retrying", "TIMEOUT")
    assert row.uncertain_since is not None


async def test_a_connector_that_cannot_build_a_body_costs_an_attempt_and_no_request() -> None:
    class Bodyless(RecordingConnector):
        def body(self, event: ImpactMetricEvent, organization_id: str, generation: int) -> bytes:
            raise KeyError("content")

    world = World(Bodyless())
    of = event()
    [record] = await world.arrive(of)
    await world.engine().deliver(record)
    assert world.connector.requests == []
    assert world.attempts(of) == [(1, "unavailable", True)]
    assert world.row(of).uncertain_since is None
    assert world.row(of).error_message == "no body: KeyError"


async def test_a_body_that_is_no_json_is_delivered() -> None:
    class Xml(RecordingConnector):
        def body(self, event: ImpactMetricEvent, organization_id: str, generation: int) -> bytes:
            return b"<soap/>"

    world = World(Xml())
    of = event()
    [record] = await world.arrive(of)
    await world.engine().deliver(record)
    assert world.row(of).status == "delivered"


# ------------------------------------------------------------- records that lead to no attempt


async def test_a_doubled_record_leads_to_no_second_request() -> None:
    world = World()
    of = event()
    [record] = await world.arrive(of)
    engine = world.engine()
    await engine.deliver(record)
    await engine.deliver(record)
    assert len(world.connector.requests) == 1
    assert world.watcher.skipped == ["already_done"]


@pytest.mark.parametrize("ordering", ["keyed", "additive"])
async def test_a_doubled_record_beside_its_twin_leads_to_no_second_request(ordering: Any) -> None:
    world = World(RecordingConnector(ordering=ordering))
    of = event()
    [record] = await world.arrive(of)
    engine = world.engine()
    await asyncio.gather(engine.deliver(record), engine.deliver(record))
    assert len(world.connector.requests) == 1
    assert world.attempts(of) == [(1, "accepted", True)]


async def test_a_record_of_an_earlier_hop_is_stale() -> None:
    world = world_with(Unavailable())
    of = event()
    [record] = await world.arrive(of)
    engine = world.engine()
    await engine.deliver(record)
    await asyncio.sleep(5)
    await engine.deliver(record)
    assert world.watcher.skipped == ["stale"]
    assert len(world.connector.requests) == 1


async def test_a_record_that_comes_a_moment_early_is_waited_for_and_never_sent_early() -> None:
    world = world_with(Unavailable())
    of = event()
    [record] = await world.arrive(of)
    engine = world.engine()
    await engine.deliver(record)
    await asyncio.sleep(4.2)
    await engine.deliver(world.last(world.retry_topic(5)))
    assert world.row(of).status == "delivered"
    first, second = (request.sent_at for request in world.connector.requests)
    assert 5.0 <= second - first < 5.1


async def test_a_record_that_comes_much_too_early_waits_in_the_ledger() -> None:
    world = world_with(Unavailable())
    of = event()
    [record] = await world.arrive(of)
    engine = world.engine()
    await engine.deliver(record)
    await asyncio.sleep(1)
    await engine.deliver(world.last(world.retry_topic(5)))
    assert world.watcher.skipped == ["not_yet"]
    await asyncio.sleep(5)
    world.retry_topics().forward_due()
    await engine.deliver(world.last(world.topic))
    assert world.row(of).status == "delivered"


@pytest.mark.parametrize("outcome", ["cancelled", None])
async def test_a_cancelled_delivery_is_not_sent(outcome: str | None) -> None:
    world = World()
    of = event()
    [record] = await world.arrive(of)
    world.row(of).status, world.row(of).outcome = "failed", outcome
    await world.engine().deliver(record)
    assert world.connector.requests == []
    assert world.watcher.skipped == ["cancelled"]


async def test_a_delivery_cancelled_in_flight_stays_cancelled_unless_the_platform_took_it() -> None:
    for answer, status in ((Unavailable(), "failed"), (Refused(), "failed"), (Accepted(), "delivered")):
        world = World(Slow(script=[answer]))
        assert isinstance(world.connector, Slow)
        of = event()
        [record] = await world.arrive(of)
        task = asyncio.create_task(world.engine().deliver(record))
        await world.connector.until(requests=1)
        world.row(of).status = "failed"
        world.connector.answer.set()
        await task
        assert world.row(of).status == status
        assert world.broker.calls == []
        assert world.row(of).lease_owner is None


async def test_a_request_for_no_row_of_ours_is_kept_for_a_person_and_changes_nothing() -> None:
    world = World()
    of = event()
    record = world.broker.put(world.topic, b"key", raw(of), [(headers.HOP, b"1")])
    await world.engine().deliver(record)
    [found] = world.broker.headers(world.dlt)
    assert (found["ii-error-kind"], found["ii-error-code"]) == ("unknown", "UNKNOWN")
    assert world.broker.records(world.dlt)[0].value == raw(of)
    assert world.state.deliveries == {}


async def test_a_request_with_another_content_is_kept_for_a_person_and_changes_nothing() -> None:
    world = World()
    of = event()
    [record] = await world.arrive(of)
    forged = raw(msgspec.structs.replace(of, program_name="other"))
    await world.engine().deliver(msgspec.structs.replace(record, value=forged))
    [found] = world.broker.headers(world.dlt)
    assert found["ii-error-kind"] == "mismatch"
    assert world.connector.requests == []
    assert world.row(of).status == "pending"


@pytest.mark.parametrize("value", [b"garbage", None, b""])
async def test_what_is_no_request_becomes_one_dead_letter_with_its_bytes(value: bytes | None) -> None:
    world = World()
    record = world.broker.put(world.topic, b"key", value)
    await world.engine().deliver(record)
    [letter] = world.broker.records(world.dlt)
    assert (letter.key, letter.value) == (b"key", value or b"")
    assert world.broker.headers(world.dlt)[0]["ii-original-topic"] == world.topic


# ------------------------------------------------------------- order


async def test_a_blocked_sibling_waits_in_the_ledger_and_is_woken_in_order_by_its_elders_end() -> None:
    company = uuid4()
    world = world_with(Unavailable())
    events = [event(company) for _ in range(3)]
    records = await world.arrive(*events)
    engine = world.engine()
    for record in records:
        await engine.deliver(record)
    assert world.watcher.skipped == ["blocked", "blocked"]
    assert len(world.connector.requests) == 1
    assert [world.row(of).attempts for of in events] == [1, 0, 0]
    await asyncio.sleep(5)
    world.retry_topics().forward_due()
    seen = len(world.broker.records(world.topic))
    await engine.deliver(world.last(world.topic))
    woken = world.broker.records(world.topic)[seen:]
    assert [record.value for record in woken] == [raw(of) for of in events[1:]]
    for record in woken:
        await engine.deliver(record)
    assert [world.row(of).status for of in events] == ["delivered"] * 3
    assert [shipment.event.event_id for shipment in world.connector.shipments] == [
        events[0].event_id,
        *(of.event_id for of in events),
    ]


async def test_a_dead_elder_wakes_its_siblings_too() -> None:
    company = uuid4()
    world = world_with(Unavailable(), Refused())
    elder, younger = event(company), event(company)
    records = await world.arrive(elder, younger)
    engine = world.engine()
    for record in records:
        await engine.deliver(record)
    await asyncio.sleep(5)
    world.retry_topics().forward_due()
    await engine.deliver(world.last(world.topic))
    await engine.deliver(world.last(world.topic))
    assert (world.row(elder).outcome, world.row(younger).outcome) == ("dead", "delivered")


async def test_another_company_is_not_held_up() -> None:
    world = world_with(Unavailable())
    slow, quick = event(), event()
    records = await world.arrive(slow, quick)
    engine = world.engine()
    for record in records:
        await engine.deliver(record)
    assert (world.row(slow).status, world.row(quick).status) == ("retrying", "delivered")


async def test_additive_deliveries_of_a_company_do_not_wait_for_each_other() -> None:
    company = uuid4()
    world = world_with(Unavailable(), ordering="additive")
    elder, younger = event(company), event(company)
    records = await world.arrive(elder, younger)
    engine = world.engine()
    for record in records:
        await engine.deliver(record)
    assert (world.row(elder).status, world.row(younger).status) == ("retrying", "delivered")


# ------------------------------------------------------------- belief and content


async def test_another_organization_costs_one_more_claim_and_goes_to_the_right_one() -> None:
    company = uuid4()
    world = World()
    first, second = event(company), event(company)
    records = await world.arrive(first)
    engine = world.engine()
    await engine.deliver(records[0])
    world.register(company, "org-2")
    records = await world.arrive(second)
    before = world.ledger.calls["begin"]
    await engine.deliver(records[0])
    assert world.ledger.calls["begin"] - before == 2
    assert [shipment.organization_id for shipment in world.connector.shipments] == ["org", "org-2"]
    assert [shipment.body.count(b"org-2") for shipment in world.connector.shipments] == [0, 1]


async def test_a_companys_second_delivery_needs_one_claim() -> None:
    company = uuid4()
    world = World()
    engine = world.engine()
    for record in await world.arrive(event(company), event(company)):
        before = world.ledger.calls["begin"]
        await engine.deliver(record)
    assert world.ledger.calls["begin"] - before == 1


async def test_a_replays_generation_is_built_into_body_and_key() -> None:
    world = World()
    of = event()
    [record] = await world.arrive(of)
    world.row(of).generation = 2
    await world.engine().deliver(record)
    [shipment] = world.connector.shipments
    assert shipment.generation == 2
    assert shipment.idempotency_key == idempotency_key(delivery_id(of.event_id, "benevity"), 2)
    assert shipment.body == world.connector.body(of, "org", 2)


async def test_an_uncertain_delivery_with_another_content_is_not_repeated_but_dead_lettered() -> None:
    class Upgraded(RecordingConnector):
        def body(self, event: ImpactMetricEvent, organization_id: str, generation: int) -> bytes:
            return super().body(event, organization_id, generation) + b" "

    world = world_with(Uncertain())
    of = event()
    [record] = await world.arrive(of)
    await world.engine().deliver(record)
    await asyncio.sleep(5)
    newer = Upgraded()
    await world.engine(MY_SUCCESSOR, newer).deliver(world.last(world.retry_topic(5)))
    assert newer.requests == []
    row = world.row(of)
    assert (row.status, row.outcome, row.error_code) == ("failed", "dead", "UNKNOWN_OUTCOME")
    [found] = world.broker.headers(world.dlt)
    assert (found["ii-error-kind"], found["ii-error-code"]) == ("unknown_outcome", "UNKNOWN_OUTCOME")
    assert world.watcher.of(DeadLettered) == [DeadLettered("benevity", "UNKNOWN_OUTCOME", given_up=True)]
    assert "content is another" in found["ii-error-message"]
    assert world.broker.records(world.dlt)[0].value == raw(of)
    assert world.attempts(of) == [(1, "uncertain", True)]


async def test_an_uncertain_delivery_beyond_the_platforms_memory_is_not_repeated_but_dead_lettered() -> None:
    company = uuid4()
    world = world_with(Uncertain())
    of, younger = event(company), event(company)
    records = await world.arrive(of, younger)
    engine = world.engine(key_memory=3600.0)
    for record in records:
        await engine.deliver(record)
    await asyncio.sleep(3601)
    await engine.deliver(world.last(world.retry_topic(5)))
    assert len(world.connector.requests) == 1
    assert world.broker.headers(world.dlt)[0]["ii-error-kind"] == "unknown_outcome"
    await engine.deliver(world.last(world.topic))
    assert world.row(younger).status == "delivered", "its sibling is woken by this end too"


# ------------------------------------------------------------- leases, crashes, zombies


async def crash_in_flight(world: World, record: Any, **engine: Any) -> None:
    """A worker that sent, and died before the answer."""
    assert isinstance(world.connector, Slow)
    task = asyncio.create_task(world.engine(**engine).deliver(record))
    await world.connector.until(requests=1)
    task.cancel()
    await settle()
    assert task.cancelled()
    world.connector.answer.set()


async def test_after_a_crash_another_worker_sends_under_the_same_key_once_the_lease_is_over() -> None:
    world = World(Slow())
    of = event()
    [record] = await world.arrive(of)
    await crash_in_flight(world, record)
    engine = world.engine(ANOTHER)
    await engine.deliver(record)
    assert world.watcher.skipped == ["leased"]
    assert 5.0 <= asyncio.get_running_loop().time() < 6.0, "waited for in memory, five seconds at most"
    await asyncio.sleep(60)
    await engine.deliver(record)
    assert len(world.keys_sent()) == 1
    assert world.connector.effects[world.row(of).id] == 1
    assert world.connector.conflicts == []
    assert world.row(of).status == "delivered"
    assert world.attempts(of) == [(1, "unknown_outcome", True), (2, "accepted", True)]


async def test_who_comes_back_under_the_same_name_goes_on_at_once() -> None:
    world = World(Slow())
    of = event()
    [record] = await world.arrive(of)
    await crash_in_flight(world, record)
    await world.engine(MY_SUCCESSOR).deliver(record)
    assert asyncio.get_running_loop().time() < 1.0
    assert world.row(of).status == "delivered"
    assert world.connector.effects[world.row(of).id] == 1


@pytest.mark.parametrize("answer", [Unavailable(http_status=503), Refused(http_status=400), Uncertain()])
async def test_a_zombies_late_failure_changes_nothing(answer: Outcome) -> None:
    zombies, others = Slow(script=[answer]), Slow()
    world = World(zombies)
    of = event()
    [record] = await world.arrive(of)
    zombie = asyncio.create_task(world.engine(lease=60.0, request_timeout=1000.0).deliver(record))
    await zombies.until(requests=1)
    world.end_lease(of)  # the zombie stood still for as long as that
    await settle()
    living = asyncio.create_task(world.engine(ANOTHER, others).deliver(record))
    await others.until(requests=1)
    zombies.answer.set()
    await zombie
    row = world.row(of)
    assert (row.status, row.lease_owner, row.attempts) == ("pending", ANOTHER.name, 2)
    assert world.broker.calls == []
    [attempt] = world.watcher.of(AttemptMade)
    assert not attempt.applied
    others.answer.set()
    await living
    assert (row.status, row.transaction_id is not None) == ("delivered", True)


async def test_a_zombies_late_acceptance_is_the_last_word() -> None:
    zombies, others = Slow(), Slow(script=[Unavailable()])
    world = World(zombies)
    of = event()
    [record] = await world.arrive(of)
    zombie = asyncio.create_task(world.engine().deliver(record))
    await zombies.until(requests=1)
    world.end_lease(of)
    await settle()
    living = asyncio.create_task(world.engine(ANOTHER, others).deliver(record))
    await others.until(requests=1)
    zombies.answer.set()
    await zombie
    assert world.row(of).status == "delivered"
    others.answer.set()
    await living
    assert world.row(of).status == "delivered"
    assert world.broker.calls == []


async def test_a_zombie_confirms_no_record_of_another_worker() -> None:
    zombies = Slow(script=[Unavailable()])
    world = World(zombies)
    of = event()
    [record] = await world.arrive(of)
    publication = world.publication()
    zombie = asyncio.create_task(world.engine(publication=publication).deliver(record))
    await zombies.until(requests=1)
    world.end_lease(of)
    await settle()
    # The other worker finishes, and dies before its retry record is published.
    world.broker.refusals = 10**6
    living = asyncio.create_task(world.engine(ANOTHER, RecordingConnector(script=[Unavailable()])).deliver(record))
    await asyncio.sleep(1)
    living.cancel()
    world.broker.refusals = 0
    zombies.answer.set()
    await zombie
    await publication.flush()
    assert world.row(of).published_hop < world.row(of).hop


async def test_a_worker_that_stood_still_after_begin_sends_nothing() -> None:
    world = World()
    of = event()
    [record] = await world.arrive(of)
    begin = world.ledger.begin

    async def begin_and_stand_still(*claims: Any, **options: Any) -> Any:
        answer = await begin(*claims, **options)
        await asyncio.sleep(61)
        return answer

    world.ledger.begin = begin_and_stand_still  # type: ignore[method-assign]
    await world.engine().deliver(record)
    assert world.connector.requests == []
    assert world.row(of).error_code == "LEASE_SPENT"
    assert world.row(of).uncertain_since is None


async def test_while_the_ledger_is_away_nothing_is_sent_and_afterwards_all_goes_on() -> None:
    world = World()
    of = event()
    [record] = await world.arrive(of)
    world.ledger.failures = 20
    task = asyncio.create_task(world.engine().deliver(record))
    await asyncio.sleep(20)
    assert world.connector.requests == []
    assert not task.done()
    await task
    assert world.row(of).status == "delivered"
    assert set(world.watcher.troubles) == {"begin"}


async def test_an_answer_is_kept_while_the_ledger_is_away() -> None:
    world = World(Slow())
    assert isinstance(world.connector, Slow)
    of = event()
    [record] = await world.arrive(of)
    task = asyncio.create_task(world.engine().deliver(record))
    await world.connector.until(requests=1)
    world.ledger.failures = 10
    world.connector.answer.set()
    await task
    assert world.attempts(of) == [(1, "accepted", True)]


async def test_while_the_broker_is_away_a_retry_is_not_acked_and_then_published_once() -> None:
    world = world_with(Unavailable())
    of = event()
    [record] = await world.arrive(of)
    world.broker.refusals = 20
    task = asyncio.create_task(world.engine().deliver(record))
    await asyncio.sleep(20)
    assert not task.done()
    await task
    assert len(world.broker.records(world.retry_topic(5))) == 1


async def test_many_deliveries_share_their_statements() -> None:
    world = World(RecordingConnector(ordering="additive"))
    records = await world.arrive(*(event() for _ in range(50)))
    engine = world.engine()
    await asyncio.gather(*(engine.deliver(record) for record in records))
    # Each company's organization is learnt once: two claims a delivery.
    assert world.ledger.calls["begin"] <= 4
    assert world.ledger.calls["finish"] <= 3
    assert all(row.status == "delivered" for row in world.state.deliveries.values())


async def test_the_owner_of_a_lease_is_the_engines() -> None:
    world = World(Slow())
    of = event()
    [record] = await world.arrive(of)
    task = asyncio.create_task(world.engine(ME).deliver(record))
    await world.connector.until(requests=1)
    assert (world.row(of).lease_owner, world.row(of).lease_epoch) == (ME.name, ME.epoch)
    task.cancel()
    await settle()
