"""An additive platform's deliveries in batches, and what may go wrong between two steps."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from connectors.contract import Accepted, Forbidden, Outcome, Refused, Shipment, Throttled, Uncertain
from connectors.recording import RecordingConnector, Scripted
from delivery.batch_delivery import BatchDelivery
from delivery.engine import EngineSettings
from delivery.gate import Gate
from delivery.observer import RequestMade
from delivery.ports import IncomingRecord
from delivery.records import request_record
from delivery_log.contract import Owner
from guards.quota_contract import Limits
from schemas.event import ImpactMetricEvent
from schemas.identity import batch_key, idempotency_key
from tests.delivery.virtual_time import settle
from tests.delivery.world import ME, MY_SUCCESSOR, TOPICS, World, event, gate

pytestmark = pytest.mark.fast

WHOLE = Refused(http_status=400, error_code="DIMENSION_INVALID", whole=True)


class Account(RecordingConnector):
    """One quota for all organizations, as Goodera has it."""

    def quota_scope(self, organization_id: str) -> str:
        return ""


class Bench:
    """One worker's deliveries over a world."""

    def __init__(self, world: World, owner: Owner = ME, in_memory: int = 2_000, **settings: float) -> None:
        self.world = world
        self.done: list[IncomingRecord] = []
        self.defects: list[Exception] = []
        self.gate: Gate = gate(world.connector, world.watcher)
        self.batches = BatchDelivery(
            connector=world.connector,
            gate=self.gate,
            ledger=world.ledger,
            publication=world.publication(),
            topics=TOPICS,
            schedule=world.schedule,
            owner=owner,
            observer=world.watcher,
            settings=EngineSettings(**settings),
            done=self.done.append,
            on_defect=self.defects.append,
            in_memory=in_memory,
        )

    async def take(self, *records: IncomingRecord) -> None:
        for record in records:
            await self.batches.accept(record)

    async def deliver(self, *records: IncomingRecord) -> None:
        await self.take(*records)
        await self.batches.drain(3_600.0)
        assert self.defects == []


def world_of(batch_size: int = 10, **more: Any) -> World:
    return World(Account("goodera", "additive", batch_size, **more))


async def arrived(world: World, count: int, company: UUID | None = None) -> tuple[list[ImpactMetricEvent], Any]:
    events = [event(company) for _ in range(count)]
    return events, await world.arrive(*events)


def sizes(world: World) -> list[int]:
    return [len(request.shipments) for request in world.connector.requests]


async def known(bench: Bench, company: UUID) -> None:
    """The worker has met the company: its organization is known."""
    await bench.deliver(*(await arrived(bench.world, 1, company))[1])
    bench.world.connector.requests.clear()
    bench.done.clear()


async def back_from_retry(world: World, topic_delay: float = 5.0) -> list[IncomingRecord]:
    """What is due on the retry topic, as it comes back."""
    await asyncio.sleep(topic_delay)
    before = len(world.broker.records(world.topic))
    world.retry_topics().forward_due()
    return world.broker.records(world.topic)[before:]


async def test_what_waits_goes_together_under_the_batchs_key_and_each_has_its_outcome() -> None:
    world, company = world_of(), uuid4()
    bench = Bench(world)
    await known(bench, company)
    events, records = await arrived(world, 5, company)
    calls = Counter(world.ledger.calls)
    await bench.deliver(*records)
    assert sizes(world) == [5]
    [request] = world.connector.requests
    rows = [world.row(of) for of in events]
    assert {row.batch_id for row in rows} != {None}
    assert {batch_key(row.batch_id) for row in rows if row.batch_id} == {request.idempotency_key}
    assert [shipment.delivery_id for shipment in request.shipments] == sorted(row.id for row in rows)
    assert {row.status for row in rows} == {"delivered"}
    assert len(bench.done) == 5
    assert world.ledger.calls - calls == {"begin": 1, "finish": 1} | {
        name: number for name, number in (world.ledger.calls - calls).items() if name == "record_events"
    }
    assert world.watcher.of(RequestMade)[-1].deliveries == 5


