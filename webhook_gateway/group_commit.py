"""Many webhooks, few commits.

While one insert is on its way, what comes in meanwhile gathers, and goes with the next one; a webhook that finds
nothing on its way goes at once. So a quiet gateway is quick, and a busy one pays for a commit once per batch. Nobody is
answered before the commit of his own batch.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from delivery_log.contract import LedgerUnavailable, StatusEvent, StatusLog

_MOST_IN_A_BATCH = 256


@dataclass(slots=True)
class _Waiting:
    event: StatusEvent
    stored: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class GroupCommit:
    def __init__(self, status_log: StatusLog) -> None:
        self._status_log = status_log
        self._waiting: deque[_Waiting] = deque()
        self._committing: asyncio.Task[None] | None = None

    async def record(self, event: StatusEvent) -> bool:
        """True: new. False: already there. Durable when it returns.

        Raises LedgerUnavailable, and ValueError where the ledger cannot hold this event.
        """
        waiting = _Waiting(event)
        self._waiting.append(waiting)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        return await waiting.stored

    async def close(self) -> None:
        """Ends when all that was handed over has its answer."""
        if self._committing is not None:
            await self._committing

    async def _commit(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_IN_A_BATCH))]
                await self._store(batch)
        finally:
            self._committing = None

    async def _store(self, batch: list[_Waiting]) -> None:
        try:
            answers = await self._status_log.record_status_events([waiting.event for waiting in batch])
        except ValueError as error:
            if len(batch) > 1:  # one that cannot be stored must not harm those that came with it
                for waiting in batch:
                    await self._store([waiting])
                return
            _fail(batch, error)
        except LedgerUnavailable as error:
            _fail(batch, error)
        except BaseException as error:
            # A bug, or the loop ends: the callers learn of it instead of waiting for ever.
            _fail(batch, error if isinstance(error, Exception) else LedgerUnavailable("the gateway is ending"))
            if not isinstance(error, Exception):
                raise
        else:
            for waiting, new in zip(batch, answers, strict=True):
                if not waiting.stored.done():  # its client may have gone
                    waiting.stored.set_result(new)


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.stored.done():
            waiting.stored.set_exception(error)
