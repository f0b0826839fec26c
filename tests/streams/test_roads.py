"""Role, retry waiter and publisher against real brokers."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiokafka
import pytest

from delivery.observer import NullObserver
from delivery.ports import IncomingRecord, OutgoingRecord, Publisher, PublishFailed, RecordTooLarge
from delivery.publication import Publication
from delivery_log.memory import MemoryLedger
from impact_in.ledger_check.facts import _group_positions, read_topic
from schemas import headers
from streams.connection import KafkaConnection
from streams.publisher import KafkaPublisher
from streams.retry_waiter import RetryWaiter
from streams.role import Role, RoleSettings
from tests.servers import eventually
from tests.streams.conftest import Road


async def nothing(seconds: float) -> None:
    return None


@asynccontextmanager
async def reading(
    road: Road,
    topic: str,
    accept: Callable[[Role, IncomingRecord], Awaitable[None]],
    *,
    drain: Callable[[float], Awaitable[None]] = nothing,
) -> AsyncIterator[Role]:
    async def forward(record: IncomingRecord) -> None:
        await accept(role, record)

    role = Role(
        group=f"{road.name}-group",
        topic=topic,
        connection=road.connection,
        settings=RoleSettings(partitions=1, instance=road.member, session_timeout=3.0, fetch_wait=road.fetch_wait),
        accept=forward,
        drain=drain,
    )
    await role.start()
    try:
        yield role
    finally:
        await role.stop()


async def publish(road: Road, topic: str, *values: bytes) -> None:
    await road.publisher.publish([OutgoingRecord(topic, b"key", value, []) for value in values])


async def committed(road: Road, topic: str) -> int:
    [position] = await _group_positions(road.connection, f"{road.name}-group", [topic])
    return position.committed


async def test_only_what_is_done_without_a_gap_is_committed_and_the_rest_comes_again(road: Road) -> None:
    topic = await road.topic("metrics")
    await publish(road, topic, *(str(number).encode() for number in range(10)))
    first: list[IncomingRecord] = []

    async def all_but_the_fourth(role: Role, record: IncomingRecord) -> None:
        first.append(record)
        if record.offset != 3:
            role.done(record)

    async with reading(road, topic, all_but_the_fourth) as role:
        await eventually(lambda: len(first) == 10, timeout=30)
        assert role.lag() == {topic: 7}
    assert await committed(road, topic) == 3

    second: list[int] = []

    async def every_one(role: Role, record: IncomingRecord) -> None:
        second.append(record.offset)
        role.done(record)

    async with reading(road, topic, every_one) as role:
        await eventually(lambda: len(second) == 7, timeout=30)
        assert role.lag() == {topic: 0}
    assert second == [3, 4, 5, 6, 7, 8, 9]
    assert await committed(road, topic) == 10


async def test_what_ends_while_the_role_drains_is_committed(road: Road) -> None:
    topic = await road.topic("metrics")
    await publish(road, topic, b"a", b"b")
    held: list[tuple[Role, IncomingRecord]] = []

    async def hold(role: Role, record: IncomingRecord) -> None:
        held.append((role, record))

    async def drain(seconds: float) -> None:
        for role, record in held:
            role.done(record)

    async with reading(road, topic, hold, drain=drain):
        await eventually(lambda: len(held) == 2, timeout=30)
    assert await committed(road, topic) == 2


async def test_a_record_that_a_handler_fails_on_is_neither_lost_nor_acked(road: Road) -> None:
    topic = await road.topic("metrics")
    await publish(road, topic, b"a")
    failed = asyncio.Event()

    async def fail(role: Role, record: IncomingRecord) -> None:
        failed.set()
        raise RuntimeError("a defect")

    async with reading(road, topic, fail):
        await asyncio.wait_for(failed.wait(), 30)
    assert await committed(road, topic) == 0


async def test_null_values_keys_and_headers_arrive_as_they_were(road: Road) -> None:
    topic = await road.topic("metrics")
    producer = aiokafka.AIOKafkaProducer(**road.connection.for_aiokafka())
    await producer.start()
    try:
        await producer.send_and_wait(topic, value=None, key=b"k", headers=[("a", b"1"), ("a", b"2")])
        await producer.send_and_wait(topic, value=b"", key=None)
    finally:
        await producer.stop()
    records: list[IncomingRecord] = []

    async def keep(role: Role, record: IncomingRecord) -> None:
        records.append(record)
        role.done(record)

    async with reading(road, topic, keep):
        await eventually(lambda: len(records) == 2, timeout=30)
    assert (records[0].value, records[0].key, list(records[0].headers)) == (None, b"k", [("a", b"1"), ("a", b"2")])
    assert (records[1].value or b"", records[1].key) == (b"", None)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_batches_compressed_as_producers_like_are_read(road: Road, codec: str) -> None:
    topic = await road.topic("metrics")
    producer = aiokafka.AIOKafkaProducer(**road.connection.for_aiokafka(), compression_type=codec)
    await producer.start()
    try:
        await asyncio.gather(*[await producer.send(topic, value=b"x" * 500) for _ in range(20)])
    finally:
        await producer.stop()
    values: list[bytes | None] = []

    async def keep(role: Role, record: IncomingRecord) -> None:
        values.append(record.value)
        role.done(record)

    async with reading(road, topic, keep):
        await eventually(lambda: len(values) == 20, timeout=30)
    assert set(values) == {b"x" * 500}


async def test_progress_says_now_once_everything_is_worked_off(road: Road) -> None:
    topic = await road.topic("metrics")
    await publish(road, topic, b"a")
    records: list[IncomingRecord] = []

    async def hold(role: Role, record: IncomingRecord) -> None:
        records.append(record)

    async with reading(road, topic, hold) as role:
        await eventually(lambda: records, timeout=30)
        behind = role.progress()[topic, 0]
        await eventually(lambda: role.progress()[topic, 0] > behind, what="an unfinished record ages")
        role.done(records[0])
        await eventually(lambda: role.progress().get((topic, 0), 99.0) < 2.0, what="nothing is left to read")


@asynccontextmanager
async def waiting(
    road: Road,
    topic: str,
    delay: float,
    destination: str,
    *,
    publisher: Publisher | None = None,
    forwarded: Callable[[Sequence[float]], None] = lambda late: None,
) -> AsyncIterator[RetryWaiter]:
    waiter = RetryWaiter(
        connection=road.connection,
        group=f"{road.name}-group",
        instance=road.member,
        topics={topic: delay},
        destination=destination,
        publication=Publication(publisher or road.publisher, MemoryLedger(), NullObserver()),
        observer=NullObserver(),
        session_timeout=3.0,
        fetch_wait=road.fetch_wait,
        forwarded=forwarded,
    )
    await waiter.start()
    try:
        yield waiter
    finally:
        await waiter.stop()


def due_in(seconds: float) -> list[tuple[str, bytes]]:
    return headers.write_headers({headers.NOT_BEFORE: headers.rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))})


async def test_a_retry_waits_until_it_is_due_and_goes_back_in_order(road: Road) -> None:
    retry, destination = await road.topic("retry"), await road.topic("deliveries")
    due = time.time() + 1.0
    records = [OutgoingRecord(retry, b"key", str(number).encode(), due_in(1.0)) for number in range(20)]
    await road.publisher.publish(records)
    late: list[float] = []
    async with waiting(road, retry, 1.0, destination, forwarded=late.extend) as waiter:
        returned = await eventually(lambda: _when(road, destination, 20), timeout=30)
        await eventually(lambda: len(late) == 20, what="all are confirmed")
        assert waiter.lag() == {retry: 0}
    assert all(-0.002 <= seconds < 20.0 for seconds in late)
    assert [record.value for record in returned] == [str(number).encode() for number in range(20)]
    timestamps = await _timestamps(road, destination)
    assert min(timestamps) >= due - 0.002  # RFC 3339 with milliseconds cuts
    assert await committed(road, retry) == 20


async def test_a_waiter_that_ends_leaves_what_it_held_to_the_next(road: Road) -> None:
    retry, destination = await road.topic("retry"), await road.topic("deliveries")
    async with waiting(road, retry, 3.0, destination) as waiter:
        await eventually(lambda: waiter.joined, timeout=30)
        await road.publisher.publish([OutgoingRecord(retry, b"key", b"held", due_in(3.0))])
        await eventually(lambda: waiter.holds, what="the record is held")
        assert waiter.lag() == {retry: 1}
    assert await committed(road, retry) == 0
    async with waiting(road, retry, 3.0, destination):
        await eventually(lambda: _when(road, destination, 1), timeout=30)


async def test_a_header_cannot_make_a_record_wait_longer_than_its_topic(road: Road) -> None:
    retry, destination = await road.topic("retry"), await road.topic("deliveries")
    await road.publisher.publish([OutgoingRecord(retry, b"key", b"absurd", due_in(3600.0))])
    async with waiting(road, retry, 0.5, destination):
        await eventually(lambda: _when(road, destination, 1), timeout=15)


async def _when(road: Road, topic: str, count: int) -> list[object]:
    records = await read_topic(road.connection, topic)
    return records if len(records) >= count else []  # type: ignore[return-value]


async def _timestamps(road: Road, topic: str) -> list[float]:
    consumer = aiokafka.AIOKafkaConsumer(topic, **road.connection.for_aiokafka(), auto_offset_reset="earliest")
    await consumer.start()
    try:
        batch = await consumer.getmany(timeout_ms=5_000)
        return [record.timestamp / 1000 for records in batch.values() for record in records]
    finally:
        await consumer.stop()


async def test_records_of_concurrent_calls_keep_the_order_of_the_calls(road: Road) -> None:
    topic = await road.topic("metrics")
    calls = [
        road.publisher.publish([OutgoingRecord(topic, b"key", f"{call}-{n}".encode(), []) for n in range(50)])
        for call in range(10)
    ]
    await asyncio.gather(*calls)
    values = [record.value for record in await read_topic(road.connection, topic)]
    assert values == [f"{call}-{n}".encode() for call in range(10) for n in range(50)]


async def test_what_a_topic_will_never_take_is_told_apart(kafka_road: Road) -> None:
    road = kafka_road  # the embedded broker takes any size
    topic = await road.topic("small", **{"max.message.bytes": "2000"})
    large = OutgoingRecord(topic, b"key", secrets.token_bytes(5_000), [])
    with pytest.raises(RecordTooLarge) as raised:
        await road.publisher.publish([OutgoingRecord(topic, b"key", b"fits", []), large])
    assert raised.value.records == (large,)
    assert [record.value for record in await read_topic(road.connection, topic)] == [b"fits"]


@pytest.mark.fast
async def test_no_broker_is_a_clear_failure(free_port: int) -> None:
    with pytest.raises(PublishFailed, match="no broker can be reached"):
        await KafkaPublisher.open(KafkaConnection(bootstrap_servers=f"127.0.0.1:{free_port}"))


class _FailsOnce:
    """The first publication fails, without a record having arrived, once others are in the air behind it."""

    def __init__(self, publisher: KafkaPublisher) -> None:
        self._publisher = publisher
        self._calls = 0
        self._another = asyncio.Event()

    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        self._calls += 1
        if self._calls == 1:
            await self._another.wait()
            raise PublishFailed("no confirmation")
        await self._publisher.publish(records)
        self._another.set()


async def test_a_retry_that_no_broker_confirmed_goes_again_with_all_that_came_after_it(road: Road) -> None:
    retry, destination = await road.topic("retry"), await road.topic("deliveries")
    async with waiting(road, retry, 2.0, destination, publisher=_FailsOnce(road.publisher)) as waiter:
        await eventually(lambda: waiter.joined, timeout=30)
        records = [OutgoingRecord(retry, b"key", str(n).encode(), due_in(1.0 + n / 10)) for n in range(6)]
        await road.publisher.publish(records)
        await eventually(lambda: _when(road, destination, 6), timeout=30)
        await eventually(lambda: not waiter.holds, what="all have gone")
    values = [int(record.value or b"") for record in await read_topic(road.connection, destination)]
    assert values[values.index(0) :] == [0, 1, 2, 3, 4, 5]  # whatever overtook it came once more, in order
    assert await committed(road, retry) == 6