async def test_one_that_waits_alone_goes_at_once_as_a_single() -> None:
    world = world_of()
    [of], records = await arrived(world, 1)
    await Bench(world).deliver(*records)
    [request] = world.connector.requests
    assert request.idempotency_key == idempotency_key(world.row(of).id, 0)
    assert world.row(of).batch_id is None


async def test_companies_have_their_turn_in_a_batch() -> None:
    world = world_of(batch_size=4)
    bench = Bench(world)
    large, small = uuid4(), uuid4()
    await known(bench, large)
    await known(bench, small)
    bench.gate.holds.pause(True, 0.0)
    _, many = await arrived(world, 9, large)
    _, few = await arrived(world, 1, small)
    await bench.take(*many, *few)
    await settle()
    bench.gate.holds.pause(False, 0.0)
    await bench.batches.drain(60.0)
    first = world.connector.requests[0]
    assert small in {shipment.event.company_id for shipment in first.shipments}
    assert sizes(world) == [4, 4, 2]


async def test_a_quota_is_counted_in_requests_and_batches_fill_while_it_makes_them_wait() -> None:
    world, company = world_of(), uuid4()
    bench = Bench(world)
    await known(bench, company)
    bench.gate.limits = Limits(per_minute=2)
    _, records = await arrived(world, 31, company)
    await bench.deliver(*records)
    assert sizes(world) == [10, 10, 10, 1]
    times = [request.sent_at for request in world.connector.requests]
    assert times[1] - times[0] < 1.0
    assert times[2] - times[0] >= 60.0


async def test_unanswered_the_same_members_go_again_under_the_same_key() -> None:
    answers = iter([Scripted(Uncertain(error_code="TIMEOUT"), effect=True)])
    world, company = world_of(whole=lambda _: next(answers, None)), uuid4()
    bench = Bench(world)
    await known(bench, company)
    events, records = await arrived(world, 3, company)
    await bench.deliver(*records)
    assert {world.row(of).status for of in events} == {"retrying"}
    _, others = await arrived(world, 2, company)
    await bench.deliver(*others)  # what comes meanwhile is no part of it
    await bench.deliver(*await back_from_retry(world))
    first, _, again = world.connector.requests
    assert (again.idempotency_key, again.shipments[0].body) == (first.idempotency_key, first.shipments[0].body)
    assert [s.delivery_id for s in again.shipments] == [s.delivery_id for s in first.shipments]
    assert world.connector.conflicts == []
    assert {world.row(of).status for of in events} == {"delivered"}
    assert set(world.connector.effects.values()) == {1}
    for of in events:
        assert world.attempts(of) == [(1, "uncertain", True), (2, "accepted", True)]


async def test_a_crash_while_a_batch_is_in_flight_leaves_it_whole_to_the_successor() -> None:
    hanging = asyncio.Event()

    class Hanging(Account):
        async def send(self, shipments: Sequence[Shipment], idempotency_key: UUID) -> list[Outcome]:
            outcomes = await super().send(shipments, idempotency_key)
            if not hanging.is_set():
                await hanging.wait()
            return outcomes

    world, company = World(Hanging("goodera", "additive", 10)), uuid4()
    hanging.set()
    bench = Bench(world)
    await known(bench, company)
    hanging.clear()
    events, records = await arrived(world, 4, company)
    await bench.take(*records)
    await world.connector.until(requests=1)
    await bench.batches.drain(0.0)  # cut off
    hanging.set()
    successor = Bench(world, MY_SUCCESSOR)
    await successor.deliver(*records)
    first, again = world.connector.requests
    assert again.idempotency_key == first.idempotency_key
    assert [s.delivery_id for s in again.shipments] == [s.delivery_id for s in first.shipments]
    assert {world.row(of).status for of in events} == {"delivered"}
    assert set(world.connector.effects.values()) == {1}
    assert len(successor.done) == 4


