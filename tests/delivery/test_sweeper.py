"""What no longer moves is published again; what may still move is left alone."""

import asyncio

import pytest

from connectors.contract import Unavailable
from connectors.recording import RecordingConnector
from delivery.observer import Swept
from delivery.sweeper import Sweeper
from delivery_log.contract import LedgerUnavailable, Progress
from tests.delivery.virtual_time import settle
from tests.delivery.world import ANOTHER, TOPICS, World, event

pytestmark = pytest.mark.fast


def sweeper(world: World, **more: float) -> Sweeper:
    return Sweeper(
        ledger=world.ledger,
        publication=world.publication(),
        topics=TOPICS,
        platforms=[world.swept_platform()],
        observer=world.watcher,
        **more,  # type: ignore[arg-type]
    )


def reasons(world: World) -> list[str]:
    return [happening.reason for happening in world.watcher.of(Swept)]


async def report(world: World, age: float, *topics: str) -> None:
    names = topics or (world.topic, world.retry_topic(5), world.retry_topic(60))
    await world.ledger.report_progress([Progress(topic=name, partition=0, age=age) for name in names])


def know_all(world: World, of: Sweeper) -> None:
    for name in (world.topic, world.retry_topic(5), world.retry_topic(60)):
        of.know_partitions(name, 1)


async def confirmed(world: World) -> None:
    await world.ledger.confirm_published([(row.id, row.hop) for row in world.state.deliveries.values()])


async def test_a_row_whose_publication_nobody_confirmed_is_published_again_after_the_grace() -> None:
    world = World()
    of = event()
    await world.arrive(of)
    turn = sweeper(world)
    await asyncio.sleep(4)
    assert await turn.sweep() == 0
    await asyncio.sleep(2)
    assert await turn.sweep() == 1
    assert reasons(world) == ["unpublished"]
    assert world.broker.headers(world.topic)[-1]["ii-hop"] == "2" == str(world.row(of).hop)
    await world.engine().deliver(world.broker.records(world.topic)[0])
    assert world.watcher.skipped == ["stale"]
    await world.engine().deliver(world.last(world.topic))
    assert world.row(of).status == "delivered"


async def test_as_long_as_no_partition_is_known_nothing_is_missing() -> None:
    world = World()
    await world.arrive(event())
    await confirmed(world)
    await report(world, 0.0)
    await asyncio.sleep(10)
    assert await sweeper(world).sweep() == 0


async def test_as_long_as_one_partition_does_not_report_nothing_is_missing() -> None:
    world = World()
    await world.arrive(event())
    await confirmed(world)
    turn = sweeper(world)
    turn.know_partitions(world.topic, 2)
    await asyncio.sleep(10)
    await report(world, 0.0)
    assert await turn.sweep() == 0


async def test_as_long_as_something_as_old_is_unread_nothing_is_missing() -> None:
    world = World()
    await world.arrive(event())
    await confirmed(world)
    turn = sweeper(world)
    know_all(world, turn)
    await asyncio.sleep(10)
    await report(world, 9.0)
    assert await turn.sweep() == 0


async def test_a_record_that_was_worked_off_without_a_trace_is_missing_and_published_again() -> None:
    world = World()
    of = event()
    await world.arrive(of)
    await confirmed(world)
    turn = sweeper(world)
    know_all(world, turn)
    await asyncio.sleep(10)
    await report(world, 0.0)
    assert await turn.sweep() == 1
    assert reasons(world) == ["missing"]
    assert world.row(of).hop == 2
    assert await turn.sweep() == 0, "what was just published is not missing yet"


async def test_an_old_report_is_no_report() -> None:
    world = World()
    await world.arrive(event())
    await confirmed(world)
    turn = sweeper(world)
    know_all(world, turn)
    await asyncio.sleep(10)
    await report(world, 0.0)
    await asyncio.sleep(16)
    assert await turn.sweep() == 0


async def test_a_record_that_vanished_from_a_retry_topic_is_missing_once_its_time_has_come() -> None:
    world = World(RecordingConnector(script=[Unavailable()]))
    of = event()
    [record] = await world.arrive(of)
    await world.engine().deliver(record)
    await confirmed(world)
    turn = sweeper(world)
    know_all(world, turn)
    await asyncio.sleep(4)
    await report(world, 0.0)
    assert await turn.sweep() == 0
    await asyncio.sleep(10)
    await report(world, 0.0)
    assert await turn.sweep() == 1
    assert reasons(world) == ["missing"]
    await world.engine().deliver(world.last(world.topic))
    assert world.row(of).status == "delivered"


async def test_a_crashed_workers_rows_are_published_again_when_their_lease_is_over() -> None:
    class Silent(RecordingConnector):
        async def send(self, shipments: object, idempotency_key: object) -> list:  # type: ignore[type-arg, override]
            await asyncio.Event().wait()
            return []

    world = World(Silent())
    of = event()
    [record] = await world.arrive(of)
    task = asyncio.create_task(world.engine().deliver(record))
    await settle()
    task.cancel()
    turn = sweeper(world)
    await asyncio.sleep(59)
    assert await turn.sweep() == 0
    await asyncio.sleep(2)
    assert await turn.sweep() == 1
    assert reasons(world) == ["lease_ended"]
    await world.engine(ANOTHER, RecordingConnector()).deliver(world.last(world.topic))
    assert world.row(of).status == "delivered"


async def test_a_blocked_row_is_woken_when_its_elder_was_cancelled() -> None:
    world = World(RecordingConnector(script=[Unavailable()]))
    elder = event()
    younger = event(elder.company_id)
    for record in await world.arrive(elder, younger):
        await world.engine().deliver(record)
    turn = sweeper(world)
    assert await turn.sweep() == 0
    world.row(elder).status = "failed"
    assert await turn.sweep() == 1
    assert reasons(world) == ["woken"]


async def test_finished_rows_are_left_alone() -> None:
    world = World()
    of = event()
    [record] = await world.arrive(of)
    await world.engine().deliver(record)
    turn = sweeper(world)
    know_all(world, turn)
    await asyncio.sleep(100_000)
    await report(world, 0.0)
    assert await turn.sweep() == 0


async def test_run_sweeps_until_nothing_is_left_and_waits_out_the_ledger() -> None:
    world = World()
    await world.arrive(*(event() for _ in range(7)))
    turn = sweeper(world, at_once=3)
    sweep = world.ledger.sweep
    away = 2

    async def sometimes(*positional: object, **named: object) -> object:
        nonlocal away
        if away:
            away -= 1
            raise LedgerUnavailable("away")
        return await sweep(*positional, **named)  # type: ignore[arg-type]

    world.ledger.sweep = sometimes  # type: ignore[method-assign, assignment]
    running = asyncio.create_task(turn.run())
    await asyncio.sleep(6.5)
    assert reasons(world) == ["unpublished"] * 7
    assert world.watcher.troubles == ["sweep"] * 2
    running.cancel()
    await settle()


async def test_a_crash_between_the_ledger_and_the_broker_is_healed_by_the_next_turn() -> None:
    world = World()
    of = event()
    await world.arrive(of)
    await asyncio.sleep(6)
    world.broker.refusals = 10**6
    task = asyncio.create_task(sweeper(world).sweep())
    await settle()
    task.cancel()
    await settle()
    world.broker.refusals = 0
    await asyncio.sleep(6)
    assert await sweeper(world).sweep() == 1
    assert world.broker.headers(world.topic)[-1]["ii-hop"] == "3" == str(world.row(of).hop)
