"""A loop whose time passes only where nothing else is to do: an hour takes no time, and a wait for nothing fails.

Nothing of the heart touches a socket, so whatever happens next is a callback that is ready or a timer.
"""

import asyncio
import selectors
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)


class NothingWillHappen(RuntimeError):
    """Every task waits, and no timer runs: in a real loop this would hang for ever."""


class _Jumping(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events: list[Any] = super().select(0)
        if events:
            return events
        if timeout is None:
            raise NothingWillHappen
        self.now += max(timeout, 0.0)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def utc(self) -> datetime:
        """The same clock as a date, for a ledger."""
        return START + timedelta(seconds=self.time())


def utc() -> datetime:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.utc()


async def settle() -> None:
    """All that can happen at this moment has happened."""
    await asyncio.sleep(1e-6)
