"""One call for all that is at hand."""

import asyncio
from collections.abc import Sequence

import pytest

from delivery.micro_batch import MicroBatcher
from tests.delivery.virtual_time import settle

pytestmark = pytest.mark.fast


class Slow:
    """Doubles numbers; each call waits for a release."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.releases: asyncio.Semaphore = asyncio.Semaphore(0)
        self.error: BaseException | None = None

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        await self.releases.acquire()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return [2 * item for item in items]


async def test_what_is_ready_together_goes_together_and_everyone_gets_his_own_answer() -> None:
    slow = Slow()
    slow.releases.release()
    batcher = MicroBatcher(slow)
    assert await asyncio.gather(*(batcher.submit(number) for number in range(5))) == [0, 2, 4, 6, 8]
    assert slow.calls == [[0, 1, 2, 3, 4]]


async def test_an_idle_batcher_calls_at_once() -> None:
    slow = Slow()
    batcher = MicroBatcher(slow)
    task = asyncio.create_task(batcher.submit(1))
    before = asyncio.get_running_loop().time()
    await settle()
    assert slow.calls == [[1]]
    assert asyncio.get_running_loop().time() - before < 0.001
    slow.releases.release()
    assert await task == 2


async def test_what_comes_during_a_call_waits_and_goes_together_in_its_order() -> None:
    slow = Slow()
    batcher = MicroBatcher(slow)
    tasks = [asyncio.create_task(batcher.submit(0))]
    await settle()
    for number in range(1, 4):
        tasks.append(asyncio.create_task(batcher.submit(number)))
        await settle()
    assert slow.calls == [[0]]
    slow.releases.release()
    slow.releases.release()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6]
    assert slow.calls == [[0], [1, 2, 3]]


async def test_a_call_has_at_most_the_largest_number() -> None:
    slow = Slow()
    batcher = MicroBatcher(slow, largest=2)
    tasks = [asyncio.create_task(batcher.submit(number)) for number in range(5)]
    for _ in range(3):
        slow.releases.release()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8]
    assert slow.calls == [[0, 1], [2, 3], [4]]


async def test_of_one_key_one_item_goes_a_call() -> None:
    slow = Slow()
    batcher = MicroBatcher(slow, key=lambda number: number % 10)
    tasks = [asyncio.create_task(batcher.submit(number)) for number in (1, 11, 2, 21)]
    for _ in range(3):
        slow.releases.release()
    assert await asyncio.gather(*tasks) == [2, 22, 4, 42]
    assert slow.calls == [[1, 2], [11], [21]]


async def test_an_error_reaches_every_caller_whom_it_concerns_and_nobody_else() -> None:
    async def away(items: Sequence[int]) -> list[int]:
        if 9 not in items:
            raise ValueError("no")
        return [2 * item for item in items]

    batcher = MicroBatcher(away)
    failing = [asyncio.create_task(batcher.submit(number)) for number in range(3)]
    results = await asyncio.gather(*failing, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    assert await batcher.submit(9) == 18


async def test_too_few_answers_hang_nobody() -> None:
    async def forgetful(items: Sequence[int]) -> list[int]:
        return list(items)[:1]

    batcher = MicroBatcher(forgetful)
    # Too few answers to the two of them: each is asked for alone.
    assert await asyncio.gather(batcher.submit(1), batcher.submit(2)) == [1, 2]
    assert await batcher.submit(3) == 3


async def test_an_item_that_fails_its_call_fails_nobody_else() -> None:
    calls: list[list[int]] = []

    async def picky(items: Sequence[int]) -> list[int]:
        calls.append(list(items))
        if 2 in items:
            raise ValueError("two")
        return [item * 2 for item in items]

    batcher = MicroBatcher(picky)
    results = await asyncio.gather(*(batcher.submit(n) for n in (1, 2, 3)), return_exceptions=True)
    assert (results[0], type(results[1]), results[2]) == (2, ValueError, 6)
    assert calls == [[1, 2, 3], [1], [2], [3]]


async def test_a_cancelled_caller_harms_no_other() -> None:
    slow = Slow()
    batcher = MicroBatcher(slow)
    tasks = [asyncio.create_task(batcher.submit(number)) for number in range(3)]
    await settle()
    tasks[1].cancel()
    await settle()
    slow.releases.release()
    assert [await tasks[0], await tasks[2]] == [0, 4]
    assert tasks[1].cancelled()


@pytest.mark.parametrize(("for_callers", "second"), [(True, [2]), (False, [1, 2])])
async def test_an_item_without_a_caller_is_left_out_where_it_is_for_the_caller(
    for_callers: bool, second: list[int]
) -> None:
    slow = Slow()
    batcher = MicroBatcher(slow, for_callers=for_callers)
    tasks = [asyncio.create_task(batcher.submit(0))]
    await settle()
    tasks += [asyncio.create_task(batcher.submit(number)) for number in (1, 2)]
    await settle()
    tasks[1].cancel()
    await settle()
    slow.releases.release()
    slow.releases.release()
    assert [await tasks[0], await tasks[2]] == [0, 4]
    assert slow.calls == [[0], second]


async def test_a_cancelled_call_cancels_its_callers_and_the_next_item_starts_anew() -> None:
    slow = Slow()
    batcher = MicroBatcher(slow)
    task = asyncio.create_task(batcher.submit(1))
    await settle()
    slow.error = asyncio.CancelledError()
    slow.releases.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    slow.releases.release()
    assert await batcher.submit(2) == 4
