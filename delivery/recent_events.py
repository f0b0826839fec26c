"""What was written a moment ago need not be decoded when it is read back."""

import time
from collections.abc import Callable, Collection

from schemas import ImpactMetricEvent, Unreadable, decode

_KEPT = 10_000
_SECONDS = 10.0


class RecentEvents:
    """Events that this process published as delivery requests, until its own roles have read them back.

    A request's value is the event's canonical encoding, and so tells its event; reading it costs a tenth of a delivery.
    `platforms`: those whose requests this process reads itself. Kept for 10 to 20 seconds, where another worker reads
    the partition; at most 20,000, some 40 MB. What is not kept is decoded.
    """

    def __init__(self, platforms: Collection[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._platforms = frozenset(platforms)
        self._clock = clock
        self._since = clock()
        self._young: dict[bytes, _Kept] = {}
        self._old: dict[bytes, _Kept] = {}

    def keep(self, value: bytes, event: ImpactMetricEvent, platforms: Collection[str]) -> None:
        """`value`: a request's, published for these platforms."""
        readers = len(self._platforms.intersection(platforms))
        now = self._clock()
        if now - self._since > _SECONDS:
            self._since = now
            self._old, self._young = self._young, {}
        if readers and len(self._young) < _KEPT:
            self._young[value] = _Kept(event, readers)

    def read(self, value: bytes) -> ImpactMetricEvent | Unreadable:
        """As `decode`."""
        kept = self._young.get(value) or self._old.get(value)
        if kept is None:
            return decode(value)
        kept.readers -= 1
        if kept.readers <= 0:
            self._young.pop(value, None)
            self._old.pop(value, None)
        return kept.event

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


class _Kept:
    __slots__ = ("event", "readers")

    def __init__(self, event: ImpactMetricEvent, readers: int) -> None:
        self.event = event
        self.readers = readers
