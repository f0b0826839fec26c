"""The four musts of using Faust without loss: each is broken here on purpose, with stock Faust, beside ours in the same
situation.

Where a test says that the upstream bug is gone: read Faust's source anew (`test_faust_internals.py` has changed then,
too), and take away the workaround that it names.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import faust
import pytest
from yarl import URL

from delivery.ports import IncomingRecord, OutgoingRecord
from impact_in.ledger_check.facts import _group_positions, read_topic
from streams import retry_waiter
from streams.role import Role, RoleSettings
from tests.servers import eventually
from tests.streams.conftest import Road
from tests.streams.test_roads import due_in, nothing, waiting

pytestmark = [pytest.mark.kafka, pytest.mark.proof, pytest.mark.timeout(120)]

# Long beside what a healthy run takes (a join: 3 s; a record: milliseconds), for what must not happen meanwhile.
STALLED = 6.0


def stock(road: Road, datadir: Path, **options: Any) -> faust.App:
    """Faust as it comes, but for what a test needs to be quick."""
    datadir.mkdir(exist_ok=True)
    usual = {
        "broker": [URL(f"kafka://{server}") for server in road.connection.servers()],
        "datadir": str(datadir),
        "store": "memory://",
        "web_enabled": False,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "stream_wait_empty": False,
        "consumer_auto_offset_reset": "earliest",
        "broker_session_timeout": 10.0,
        "broker_heartbeat_interval": 0.5,
        "broker_rebalance_timeout": 10.0,
        "broker_commit_interval": 0.2,
    }
    return faust.App(f"{road.name}-stock", **usual | options)


def raw(app: faust.App, topic: str) -> Any:
    return app.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


@asynccontextmanager
async def running(*apps: Any) -> AsyncIterator[None]:
    """Faust apps or roles, started in this order."""
    started: list[Any] = []
    try:
        for app in apps:
            if isinstance(app, faust.App):
                app.finalize()
            started.append(app)
            await app.start()
        yield
    finally:
        for app in reversed(started):
            await app.stop()


def ours(road: Road, topic: str, accept: Callable[[Role, IncomingRecord], Awaitable[None]], **settings: Any) -> Role:
    async def forward(record: IncomingRecord) -> None:
        await accept(role, record)

    role = Role(
        group=f"{road.name}-ours-{topic}",
        topic=topic,
        connection=road.connection,
        settings=RoleSettings(**{"partitions": 1, "session_timeout": 10.0, "commit_interval": 0.2} | settings),
        accept=forward,
        drain=nothing,
    )
    return role


async def filled(road: Road, suffix: str, count: int, *, partitions: int = 1) -> str:
    topic = await road.topic(suffix, partitions)
    await road.publisher.publish([OutgoingRecord(topic, b"key", str(n).encode(), []) for n in range(count)])
    return topic


async def committed(road: Road, group: str, topic: str) -> int:
    [position] = await _group_positions(road.connection, group, [topic])
    return int(position.committed)


async def happens(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


# ---- 1. Acks in offset order, by a tracker of our own

DONE_FIRST = (5, 6)


async def test_must_1_acks_out_of_order_are_committed_past_a_gap(kafka_road: Road, tmp_path: Path) -> None:
    road, topic = kafka_road, await filled(kafka_road, "metrics", 10)
    app = stock(road, tmp_path / "stock")
    seen: list[int] = []

    @app.agent(raw(app, topic))
    async def read(stream: Any) -> None:
        async for event in stream.noack().events():
            seen.append(event.message.offset)
            if event.message.offset in DONE_FIRST:
                event.ack()

    async with running(app):
        await eventually(lambda: len(seen) == 10, timeout=20)
    lost = await committed(road, f"{road.name}-stock", topic) - len(DONE_FIRST)
    assert lost == 5, "the upstream bug is gone: the workaround in streams/ack_tracker.py may go"


async def test_must_1_ours_commits_nothing_past_a_gap_and_reads_all_again(kafka_road: Road) -> None:
    road, topic = kafka_road, await filled(kafka_road, "metrics", 10)
    seen: list[int] = []

    async def two_of_ten(role: Role, record: IncomingRecord) -> None:
        seen.append(record.offset)
        if record.offset in DONE_FIRST:
            role.done(record)

    async with running(ours(road, topic, two_of_ten, instance="one")):
        await eventually(lambda: len(seen) == 10, timeout=20)
    assert await committed(road, f"{road.name}-ours-{topic}", topic) == 0
    async with running(ours(road, topic, two_of_ten, instance="one")):
        await eventually(lambda: len(seen) == 20, timeout=20)
    assert seen == [*range(10), *range(10)]


# ---- 2. No waiting for empty streams


@pytest.mark.parametrize("wait_empty", [True, False])
async def test_must_2_by_default_one_slow_event_keeps_a_joining_member_out(
    kafka_road: Road, tmp_path: Path, wait_empty: bool
) -> None:
    road, topic = kafka_road, await filled(kafka_road, "metrics", 1, partitions=2)
    slow, go_on, joined = asyncio.Event(), asyncio.Event(), asyncio.Event()
    apps = [stock(road, tmp_path / str(n), stream_wait_empty=wait_empty) for n in range(2)]
    for app in apps:

        @app.agent(raw(app, topic))
        async def read(stream: Any) -> None:
            async for _ in stream:
                slow.set()
                await go_on.wait()

    async def on_assigned(app: Any, assigned: Any, **_: Any) -> None:
        if assigned:
            joined.set()

    apps[1].on_partitions_assigned.connect(on_assigned)
    try:
        async with running(apps[0]):
            assert await happens(slow, 20)
            apps[1].finalize()
            starting = asyncio.create_task(apps[1].start())  # which waits until it has joined
            try:
                let_in = await happens(joined, STALLED if wait_empty else 20)
            finally:
                go_on.set()
                await starting
                await apps[1].stop()
    finally:
        go_on.set()
    assert let_in is not wait_empty, (
        "the upstream bug is gone: stream_wait_empty=False in streams/role.py may go"
        if wait_empty
        else "stream_wait_empty=False no longer helps: a slow event keeps members out"
    )


async def test_must_2_ours_lets_a_member_join_beside_a_slow_event(kafka_road: Road) -> None:
    road, topic = kafka_road, await filled(kafka_road, "metrics", 1, partitions=2)
    slow = asyncio.Event()

    async def never_done(role: Role, record: IncomingRecord) -> None:
        slow.set()

    first, second = (ours(road, topic, never_done, partitions=2) for _ in range(2))
    async with running(first):
        assert await happens(slow, 20)
        async with running(second):
            await eventually(lambda: second.share() == 0.5, timeout=20)
            assert not first.app.crashed


# ---- 3. Buffers that never stop the fetcher, and no poll interval


async def test_must_3_with_small_buffers_a_sleeping_agent_stalls_the_other(kafka_road: Road, tmp_path: Path) -> None:
    road = kafka_road
    sleepy, lively = await filled(road, "sleepy", 1_000), await road.topic("lively")
    asleep, wake, other = asyncio.Event(), asyncio.Event(), asyncio.Event()
    app = stock(road, tmp_path / "stock", stream_buffer_maxsize=16)

    @app.agent(raw(app, sleepy), name="sleeping")
    async def sleeping(stream: Any) -> None:
        async for _ in stream:
            asleep.set()
            await wake.wait()

    @app.agent(raw(app, lively), name="awake")
    async def awake(stream: Any) -> None:
        async for _ in stream:
            other.set()

    try:
        async with running(app):
            assert await happens(asleep, 20)
            await road.publisher.publish([OutgoingRecord(lively, b"key", b"now", [])])
            stalled = not await happens(other, STALLED)
            wake.set()
            assert await happens(other, 20)
    finally:
        wake.set()
    assert stalled, "the upstream bug is gone: the sized buffers in streams/role.py, and an app a role, may go"


async def test_must_3_ours_reads_one_topic_while_the_handler_of_another_sleeps(kafka_road: Road) -> None:
    road = kafka_road
    sleepy, lively = await filled(road, "sleepy", 10_000), await road.topic("lively")
    asleep, wake, other = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def sleep(role: Role, record: IncomingRecord) -> None:
        asleep.set()
        await wake.wait()

    async def take(role: Role, record: IncomingRecord) -> None:
        role.done(record)
        other.set()

    try:
        async with running(ours(road, sleepy, sleep), ours(road, lively, take)):
            assert await happens(asleep, 20)
            await road.publisher.publish([OutgoingRecord(lively, b"key", b"now", [])])
            assert await happens(other, STALLED)
            wake.set()
    finally:
        wake.set()


# ---- 4. Never `consumer.pause_partitions`


async def test_must_4_a_paused_partition_loses_the_rest_of_its_fetch(kafka_road: Road, tmp_path: Path) -> None:
    road, topic = kafka_road, await filled(kafka_road, "metrics", 1_000)
    app = stock(road, tmp_path / "stock")
    seen: list[int] = []
    paused = asyncio.Event()

    @app.agent(raw(app, topic))
    async def read(stream: Any) -> None:
        async for event in stream.events():
            seen.append(event.message.offset)
            if event.message.offset == 20:  # not the first: Faust takes 0 for no offset
                app.consumer.pause_partitions({event.message.tp})
                paused.set()

    def position() -> int:
        consumer = app.consumer._thread._consumer
        [partition] = consumer.assignment()
        return int(consumer._subscription.subscription.assignment.state_value(partition).position)

    async with running(app):
        assert await happens(paused, 20)
        await eventually(lambda: position() == 1_000, timeout=10, what="the fetch was handed over")
        app.consumer.resume_partitions(app.consumer.assignment())
        await road.publisher.publish([OutgoingRecord(topic, b"key", b"more", []) for _ in range(10)])
        await eventually(lambda: 1_009 in seen, timeout=20)
    passed = set(range(await committed(road, f"{road.name}-stock", topic))) - set(seen)
    assert passed, "the upstream bug is gone: streams/retry_waiter.py may be an agent that pauses through Faust"


async def test_must_4_our_waiter_pauses_in_the_middle_of_a_fetch_and_loses_nothing(
    kafka_road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_waiter, "_AHEAD", 20)
    monkeypatch.setattr(retry_waiter, "_POLL_RECORDS", 50)
    road, retry, destination = kafka_road, await kafka_road.topic("retry"), await kafka_road.topic("deliveries")
    await road.publisher.publish(
        [OutgoingRecord(retry, b"key", str(n).encode(), due_in(2.0 + n / 1_000)) for n in range(1_000)]
    )
    async with waiting(road, retry, 4.0, destination) as waiter:
        await eventually(lambda: waiter._consumer.paused(), timeout=20, what="it pauses")
        await eventually(lambda: waiter.holds, timeout=20)

        async def all_there() -> bool:
            return len(await read_topic(road.connection, destination)) >= 1_000

        await eventually(all_there, timeout=30)
        await eventually(lambda: not waiter.holds, timeout=20)
    values = [int(record.value or b"") for record in await read_topic(road.connection, destination)]
    assert values == list(range(1_000))
    assert await committed(road, f"{road.name}-group", retry) == 1_000
