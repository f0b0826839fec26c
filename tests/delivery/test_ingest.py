"""impact.metrics → ledger → requests: each record ends as one visible outcome, whatever it is and whoever is away."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from connectors.recording import RecordingConnector
from delivery.ingest import Ingest, IngestPipeline
from delivery.observer import DeadLettered, EventConsumed
from delivery.ports import IncomingRecord
from schemas import ImpactMetricEvent, Unreadable, headers
from schemas.event import to_avro
from schemas.identity import delivery_id
from tests.delivery.virtual_time import settle
from tests.delivery.world import TOPICS, TRACE, World, event, raw
from tests.schemas.events import FIELDS, json_event, json_with_value

pytestmark = pytest.mark.fast


async def take(world: World, *values: bytes | None, ingest: Ingest | None = None, **put: Any) -> None:
    ingest = ingest or world.ingest()
    records = [world.broker.put(TOPICS.metrics, put.get("key"), value, put.get("wire", ())) for value in values]
    await again(ingest, records)


async def again(ingest: Ingest, records: Sequence[IncomingRecord]) -> None:
    await ingest.conclude(await ingest.judge(records))


def results(world: World) -> list[str]:
    return [happening.result for happening in world.watcher.of(EventConsumed) for _ in range(happening.count)]


def letters(world: World) -> list[tuple[str, bytes | None]]:
    records = world.broker.records(TOPICS.metrics_dlt)
    kinds = [found["ii-error-kind"] for found in world.broker.headers(TOPICS.metrics_dlt)]
    return list(zip(kinds, [record.value for record in records], strict=True))


def known(world: World) -> ImpactMetricEvent:
    of = event()
    world.register(of.company_id)
    return of


# ------------------------------------------------------------- good events


async def test_an_event_becomes_a_row_and_a_request_that_carries_it() -> None:
    world = World()
    of = known(world)
    await take(world, raw(of), wire=[(headers.TRACEPARENT, TRACE.encode())])
    [request] = world.broker.records(world.topic)
    assert request.value == raw(of)
    assert request.key == str(of.company_id).encode()
    [found] = world.broker.headers(world.topic)
    assert found["ii-hop"] == "1"
    assert found["ii-original-topic"] == TOPICS.metrics
    assert found["ii-original-offset"] == "0"
    assert found["ii-original-timestamp"] == "2026-11-24T07:00:00.000Z"
    assert found["traceparent"] == TRACE
    assert world.row(of).status == "pending"
    assert world.state.events[of.event_id].body == to_avro(of)
    assert results(world) == ["accepted"]


async def test_json_is_published_as_avro() -> None:
    world = World()
    world.register(UUID(FIELDS["company_id"]))
    await take(world, json_event(metadata={"b": "2", "a": "1"}, platforms=["benevity", "goodera"]))
    [request] = world.broker.records(world.topic)
    assert (request.value or b"").startswith(b"\xc3\x01")
    await world.engine().deliver(request)
    assert [row.status for row in world.state.deliveries.values()] == ["delivered"]


async def test_each_platform_of_the_company_that_understands_the_event_gets_a_request() -> None:
    connectors = [
        RecordingConnector("benevity"),
        RecordingConnector("goodera"),
        RecordingConnector("workday", understands=lambda _: False),
    ]
    world = World(connectors[0])
    of = event()
    for connector in connectors:
        world.register(of.company_id, platform=connector.name)
    await take(world, raw(of), ingest=world.ingest(*connectors))
    assert {row.platform for row in world.state.deliveries.values()} == {"benevity", "goodera"}
    assert len(world.broker.records(TOPICS.deliveries("goodera"))) == 1
    assert world.broker.records(TOPICS.deliveries("workday")) == []


@pytest.mark.parametrize(
    ("platforms", "expected"), [(None, {"benevity", "goodera"}), (("goodera", "other"), {"goodera"}), ((), set())]
)
async def test_an_event_limits_its_own_fan_out(platforms: tuple[str, ...] | None, expected: set[str]) -> None:
    connectors = [RecordingConnector("benevity"), RecordingConnector("goodera")]
    world = World(connectors[0])
    of = event(platforms=platforms)
    for connector in connectors:
        world.register(of.company_id, platform=connector.name)
    await take(world, raw(of), ingest=world.ingest(*connectors))
    assert {row.platform for row in world.state.deliveries.values()} == expected
    assert results(world) == ["accepted" if expected else "unrouted"]


async def test_an_unrouted_event_is_kept_and_publishes_nothing() -> None:
    world = World()
    unknown, disabled = event(), event()
    world.register(disabled.company_id, enabled=False)
    await take(world, raw(unknown), raw(disabled))
    assert results(world) == ["unrouted", "unrouted"]
    assert world.broker.records(world.topic) == []
    assert world.state.events[unknown.event_id].disposition == "unrouted"


async def test_a_batch_costs_one_statement_and_keeps_the_order_of_the_records() -> None:
    world = World()
    company = uuid4()
    world.register(company)
    events = [event(company) for _ in range(20)]
    await take(world, *(raw(of) for of in events))
    assert world.ledger.recorded == [20]
    assert [record.value for record in world.broker.records(world.topic)] == [raw(of) for of in events]
    assert [world.row(of).seq for of in events] == list(range(1, 21))


async def test_a_malformed_traceparent_is_replaced_by_a_new_trace() -> None:
    world = World()
    of = known(world)
    await take(world, raw(of), wire=[(headers.TRACEPARENT, b"00-bad")])
    assert world.row(of).traceparent != "00-bad"
    assert len(world.row(of).traceparent) == 55


# ------------------------------------------------------------- bad input

BAD = {
    "no_json_no_avro": (b"\xfe\xfe", "invalid_json"),
    "wrong_shape": (b'{"event_id": 1}', "invalid_event"),
    "a_list": (b"[]", "invalid_event"),
    "nan": (json_with_value("NaN"), "invalid_json"),
    "infinity": (json_with_value("Infinity"), "invalid_json"),
    "nul": (json_event(program_name="a\0b"), "invalid_event"),
    "lone_surrogate": (json_event(program_name="\ud800"), "invalid_json"),
    "5000_digits": (json_with_value("9" * 5_000), "invalid_event"),
    "nested_100000_deep": (b"[" * 100_000, "invalid_event"),
    "nested_objects": (b'{"a":' * 100_000, "invalid_json"),
    "empty": (b"", "empty"),
    "field_missing": (json_event(source=...), "invalid_event"),
    "two_megabytes": (b"{" + b" " * 2 * 1024 * 1024, "oversize"),
    "bad_avro": (raw(event())[:-5], "invalid_avro"),
    "unknown_schema": (b"\xc3\x01" + b"\1" * 8, "unknown_schema"),
    "confluent": (b"\0\0\0\0\1", "unsupported_encoding"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_record_is_one_dead_letter_as_it_came_and_the_next_is_delivered(name: str) -> None:
    value, kind = BAD[name]
    world = World()
    of = known(world)
    await take(world, value, raw(of), key=b"\xffkey")
    assert letters(world) == [(kind, value)]
    assert world.broker.records(TOPICS.metrics_dlt)[0].key == b"\xffkey"
    found = world.broker.headers(TOPICS.metrics_dlt)[0]
    assert (found["ii-original-topic"], found["ii-original-offset"]) == (TOPICS.metrics, "0")
    assert found["ii-error-message"]
    assert results(world) == [kind, "accepted"]
    assert world.watcher.of(DeadLettered) == [DeadLettered(None, kind)]
    await world.engine().deliver(world.last(world.topic))
    assert world.row(of).status == "delivered"


async def test_a_tombstone_asks_for_nothing() -> None:
    world = World()
    await take(world, None)
    assert results(world) == ["tombstone"]
    assert world.broker.calls == []
    assert world.ledger.recorded == []


async def test_a_defect_of_ours_keeps_the_record_as_it_came() -> None:
    def defect(value: bytes) -> ImpactMetricEvent | Unreadable:
        raise MemoryError

    world = World()
    of = known(world)
    await take(world, raw(of), ingest=world.ingest(read=defect))
    assert letters(world) == [("internal_error", raw(of))]


async def test_a_connector_that_cannot_look_at_an_event_keeps_the_record_as_it_came() -> None:
    def defect(_: ImpactMetricEvent) -> bool:
        raise KeyError("x")

    world = World(RecordingConnector(understands=defect))
    of, worse = known(world), b"x"
    await take(world, raw(of), worse)
    assert letters(world) == [("internal_error", raw(of)), ("invalid_json", worse)]


async def test_a_dead_letter_too_large_for_its_topic_leaves_a_note_and_stops_nothing() -> None:
    world = World()
    of = known(world)
    world.broker.largest[TOPICS.metrics_dlt] = 2_000
    await take(world, b"x" * 5_000, raw(of), key=b"k" * 3_000)
    assert letters(world) == [("invalid_json", b"")]
    assert world.row(of).status == "pending"


# ------------------------------------------------------------- the same id again


@pytest.mark.parametrize("memory", ["there", "away", "flushed"])
async def test_the_same_content_elsewhere_is_a_duplicate_whatever_the_fast_memory_knows(memory: str) -> None:
    world = World()
    of = known(world)
    await take(world, raw(of))
    await world.engine().deliver(world.last(world.topic))
    world.seen.available = memory != "away"
    if memory == "flushed":
        world.seen.forget_everything()
    await take(world, raw(of))
    assert results(world) == ["accepted", "duplicate"]
    assert len(world.broker.records(world.topic)) == 1
    assert letters(world) == []
    assert world.ledger.recorded == ([1] if memory == "there" else [1, 1])


@pytest.mark.parametrize("memory", ["there", "away", "flushed"])
async def test_another_content_is_a_conflict_whatever_the_fast_memory_knows(memory: str) -> None:
    world = World()
    of = known(world)
    other = raw(msgspec.structs.replace(of, program_name="other"))
    await take(world, raw(of))
    world.seen.available = memory != "away"
    if memory == "flushed":
        world.seen.forget_everything()
    await take(world, other)
    assert letters(world) == [("id_conflict", other)]
    assert results(world) == ["accepted", "id_conflict"]
    assert world.state.events[of.event_id].body == to_avro(of)


async def test_json_and_avro_of_one_event_are_duplicates() -> None:
    world = World()
    await take(world, json_event(), json_event(unknown_field=1, occurred_at="2026-02-01T09:30:00.123+01:00"))
    assert results(world) == ["unrouted", "duplicate"]


async def test_of_one_id_thrice_in_a_batch_the_first_wins() -> None:
    world = World()
    of = known(world)
    other = raw(msgspec.structs.replace(of, program_name="other"))
    await take(world, raw(of), other, raw(of))
    assert results(world) == ["accepted", "id_conflict", "duplicate"]
    assert letters(world) == [("id_conflict", other)]
    assert world.row(of).hop == 1


async def test_after_a_conflict_the_first_content_is_still_the_one_remembered() -> None:
    world = World()
    of = known(world)
    await take(world, raw(of))
    await take(world, raw(msgspec.structs.replace(of, source="other")))
    await take(world, raw(of))
    assert results(world) == ["accepted", "id_conflict", "duplicate"]


async def test_a_duplicate_of_an_unfinished_event_publishes_it_again_as_it_stands() -> None:
    world = World()
    of = known(world)
    await take(world, raw(of))
    world.seen.forget_everything()
    await take(world, raw(of))
    assert [found["ii-hop"] for found in world.broker.headers(world.topic)] == ["1", "1"]
    for record in world.broker.records(world.topic):
        await world.engine().deliver(record)
    assert len(world.connector.requests) == 1


# ------------------------------------------------------------- crashes and absences


async def test_a_crash_between_commit_and_publication_publishes_when_the_record_is_read_again() -> None:
    world = World()
    of = known(world)
    record = world.broker.put(TOPICS.metrics, None, raw(of))
    judged = await world.ingest().judge([record])
    assert len(judged.outgoing) == 1
    assert world.broker.records(world.topic) == []
    await again(world.ingest(), [record])
    assert [found["ii-hop"] for found in world.broker.headers(world.topic)] == ["1"]
    assert results(world) == ["accepted", "redelivered"]
    await world.engine().deliver(world.last(world.topic))
    assert world.row(of).status == "delivered"


async def test_a_crash_between_publication_and_ack_leads_to_no_second_delivery() -> None:
    world = World()
    of = known(world)
    record = world.broker.put(TOPICS.metrics, None, raw(of))
    await again(world.ingest(), [record])
    await again(world.ingest(), [record])
    for request in world.broker.records(world.topic):
        await world.engine().deliver(request)
    assert len(world.connector.requests) == 1
    await again(world.ingest(), [record])
    assert len(world.broker.records(world.topic)) == 2, "what is finished is not published again"


async def test_the_fast_memory_never_knows_more_than_the_ledger_and_the_broker() -> None:
    world = World()
    of = known(world)
    record = world.broker.put(TOPICS.metrics, None, raw(of))
    world.ledger.failures = world.broker.refusals = 10**6
    task = asyncio.create_task(again(world.ingest(), [record]))
    await asyncio.sleep(10)
    assert not await world.seen.lookup([of.event_id])
    world.ledger.failures = 0
    await asyncio.sleep(10)
    assert world.row(of).status == "pending"
    assert not await world.seen.lookup([of.event_id])
    world.broker.refusals = 0
    await task
    assert set(await world.seen.lookup([of.event_id])) == {of.event_id}


async def test_while_the_ledger_is_away_it_waits_and_nothing_is_lost() -> None:
    world = World()
    of = known(world)
    world.ledger.failures = 12
    task = asyncio.create_task(take(world, raw(of), b"bad"))
    await asyncio.sleep(10)
    assert not task.done()
    assert world.broker.records(world.topic) == []
    await task
    assert world.row(of).status == "pending"
    assert len(letters(world)) == 1
    assert set(world.watcher.troubles) == {"record_events"}


async def test_published_hops_are_noted() -> None:
    world = World()
    of = known(world)
    publication = world.publication()
    ingest = Ingest(
        ledger=world.ledger,
        seen=world.seen,
        publication=publication,
        topics=TOPICS,
        connectors={world.platform: world.connector},
        observer=world.watcher,
    )
    await take(world, raw(of), ingest=ingest)
    await publication.flush()
    assert world.state.deliveries[delivery_id(of.event_id, world.platform)].published_hop == 1


# ------------------------------------------------------------- the pipeline


class Piped:
    def __init__(self, world: World, **bounds: int) -> None:
        self.acked: list[int] = []
        self.world = world
        self.pipeline = IngestPipeline(world.ingest(), self._done, **bounds)
        self.running = asyncio.create_task(self.pipeline.run())

    def _done(self, records: Sequence[IncomingRecord]) -> None:
        self.acked.extend(record.offset for record in records)

    async def put(self, *values: bytes | None) -> None:
        for value in values:
            await self.pipeline.put(self.world.broker.put(TOPICS.metrics, None, value))

    async def stop(self) -> None:
        self.running.cancel()
        await settle()


async def test_records_are_acked_in_order_and_only_after_publication() -> None:
    world = World()
    piped = Piped(world, largest=2)
    events = [known(world) for _ in range(7)]
    world.broker.refusals = 3
    await piped.put(*(raw(of) for of in events))
    await settle()
    assert piped.acked == []
    assert len(world.state.deliveries) > 2, "the next batch is judged while the one before is published"
    await asyncio.sleep(5)
    assert piped.acked == list(range(7))
    assert len(world.broker.records(world.topic)) >= 7
    await piped.stop()


async def test_a_batch_that_is_published_first_waits_for_the_acks_before_it() -> None:
    world = World()
    piped = Piped(world, largest=1)
    first, second = known(world), known(world)
    await piped.put(raw(first))
    world.broker.refusals = 1  # of the first one only; the second goes through while it waits
    await settle()
    await piped.put(raw(second))
    await settle()
    assert [record.value for record in world.broker.records(world.topic)] == [raw(second)]
    assert piped.acked == []
    await asyncio.sleep(1)
    assert piped.acked == [0, 1]
    await piped.stop()


async def test_while_the_broker_is_away_at_most_so_many_batches_are_judged_and_put_blocks() -> None:
    world = World()
    piped = Piped(world, largest=1, ahead=2)
    world.broker.refusals = 10**9
    events = [known(world) for _ in range(20)]
    putting = asyncio.create_task(piped.put(*(raw(of) for of in events)))
    await asyncio.sleep(60)
    assert not putting.done()
    assert len(world.state.events) == 3, "two in the air, one waiting for its slot"
    world.broker.refusals = 0
    await asyncio.sleep(10)
    assert putting.done()
    assert piped.acked == list(range(20))
    await piped.stop()


async def test_one_judge_is_in_the_air_at_a_time() -> None:
    world = World()
    piped = Piped(world, largest=3)
    company = uuid4()
    world.register(company)
    events = [event(company) for _ in range(10)]
    await piped.put(*(raw(of) for of in events))
    await asyncio.sleep(1)
    assert [world.row(of).seq for of in events] == list(range(1, 11))
    assert world.ledger.recorded == [3, 3, 3, 1]
    await piped.stop()


async def test_a_defect_in_a_conclusion_ends_the_pipeline_even_where_nothing_else_comes() -> None:
    world = World()
    piped = Piped(world)

    async def defect(_: object) -> None:
        raise ZeroDivisionError

    world.seen.remember = defect  # type: ignore[method-assign, assignment]
    await piped.put(raw(known(world)))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(piped.running, 1.0)
    assert piped.acked == []


async def test_stopping_the_pipeline_acks_nothing_more() -> None:
    world = World()
    piped = Piped(world)
    world.broker.refusals = 10**9
    await piped.put(raw(known(world)))
    await asyncio.sleep(1)
    await piped.stop()
    world.broker.refusals = 0
    await asyncio.sleep(60)
    assert piped.acked == []
    assert world.broker.records(world.topic) == []