async def test_refused_as_a_whole_it_is_halved_down_to_the_bad_one() -> None:
    bad: set[UUID] = set()

    def whole(shipments: Sequence[Shipment]) -> Outcome | None:
        return WHOLE if any(shipment.event.event_id in bad for shipment in shipments) else None

    def alone(shipment: Shipment) -> Outcome:
        if shipment.event.event_id in bad:
            return Refused(http_status=400, error_code="DIMENSION_INVALID")
        return Accepted(http_status=200)

    world, company = world_of(batch_size=8, whole=whole, script=alone), uuid4()
    bench = Bench(world)
    await known(bench, company)
    events, records = await arrived(world, 8, company)
    bad.add(events[3].event_id)
    await bench.deliver(*records)
    assert [world.row(of).status for of in events].count("delivered") == 7
    row = world.row(events[3])
    assert (row.outcome, row.error_code, row.counted) == ("dead", "DIMENSION_INVALID", 1)
    assert len(world.connector.requests) <= 2 * 3 + 1
    assert all(not counted for of in events for _, outcome, counted in world.attempts(of)[:-1] if outcome == "refused")
    assert len(world.broker.records(world.dlt)) == 1
    keys = [request.idempotency_key for request in world.connector.requests]
    assert len(set(keys)) == len(keys)
    # Their records come back, and find the work done.
    await bench.deliver(*world.broker.records(world.topic)[9:])
    assert set(world.connector.effects.values()) == {1}


async def test_answered_in_part_who_is_left_goes_on_without_the_others() -> None:
    answers = iter([Accepted(), Throttled(after=4.0), Accepted()])
    world, company = world_of(script=lambda shipment: next(answers, Accepted())), uuid4()
    bench = Bench(world)
    company_known = await arrived(world, 1, company)
    await bench.deliver(*company_known[1])
    events, records = await arrived(world, 2, company)
    await bench.deliver(*records)
    assert sorted(world.row(of).status for of in events) == ["delivered", "retrying"]
    [left] = [world.row(of) for of in events if world.row(of).status == "retrying"]
    assert left.batch_id is None
    await bench.deliver(*await back_from_retry(world))
    assert world.connector.requests[-1].idempotency_key == idempotency_key(left.id, 0)
    assert {world.row(of).status for of in events} == {"delivered"}


async def test_a_cancelled_member_dissolves_a_batch_whose_fates_are_known() -> None:
    answers = iter([Throttled(), None, None])
    world, company = world_of(whole=lambda _: next(answers)), uuid4()
    bench = Bench(world)
    await known(bench, company)
    events, records = await arrived(world, 3, company)
    await bench.deliver(*records)
    world.row(events[0]).status = "failed"
    back = await back_from_retry(world)
    await bench.deliver(*back)
    freed = world.broker.records(world.topic)[-2:]
    await bench.deliver(*freed)
    assert [world.row(of).status for of in events] == ["failed", "delivered", "delivered"]
    first, again = world.connector.requests
    assert len(again.shipments) == 2
    assert again.idempotency_key != first.idempotency_key
    assert "dissolved" in world.watcher.skipped


async def test_a_403_of_several_organizations_holds_only_the_one_it_is_about() -> None:
    def whole(shipments: Sequence[Shipment]) -> Outcome | None:
        return Forbidden() if any(shipment.organization_id == "bad" for shipment in shipments) else None

    def alone(shipment: Shipment) -> Outcome:
        return Forbidden() if shipment.organization_id == "bad" else Accepted(http_status=200)

    world, good, bad = world_of(batch_size=4, whole=whole, script=alone), uuid4(), uuid4()
    world.register(good, "good")
    world.register(bad, "bad")
    bench = Bench(world)
    await known(bench, good)
    [lonely], [record] = await arrived(world, 1, bad)
    bench.gate.holds.pause(True, 0.0)
    events, records = await arrived(world, 3, good)
    await bench.take(record, *records)
    await settle()
    bench.gate.holds.pause(False, 0.0)
    await bench.batches.drain(60.0)
    assert {world.row(of).status for of in events} == {"delivered"}
    assert (world.row(lonely).status, world.row(lonely).error_code) == ("retrying", "ORG_FORBIDDEN")
    assert bench.gate.holds.forbidden == ["bad"]


