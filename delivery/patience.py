"""Waiting out a server that is away: nothing is sent or acked, and work goes on within seconds of its return."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from delivery.observer import Observer, Trouble
from delivery.ports import PublishFailed
from delivery_log.contract import LedgerUnavailable

T = TypeVar("T")

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 2.0

WAIT_FOR_LEASE = 5.0
"""Seconds for which a record waits in memory for somebody else's lease; then the sweeper has it."""
WAIT_FOR_TIME = 1.0
"""Seconds before its time for which a record waits in memory; what is longer waits in the ledger."""
BUSY_SECONDS = 0.25
"""Between two looks at a row that somebody has."""


async def patiently(call: Callable[[], Awaitable[T]], observer: Observer, where: str) -> T:
    """The call's answer, however often it takes. Only a server's absence is waited out; all else is raised."""
    delay = _FIRST_DELAY
    while True:
        try:
            return await call()
        except (LedgerUnavailable, PublishFailed) as error:
            observer.notice(Trouble(where, str(error)))
        await asyncio.sleep(delay)
        delay = min(delay * 2, _LONGEST_DELAY)
