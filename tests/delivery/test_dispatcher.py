"""One at a time for a key, in order; different keys at once; all of it bounded."""

import asyncio
import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.dispatcher import KeyedDispatcher
from tests.delivery.virtual_time import VirtualLoop, settle
from tests.schemas.events import patient

pytestmark = pytest.mark.fast

Item = tuple[str, int]


class Work:
    """Handles items when told to."""

    def __init__(self) -> None:
        self.started: list[Item] = []
        self.ended: list[Item] = []
        self.defects: list[tuple[Item, Exception]] = []
        self.gates: dict[Item, asyncio.Event] = defaultdict(asyncio.Event)
        self.raising: set[Item] = set()

    async def handle(self, item: Item) -> None:
        self.started.append(item)
        await self.gates[item].wait()
        if item in self.raising:
            raise ValueError("a defect")
        self.ended.append(item)

    def on_defect(self, item: Item, error: Exception) -> None:
        self.defects.append((item, error))

    async def finish(self, *items: Item) -> None:
        for item in items:
            self.gates[item].set()
        await settle()


async def test_a_keys_items_run_one_after_another_in_order() -> None:
    work = Work()
    dispatcher = KeyedDispatcher(work.handle, work.on_defect)
    for number in range(3):
        await dispatcher.submit("a", ("a", number))
    await settle()
    assert work.started == [("a", 0)]
    await work.finish(("a", 2), ("a", 0))
    assert work.started == [("a", 0), ("a", 1)]
    await work.finish(("a", 1))
    assert work.ended == [("a", 0), ("a", 1), ("a", 2)]
    assert dispatcher.busy == 0


async def test_different_keys_and_no_key_run_at_once() -> None:
    work = Work()
    dispatcher = KeyedDispatcher(work.handle, work.on_defect)
    for key, item in ((b"a", ("a", 0)), (b"b", ("b", 0)), (None, ("n", 0)), (None, ("n", 1))):
        await dispatcher.submit(key, item)
    await settle()
    assert len(work.started) == 4


async def test_at_most_so_many_run_at_once() -> None:
    work = Work()
    dispatcher = KeyedDispatcher(work.handle, work.on_defect, in_flight=2)
    for number in range(4):
        await dispatcher.submit(None, ("n", number))
    await settle()
    assert work.started == [("n", 0), ("n", 1)]
    await work.finish(("n", 1))
    assert work.started == [("n", 0), ("n", 1), ("n", 2)]


@pytest.mark.parametrize("key", [None, "a"])
async def test_submit_waits_while_all_places_are_taken(key: str | None) -> None:
    work = Work()
    dispatcher = KeyedDispatcher(work.handle, work.on_defect, in_flight=1, waiting=2)
    await dispatcher.submit(key, ("a", 0))
    await dispatcher.submit(key, ("a", 1))
    third = asyncio.create_task(dispatcher.submit(key, ("a", 2)))
    await settle()
    assert not third.done()
    await work.finish(("a", 0))
    assert third.done()
    await work.finish(("a", 1), ("a", 2))
    assert work.ended == [("a", 0), ("a", 1), ("a", 2)]


async def test_a_defect_is_told_and_stops_neither_its_key_nor_a_place() -> None:
    work = Work()
    dispatcher = KeyedDispatcher(work.handle, work.on_defect, in_flight=1, waiting=1)
    work.raising = {("a", 0), ("n", 0)}
    for key, item in (("a", ("a", 0)), ("a", ("a", 1)), (None, ("n", 0)), (None, ("n", 1))):
        work.gates[item].set()
        await dispatcher.submit(key, item)
    await settle()
    assert [item for item, _ in work.defects] == [("a", 0), ("n", 0)]
    assert work.ended == [("a", 1), ("n", 1)]


async def test_drain_waits_for_all_and_says_whether_it_came_to_an_end() -> None:
    work = Work()
    dispatcher = KeyedDispatcher(work.handle, work.on_defect)
    assert await dispatcher.drain(1.0)
    await dispatcher.submit("a", ("a", 0))
    await dispatcher.submit("a", ("a", 1))
    assert not await dispatcher.drain(1.0)
    await work.finish(("a", 0), ("a", 1))
    assert await dispatcher.drain(1.0)
    assert len(work.ended) == 2


async def test_close_cancels_what_runs_and_forgets_what_waits() -> None:
    work = Work()
    dispatcher = KeyedDispatcher(work.handle, work.on_defect)
    for item in (("a", 0), ("a", 1), ("b", 0)):
        await dispatcher.submit(item[0], item)
    await settle()
    await dispatcher.close()
    assert dispatcher.busy == 0
    await work.finish(("a", 0), ("a", 1), ("b", 0))
    assert work.ended == []
    assert work.defects == []


@pytest.mark.parametrize("started", [True, False])
async def test_after_a_rebalance_all_places_are_free_and_every_key_runs(started: bool) -> None:
    work = Work()
    dispatcher = KeyedDispatcher(work.handle, work.on_defect, in_flight=2, waiting=4)
    for _ in range(3):
        for key, item in (("a", ("a", 0)), ("a", ("a", 1)), (None, ("n", 0)), (None, ("n", 1))):
            await dispatcher.submit(key, item)
        if started:
            await settle()
        await dispatcher.close()
    items = [("a", 5), ("a", 6), ("n", 5), ("n", 6)]
    for item in items:
        work.gates[item].set()
        await asyncio.wait_for(dispatcher.submit(item[0], item), 1.0)
    await settle()
    assert sorted(work.ended) == items


@patient
@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=25), st.integers(1, 4), st.randoms())
def test_whatever_the_load_each_key_keeps_its_order_and_everything_runs(
    keys: list[str | None], in_flight: int, chance: random.Random
) -> None:
    async def run() -> None:
        running: set[str] = set()
        ended: dict[str | None, list[int]] = defaultdict(list)
        most = 0

        async def handle(item: tuple[str | None, int]) -> None:
            nonlocal most
            key, number = item
            if key is not None:
                assert key not in running
                running.add(key)
            most = max(most, len(running))
            await asyncio.sleep(chance.random())
            ended[key].append(number)
            running.discard(key or "")

        defects: list[Exception] = []
        dispatcher: KeyedDispatcher[tuple[str | None, int]] = KeyedDispatcher(
            handle, lambda _, error: defects.append(error), in_flight=in_flight, waiting=3
        )
        for number, key in enumerate(keys):
            await dispatcher.submit(key, (key, number))
        assert await dispatcher.drain(1_000)
        assert not defects
        assert most <= in_flight
        for key in set(keys) - {None}:
            assert ended[key] == [number for number, of in enumerate(keys) if of == key]
        assert sorted(number for numbers in ended.values() for number in numbers) == list(range(len(keys)))

    loop = VirtualLoop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()


async def test_a_key_holds_its_share_of_the_places_and_no_more() -> None:
    going = asyncio.Event()

    async def handle(item: str) -> None:
        await going.wait()

    dispatcher: KeyedDispatcher[str] = KeyedDispatcher(handle, lambda *_: None, waiting=8, share=2)
    assert [await dispatcher.submit("hot", "x") for _ in range(4)] == [True, True, False, False]
    assert await dispatcher.submit("other", "y")
    going.set()
    assert await dispatcher.drain(1)
    assert await dispatcher.submit("hot", "x")
    await dispatcher.drain(1)
