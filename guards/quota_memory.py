"""Twin of the quotas, for one process, and the windows that it counts in."""

import time
from collections.abc import Callable, Mapping, Sequence
from uuid import uuid4

from guards.quota_contract import (
    KEPT,
    MEMORY_SECONDS,
    REPEATABLE_SECONDS,
    SHORTEST_WAIT,
    WIDTHS,
    WINDOWS,
    Attempts,
    Granted,
    Limits,
    QuotasOutOfReach,
    Wait,
    in_microseconds,
)


class Windows:
    """Grants of one scope, counted for a second, a minute and a day in buckets. Times are whole microseconds."""

    def __init__(self) -> None:
        self._counts: tuple[dict[int, int], ...] = ({}, {}, {})

    def add(self, at: int, now: int, number: int = 1) -> None:
        """A grant made at `at`; -1: one taken back. What left its window before `now` is not counted."""
        for counts, width in zip(self._counts, WIDTHS, strict=True):
            bucket, oldest = at // width, now // width - KEPT + 1
            if bucket >= oldest:
                counts[bucket] = max(counts.get(bucket, 0) + number, 0)
            if len(counts) > KEPT:
                for gone in [known for known in counts if known < oldest]:
                    del counts[gone]

    def copy(self) -> "Windows":
        same = Windows()
        same._counts = tuple(dict(counts) for counts in self._counts)
        return same

    def count(self, window: int, now: int) -> int:
        """Of the window `WINDOWS[window]` that ends `now`."""
        oldest = now // WIDTHS[window] - KEPT + 1
        return sum(number for bucket, number in self._counts[window].items() if bucket >= oldest)

    def changes(self, window: int, now: int) -> list[int]:
        """When the count will fall, in order, if nothing is added."""
        width = WIDTHS[window]
        oldest = now // width - KEPT + 1
        return [
            (bucket + KEPT) * width
            for bucket, number in sorted(self._counts[window].items())
            if bucket >= oldest and number
        ]

    def room_at(self, window: int, now: int, limit: int) -> int:
        """When the count will be below the limit, if nothing is added; `now` where it is."""
        width = WIDTHS[window]
        oldest = now // width - KEPT + 1
        excess = self.count(window, now) - limit + 1
        if excess > 0:
            for bucket, number in sorted(self._counts[window].items()):
                excess -= number if bucket >= oldest else 0
                if bucket >= oldest and excess <= 0:
                    return (bucket + KEPT) * width
        return now


class _Scope:
    def __init__(self, now: int) -> None:
        self.last = now
        self.skew = 0
        self.held = 0
        self.known = False
        self.windows = Windows()


class MemoryQuotas:
    """`guards.quota_contract.Quotas` in dictionaries. `available` False: out of reach, as a test may want it."""

    def __init__(self, *, attempts: Attempts | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.available = True
        self._attempts = attempts
        self._clock = clock
        self._scopes: dict[str, _Scope] = {}
        self._granted: dict[tuple[str, str], int] = {}

    async def take(self, scope: str, limits: Limits, *, call: str | None = None) -> Granted | Wait:
        """`call`: the id of an earlier call, to repeat it."""
        self._reach()
        call = call or uuid4().hex
        memory, now = self._open(scope)
        before = self._granted.get((scope, call))
        if before is not None and now - before <= REPEATABLE_SECONDS * 1_000_000:
            return Granted(call)
        if self._attempts is not None and not memory.known:
            await self.rebuild(scope, limits, await self._attempts(scope))
            memory, now = self._open(scope)
        free = max(
            memory.held,
            *(
                memory.windows.room_at(window, now, limit)
                for window, limit in enumerate(limits.in_order())
                if limit is not None
            ),
            now,
        )
        if free > now:
            return Wait(max((free - now) / 1_000_000, SHORTEST_WAIT))
        memory.known, memory.last = True, now
        memory.windows.add(now, now)
        if limits != Limits():
            self._granted[scope, call] = now
        return Granted(call)

    async def give_back(self, scope: str, granted: Granted) -> None:
        self._reach()
        at = self._granted.pop((scope, granted.token), None)
        if at is not None and scope in self._scopes:
            memory, now = self._open(scope)
            if now - at <= REPEATABLE_SECONDS * 1_000_000:
                memory.windows.add(at, now, -1)
                memory.last = now

    async def hold(self, scope: str, seconds: float) -> None:
        self._reach()
        duration = in_microseconds(seconds)
        memory, now = self._open(scope)
        memory.held, memory.last = max(memory.held, now + duration), now

    async def rebuild(self, scope: str, limits: Limits, ages: Sequence[float]) -> None:
        self._reach()
        memory, now = self._open(scope)
        if not memory.known:
            self._add(memory, now, ages)

    async def tell(self, scope: str, ages: Sequence[float]) -> None:
        self._reach()
        memory, now = self._open(scope)
        if self._attempts is not None and not memory.known:
            await self.rebuild(scope, Limits(), await self._attempts(scope))
        else:
            self._add(memory, now, ages)

    async def usage(self, scope: str, limits: Limits) -> Mapping[str, int]:
        self._reach()
        memory, now = self._open(scope) if scope in self._scopes else (_Scope(0), 0)
        return {
            name: memory.windows.count(window, now)
            for window, (name, limit) in enumerate(zip(WINDOWS, limits.in_order(), strict=True))
            if limit is not None
        }

    async def ping(self) -> bool:
        return self.available

    def forget_everything(self) -> None:
        self._scopes.clear()
        self._granted.clear()

    async def close(self) -> None:
        return None

    def _reach(self) -> None:
        if not self.available:
            raise QuotasOutOfReach("told so by the test")

    def _open(self, scope: str) -> tuple[_Scope, int]:
        # A clock that was set back goes on from where it was: time never runs back, so no grant leaves early.
        clock = in_microseconds(self._clock())
        memory = self._scopes.get(scope)
        if memory is None:
            self._forget_the_idle(clock)
            memory = self._scopes[scope] = _Scope(clock)
        memory.skew = max(memory.skew, memory.last - clock)
        return memory, clock + memory.skew

    def _add(self, memory: _Scope, now: int, ages: Sequence[float]) -> None:
        memory.known, memory.last = True, now
        for age in ages:
            memory.windows.add(now - max(in_microseconds(age), 0), now)

    def _forget_the_idle(self, clock: int) -> None:
        lifetime = MEMORY_SECONDS * 1_000_000
        for scope in [
            scope
            for scope, memory in self._scopes.items()
            if max(memory.last + lifetime, memory.held) < clock + memory.skew
        ]:
            del self._scopes[scope]
        for grant in [grant for grant, at in self._granted.items() if at < clock - REPEATABLE_SECONDS * 1_000_000]:
            del self._granted[grant]
