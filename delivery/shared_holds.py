"""One worker's holds and all others': told to the ledger as they change, and taken over from it."""

import asyncio
from collections.abc import Mapping

from delivery.holding import Holds
from delivery_log.contract import LedgerUnavailable, PlatformLog


class SharedHolds:
    """`holds` by platform. `owner`: this worker, as nobody else is called."""

    def __init__(self, log: PlatformLog, owner: str, holds: Mapping[str, Holds]) -> None:
        self._log = log
        self._owner = owner
        self._holds = holds
        self._stirred = asyncio.Event()
        for one in holds.values():
            one.share(self._stirred.set)

    async def stirred(self, within: float) -> None:
        """Returns when there is something to tell or to ask, at the latest after so many seconds."""
        try:
            async with asyncio.timeout(within):
                await self._stirred.wait()
        except TimeoutError:
            return

    async def exchange(self) -> None:
        """Raises LedgerUnavailable; what was to be told is told the next time then."""
        self._stirred.clear()
        clock = asyncio.get_running_loop().time
        now = clock()
        told = [hold for platform, holds in self._holds.items() for hold in holds.report(platform, now)]
        ended = [identifier for holds in self._holds.values() for identifier in holds.ended(now)]
        try:
            await self._log.report_holds(told, owner=self._owner, ended=ended)
            found = await self._log.held_now(known=[hold.id for hold in told])
        except LedgerUnavailable:
            for holds in self._holds.values():
                holds.untold()
            raise
        now = clock()
        for platform, holds in self._holds.items():
            holds.adopt([hold for hold in found if hold.platform == platform], self._owner, now)
