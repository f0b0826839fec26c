"""A bounded number of places, handed on in the order of asking."""

import asyncio
from collections import deque
from types import TracebackType


class Places:
    """Like `asyncio.Semaphore`, for thousands that wait: there, each release looks through all who were let in and have
    not run yet, which under load costs more than the work. Here a place goes to the next in the queue at once.

    `async with places:` holds one of them.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # let in and cancelled in the same moment: the next one's
            raise

    def release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
