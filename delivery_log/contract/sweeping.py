"""What no longer moves, and how it is told from what does."""

from typing import Literal

import msgspec

from delivery_log.contract.arrivals import Request

SweepReason = Literal["lease_ended", "unpublished", "woken", "missing", "unannounced"]


class Swept(msgspec.Struct, frozen=True):
    """`unannounced`: a dead delivery whose dead letter no broker has confirmed; `error_…` say why it is dead."""

    request: Request
    reason: SweepReason
    error_code: str | None = None
    error_message: str | None = None
    last_outcome: str | None = None
    """Of its last attempt."""


class ReadUpTo(msgspec.Struct, frozen=True, kw_only=True):
    """Records of this platform that waited `delay` seconds in a retry topic (0: none) and were published more than
    `age` seconds ago have been worked off."""

    platform: str
    delay: float
    age: float


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One partition's reading, `age` seconds ago by the ledger's clock: nothing older is still waiting in it."""

    topic: str
    partition: int
    age: float
