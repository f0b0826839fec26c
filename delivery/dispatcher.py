"""Who may run now: a company's records one after another, different companies at once, all of them bounded."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from delivery.places import Places

Item = TypeVar("Item")


class KeyedDispatcher(Generic[Item]):
    """Runs `handle(item)` for each item: one at a time for a key, in the order they came; `None` is no key and waits
    for nobody. At most `in_flight` run at once and at most `waiting` wait beside them; then `submit` blocks.
    A key holds at most `share` of these places.

    `handle` must not raise: what it could not do is its own to keep. A defect that escapes it all the same is given to
    `on_defect`, and the key goes on.
    """

    def __init__(
        self,
        handle: Callable[[Item], Awaitable[None]],
        on_defect: Callable[[Item, Exception], None],
        *,
        in_flight: int = 100,
        waiting: int = 2_000,
        share: int | None = None,
    ) -> None:
        self._handle = handle
        self._on_defect = on_defect
        self._running = Places(in_flight)
        self._room = Places(waiting)
        self._share = share
        self._queues: dict[Hashable, deque[Item]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, key: Hashable | None, item: Item) -> bool:
        """False: the key has its share of the places already, and the item is still the caller's."""
        if key is not None and self._share is not None and len(self._queues.get(key, ())) >= self._share:
            return False
        await self._room.acquire()
        if key is None:
            self._start(self._run_one(item), self._room.release)
        elif key in self._queues:
            self._queues[key].append(item)
        else:
            queue = self._queues[key] = deque([item])
            self._start(self._run_key(key, queue), lambda: self._give_up(key, queue))
        return True

    @property
    def busy(self) -> int:
        """Keys (or keyless items) with something to do."""
        return len(self._tasks)

    async def drain(self, timeout: float) -> bool:
        """Waits until nothing runs or waits; False where that took longer (seconds)."""
        if not self._tasks:
            return True
        _, pending = await asyncio.wait(self._tasks, timeout=timeout)
        return not pending

    async def close(self) -> None:
        """Cancels what still runs and forgets what waits; those records were not acked, and come again. The dispatcher
        can be used again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, coroutine: Coroutine[Any, Any, None], at_end: Callable[[], None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Not in a `finally`: a task that is cancelled before its first step never enters one.
        task.add_done_callback(lambda _: at_end())

    async def _run_key(self, key: Hashable, queue: deque[Item]) -> None:
        while queue:
            await self._run_one(queue[0])
            queue.popleft()
            self._room.release()
        del self._queues[key]

    def _give_up(self, key: Hashable, queue: deque[Item]) -> None:
        """Where a key was cancelled: its places are free again."""
        if self._queues.get(key) is queue:
            del self._queues[key]
        while queue:
            queue.popleft()
            self._room.release()

    async def _run_one(self, item: Item) -> None:
        try:
            async with self._running:
                await self._handle(item)
        except Exception as error:  # nothing may stop the key's other records
            self._on_defect(item, error)
