"""One statement for all that is at hand."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class MicroBatcher(Generic[Item, Answer]):
    """Collects items while the call before is under way, then hands them over together.

    Nothing lingers: an item that comes to an idle batcher goes at once, alone. At most `largest` items a call, and one
    call at a time, so the calls happen in the order of the items. Of items with the same `key` one goes a call, the
    next with the call after it. Where a call raises, its items are handed over again, each alone, so that one fails
    nobody else. `for_callers`: an item whose caller has gone before its turn is left out; otherwise it is handed over
    all the same.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        largest: int = 500,
        key: Callable[[Item], Hashable] | None = None,
        for_callers: bool = False,
    ) -> None:
        self._call = call
        self._for_callers = for_callers
        self._largest = largest
        self._key = key
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """The item's answer. Raises what the call raised."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                # One pass of the loop: what became ready together goes together.
                await asyncio.sleep(0)
                batch = self._take()
                if batch:
                    await self._hand_over(batch)
        finally:
            self._runner = None

    def _take(self) -> list[tuple[Item, "asyncio.Future[Answer]"]]:
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        left: list[tuple[Item, asyncio.Future[Answer]]] = []
        keys: set[Hashable] = set()
        for item, future in self._waiting:
            if self._for_callers and future.done():
                continue
            key = object() if self._key is None else self._key(item)
            if len(batch) < self._largest and key not in keys:
                keys.add(key)
                batch.append((item, future))
            else:
                left.append((item, future))
        self._waiting = left
        return batch

    async def _hand_over(self, batch: list[tuple[Item, "asyncio.Future[Answer]"]]) -> None:
        try:
            answers = await self._call([item for item, _ in batch])
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers to {len(batch)} items")
        except BaseException as error:
            if isinstance(error, Exception) and len(batch) > 1:
                # One of them may be to blame: each alone, so that it fails nobody else.
                for one in batch:
                    await self._hand_over([one])
                return
            for _, future in batch:
                if not future.done():
                    if isinstance(error, Exception):
                        future.set_exception(error)
                    else:
                        future.cancel()
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