async def test_a_company_over_its_share_waits_in_the_ledger_and_comes_back_as_there_is_room() -> None:
    world, company = world_of(batch_size=4), uuid4()
    bench = Bench(world, in_memory=32)
    await known(bench, company)
    bench.gate.holds.pause(True, 0.0)
    events, records = await arrived(world, 40, company)
    await bench.take(*records)
    other, other_records = await arrived(world, 1)
    await bench.take(*other_records)
    await asyncio.sleep(0.1)
    assert sum(world.row(of).blocked for of in events) == 32
    bench.gate.holds.pause(False, 0.0)
    read = len(world.broker.records(world.topic))
    for _ in range(30):
        await bench.batches.drain(60.0)
        records = world.broker.records(world.topic)[read:]
        read += len(records)
        if not records:
            break
        await bench.take(*records)
    assert {world.row(of).status for of in [*events, *other]} == {"delivered"}
    assert set(world.connector.effects.values()) == {1}


async def test_a_company_with_thousands_waiting_leaves_the_others_their_turn() -> None:
    world, large, small = world_of(batch_size=100), uuid4(), uuid4()
    bench = Bench(world)
    await known(bench, large)
    await known(bench, small)
    bench.gate.limits = Limits(per_minute=1)
    _, many = await arrived(world, 3_000, large)
    await bench.take(*many)
    await asyncio.sleep(1.0)
    waiting = len(world.connector.requests)
    [of], records = await arrived(world, 1, small)
    await bench.take(*records)
    await world.connector.until(requests=waiting + 1)
    await settle()
    assert world.row(of).status == "delivered"
    assert sum(row.blocked for row in world.state.deliveries.values()) >= 2_000
    await bench.batches.drain(0.0)


async def test_a_row_that_somebody_else_holds_is_waited_for_and_then_left_to_the_sweeper() -> None:
    world = world_of()
    [of], [record] = await arrived(world, 1)
    row = world.row(of)
    row.lease_owner, row.lease_epoch = "another", 1
    row.lease_until = world.state.clock().replace(year=2030)
    bench = Bench(world)
    started = asyncio.get_running_loop().time()
    await bench.deliver(record)
    assert asyncio.get_running_loop().time() - started == pytest.approx(5.0, abs=0.5)
    assert bench.done == [record]
    assert world.watcher.skipped[-1] == "leased"


async def test_an_unreadable_record_and_one_of_no_row_of_ours_are_dead_letters() -> None:
    world = world_of()
    garbage = world.broker.put(world.topic, b"k", b"garbage")
    of = event()
    [record] = await World(Account("goodera", "additive", 10)).arrive(of)
    bench = Bench(world)
    await bench.deliver(garbage, record)
    kinds = [found["ii-error-kind"] for found in world.broker.headers(world.dlt)]
    assert sorted(kinds)[1] == "unknown"
    assert len(bench.done) == 2


async def test_a_doubled_record_and_one_with_a_later_hop_are_one_at_a_time() -> None:
    world = world_of()
    bench = Bench(world)
    [of], [record] = await arrived(world, 1)
    bench.gate.holds.pause(True, 0.0)
    await bench.take(record, record)
    await settle()
    assert bench.done == [record]
    row = world.row(of)
    await bench.batches._parking.park(bench.batches._at_work[row.id].request)
    [woken] = await world.ledger.wake_parked("goodera", {of.company_id: 1})
    outgoing = request_record(woken, TOPICS)
    later = world.broker.put(outgoing.topic, outgoing.key, outgoing.value, outgoing.headers)
    await bench.take(later)
    bench.gate.holds.pause(False, 0.0)
    await bench.batches.drain(60.0)
    assert row.status == "delivered"
    assert len(world.connector.requests) == 1
    assert len(bench.done) == 3
