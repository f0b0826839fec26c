"""Between a platform's reader and its engine."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest

from delivery.intake import Intake
from delivery.ports import IncomingRecord
from delivery_log.contract import Changed, Parked
from tests.delivery.virtual_time import settle
from tests.delivery.world import World, event

pytestmark = pytest.mark.fast


def record(key: bytes, offset: int) -> IncomingRecord:
    return IncomingRecord("t", 0, offset, 0.0, key, b"")


class Engine:
    """Works on nothing until it is let; parks at once, or fails to."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.delivered: list[int] = []
        self.parked: list[int] = []
        self.fails_to_park = False

    async def deliver(self, record: IncomingRecord) -> None:
        await self.let.wait()
        self.delivered.append(record.offset)

    async def park(self, record: IncomingRecord) -> None:
        if self.fails_to_park:
            raise RuntimeError("a defect")
        self.parked.append(record.offset)


async def test_what_is_over_a_companys_share_is_put_aside_and_acked_and_others_get_their_turn() -> None:
    engine, done = Engine(), list[int]()
    intake = Intake(
        engine, ordered=True, done=lambda record: done.append(record.offset), on_defect=lambda _: None, in_memory=8
    )
    for offset in range(5):
        await intake.accept(record(b"many", offset))
    await intake.accept(record(b"another", 5))
    await settle()
    assert engine.parked == done == [2, 3, 4]
    engine.let.set()
    await intake.drain(1.0)
    assert sorted(engine.delivered) == [0, 1, 5]


async def test_without_an_order_nobody_has_a_share() -> None:
    engine = Engine()
    intake = Intake(engine, ordered=False, done=lambda _: None, on_defect=lambda _: None, in_memory=8)
    for offset in range(8):
        await intake.accept(record(b"many", offset))
    await settle()
    assert engine.parked == []
    await intake.drain(0.0)


async def test_what_a_defect_hits_is_told_and_acked() -> None:
    engine, done, told = Engine(), list[int](), list[Exception]()
    engine.fails_to_park = True
    intake = Intake(
        engine, ordered=True, done=lambda record: done.append(record.offset), on_defect=told.append, in_memory=4
    )
    for offset in range(2):
        await intake.accept(record(b"many", offset))
    await settle()
    assert (done, [str(error) for error in told]) == ([1], ["a defect"])
    await intake.drain(0.0)


async def test_a_drain_waits_for_what_is_being_parked() -> None:
    world = World()
    company = uuid4()
    records = await world.arrive(*(event(company) for _ in range(3)))
    engine, done = world.engine(), list[int]()
    held = asyncio.Event()
    park = world.ledger.park

    async def slowly(waiting: Sequence[Parked]) -> list[Changed | None]:
        await held.wait()
        return await park(waiting)

    world.ledger.park = slowly  # type: ignore[method-assign]
    intake = Intake(
        engine, ordered=True, done=lambda record: done.append(record.offset), on_defect=lambda _: None, in_memory=4
    )
    for one in records:
        await intake.accept(one)
    draining = asyncio.create_task(intake.drain(5.0))
    await asyncio.sleep(1.0)
    assert not draining.done()
    held.set()
    await draining
    assert sorted(done) == [0, 1, 2]


async def test_a_backlog_is_parked_by_few_statements() -> None:
    world = World()
    company = uuid4()
    records = await world.arrive(*(event(company) for _ in range(201)))
    calls: list[int] = []
    park = world.ledger.park

    async def counted(waiting: Sequence[Parked]) -> list[Changed | None]:
        calls.append(len(waiting))
        await asyncio.sleep(0.01)  # a round trip
        return await park(waiting)

    world.ledger.park = counted  # type: ignore[method-assign]
    engine = Engine()
    engine.park = world.engine().park  # type: ignore[method-assign]
    done: list[int] = []
    intake = Intake(
        engine, ordered=True, done=lambda record: done.append(record.offset), on_defect=lambda _: None, in_memory=4
    )
    began = asyncio.get_running_loop().time()
    for one in records:
        await intake.accept(one)
    engine.let.set()
    await intake.drain(5.0)
    assert len(done) == 201
    assert len(calls) <= 2
    assert asyncio.get_running_loop().time() - began < 0.1
