"""One row of the fault table."""

from collections.abc import Awaitable, Callable

import msgspec

from proving.trial import Conditions, Trial


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """`run` makes the fault happen in full flow, notes its evidence (`Trial.fired`) and when it was over
    (`Trial.lifted`); the equations are checked after it. Raises Unmet where what the row promises besides is not so."""

    area: str
    fault: str
    run: Callable[[Trial], Awaitable[None]]
    conditions: Conditions = Conditions()
    timeout: float = 150.0

    @property
    def name(self) -> str:
        return f"{self.area}: {self.fault}"


class NotRun(Exception):
    """This machine cannot do it; the message says why. Said in the table, and no failure."""
