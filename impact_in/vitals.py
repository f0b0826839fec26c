"""Does what a worker reads still move? A stuck consumer does not say so: its process lives, its heartbeats go on.

Each role names what waits (`RunningRole.stalls`) with a token of its progress. What waits for long under one token, and
is neither held nor waiting for a server that is away, will not move by itself any more.
"""

import asyncio
from collections.abc import Sequence

from delivery.observer import Happening, Trouble
from impact_in.roles import RunningRole

_LOOK_SECONDS = 1.0


class TroubleCount:
    """An observer that counts what is being waited out: who tells of a server that is away is not stuck."""

    def __init__(self) -> None:
        self.number = 0

    def notice(self, happening: Happening) -> None:
        if isinstance(happening, Trouble):
            self.number += 1


class Vitals:
    """Of a worker's roles. `patience`: seconds that something may wait without a sign of progress."""

    def __init__(self, running: Sequence[RunningRole], troubles: TroubleCount, *, patience: float) -> None:
        self._running = running
        self._troubles = troubles
        self._patience = patience
        self._waiting: dict[tuple[str, str], tuple[object, float]] = {}

    async def until_stuck(self) -> str:
        """Returns only when something is stuck: what, in words for an operator."""
        looked = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = asyncio.get_running_loop().time()
            # A process that stood still as a whole has not waited.
            passed, looked = min(now - looked, 2 * _LOOK_SECONDS), now
            if (found := self.look(passed)) is not None:
                return found

    def look(self, passed: float) -> str | None:
        """`passed`: seconds since the last look."""
        waiting: dict[tuple[str, str], tuple[object, float]] = {}
        for role in self._running:
            if (dead := role.dead()) is not None:
                return f"{role.name}: {dead}"
            for what, progress in role.stalls().items():
                token = (progress, self._troubles.number)
                before, still = self._waiting.get((role.name, what), (None, 0.0))
                still = still + passed if before == token else 0.0
                waiting[role.name, what] = (token, still)
                if still >= self._patience:
                    return f"{role.name}: {what}, for {still:.0f} s"
        self._waiting = waiting
        return None
