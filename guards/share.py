"""Quotas that go on without the shared memory: each worker keeps to its share until the memory is back.

Going away. The first call that finds the shared quotas out of reach (half a second) makes this worker count for itself.
They are left alone then, but for one probe a second in the background: no call waits for them meanwhile.

Away. With s the worker's share, L the limit, and `old` what was granted before the worker fell back to its share and is
still in the window, the worker grants itself at most floor(s x (L - old)) in any window. `old` is everybody's where the
ledger can be asked (`attempts`), anew whenever the share changes, and with it what those granted themselves who fell
back earlier. Otherwise only the worker's own is known, and it keeps to floor(s x L) with what it was granted before.
Where s x L < 1, one request every W / (s x L) instead.

Coming back. First everything that was granted away is told, and holds are set; then, for `settle` seconds, in which the
others do the same, a grant needs both the share and the shared memory. After that the shared memory alone decides.

What this guarantees, for shares that add up to 1 at most, and s x L >= 1:

* `attempts` given, the memory out of reach of all workers: no window holds more than its limit, before, during and
  after the outage, whoever used how much before. Not known to the ledger, and so possibly granted on top, is only what
  was granted but not yet begun at the moment of the switch.
* Without `attempts`: the same in every window that begins after the switch, and in those across it as long as each
  worker had been using its share at most or asks no more; else such a window holds less than twice its limit.
  A memory that comes back empty has forgotten what was granted before the outage.
* Where s x L < 1 these hold on average; in one window each such worker may make one request.
* Workers of which only some lose the memory: those that see it may use all of the limit, the others their shares on
  top. The same for a worker that asked for nothing during the outage and comes first afterwards, for a second and a
  half.
* Shares that move (a rebalance) are two overlapping truths for as long as the workers hear of it at different times.
"""

import asyncio
import bisect
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from uuid import uuid4

from guards.quota_contract import (
    KEPT,
    LENGTHS,
    REPEATABLE_SECONDS,
    SHORTEST_WAIT,
    WIDTHS,
    WINDOWS,
    Attempts,
    Granted,
    Limits,
    Quotas,
    QuotasOutOfReach,
    Wait,
    in_microseconds,
)
from guards.quota_memory import Windows

_LOCAL = "local:"  # how tokens begin that the shared quotas do not know
_NO_SHARE_WAIT = 1.0
_LEAST_SHARE = 1e-6
_ROUNDING = 1e-9  # 49 workers with 1/49 of 49 have 1 each


class LocalQuota:
    """One scope, while this worker counts for itself. Times are whole microseconds of the worker's clock."""

    def __init__(self, old: Windows, *, everyone: bool, last: int | None = None) -> None:
        self._old = old
        self._everyone = everyone
        self._since = Windows()
        self._last = self._last_but_one = last

    def rebase(self, old: Windows) -> None:
        """From now on, `old` is what everybody was granted, this worker included."""
        self._old, self._everyone, self._since = old, True, Windows()

    def free_at(self, now: int, limits: Limits, share: float) -> int:
        """When the share has room, if nothing is added; `now` where it has."""
        free = now
        for window, limit in enumerate(limits.in_order()):
            if limit is not None:
                free = max(free, self._window_free_at(window, now, limit, share))
        return free

    def add(self, at: int) -> None:
        self._since.add(at, at)
        self._last_but_one, self._last = self._last, at

    def take_back(self, at: int, now: int) -> None:
        self._since.add(at, now, -1)
        if at == self._last:
            self._last = self._last_but_one

    def count(self, window: int, now: int) -> int:
        return self._old.count(window, now) + self._since.count(window, now)

    def _window_free_at(self, window: int, now: int, limit: int, share: float) -> int:
        weight = share if self._everyone else 1.0
        part = share * limit + _ROUNDING
        least = 1.0 if part >= 1 else 2 * _ROUNDING  # what must be free for a request

        def has_room(at: int) -> bool:
            free = part - weight * self._old.count(window, at)
            return free >= least and (part < 1 or self._since.count(window, at) < math.floor(free))

        free_at = now
        if not has_room(now):
            # Both counts only fall, so there is one moment from which on there is room: the last change at the latest.
            changes = sorted({*self._old.changes(window, now), *self._since.changes(window, now)})
            free_at = changes[min(bisect.bisect_left(changes, True, key=has_room), len(changes) - 1)]
        if part < 1 and self._last is not None:
            free_at = max(free_at, self._last + math.ceil(LENGTHS[window] / part))
        return free_at


class SharedOrLocal:
    """`guards.quota_contract.Quotas` that are never out of reach.

    `own_share`: this worker's part of the whole, 0 to 1, asked at each grant while away (0: nothing is granted).
    `attempts`: see above; what it raises, `take` raises. Where `quotas` were given it too, a memory that comes back
    empty is rebuilt from the ledger. `close` closes `quotas` as well.
    """

    def __init__(
        self,
        quotas: Quotas,
        own_share: Callable[[], float],
        *,
        attempts: Attempts | None = None,
        clock: Callable[[], float] = time.monotonic,
        probe_every: float = 1.0,
        settle: float = 3.0,
    ) -> None:
        self._quotas = quotas
        self._own_share = own_share
        self._attempts = attempts
        self._clock = clock
        self._probe_every = probe_every
        self._settle = in_microseconds(settle)
        self._probe: asyncio.Task[None] | None = None
        self._settled_at: int | None = None
        self._own: dict[str, Windows] = {}  # where there is no ledger to ask: granted in whichever way
        self._last: dict[str, int] = {}
        self._local: dict[str, LocalQuota] = {}
        self._based_on: dict[str, float] = {}
        self._basing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._held: dict[str, int] = {}
        self._lent: dict[str, int] = {}
        self._untold: dict[str, deque[int]] = {}
        self._untold_holds: set[str] = set()

    @property
    def in_touch(self) -> bool:
        """Whether the shared memory alone decides."""
        return self._probe is None and self._settled_at is None

    async def take(self, scope: str, limits: Limits) -> Granted | Wait:
        self._end_settling()
        if self.in_touch:
            try:
                return self._noted(scope, await self._quotas.take(scope, limits))
            except QuotasOutOfReach:
                self._lose()
        share = min(max(self._own_share(), 0.0), 1.0)
        if share < _LEAST_SHARE:
            return Wait(_NO_SHARE_WAIT)
        local = await self._local_quota(scope, share)
        now = self._now()
        free = max(local.free_at(now, limits, share), self._held.get(scope, now))
        if free > now:
            return Wait(max((free - now) / 1_000_000, SHORTEST_WAIT))
        local.add(now)  # before anything is awaited: others ask meanwhile
        if self._probe is not None:
            self._note(scope, now)
            self._note_untold(scope, now, limits)
            return self._lend(now)
        try:
            answer = self._noted(scope, await self._quotas.take(scope, limits))
        except QuotasOutOfReach:
            self._lose()
            return await self.take(scope, limits)
        if isinstance(answer, Wait):
            local.take_back(now, now)
        return answer

    async def give_back(self, scope: str, granted: Granted) -> None:
        if not granted.token.startswith(_LOCAL):
            if self._probe is None:
                try:
                    await self._quotas.give_back(scope, granted)
                except QuotasOutOfReach:
                    self._lose()
            return
        at = self._lent.pop(granted.token, None)
        untold = self._untold.get(scope)
        if at is not None and untold and at in untold:  # once told, it stays counted
            untold.remove(at)
            now = self._now()
            if scope in self._own:
                self._own[scope].add(at, now, -1)
            if scope in self._local:
                self._local[scope].take_back(at, now)

    async def hold(self, scope: str, seconds: float) -> None:
        """Away, it holds this worker alone until the memory is back."""
        now = self._now()
        until = now + in_microseconds(seconds)
        self._held = {held: end for held, end in self._held.items() if end > now}
        self._held[scope] = max(until, self._held.get(scope, 0))
        if self._probe is None:
            try:
                await self._quotas.hold(scope, seconds)
            except QuotasOutOfReach:
                self._lose()
            else:
                return
        self._untold_holds.add(scope)

    async def rebuild(self, scope: str, limits: Limits, ages: Sequence[float]) -> None:
        """Away, it does nothing."""
        if self._probe is None:
            try:
                await self._quotas.rebuild(scope, limits, ages)
            except QuotasOutOfReach:
                self._lose()

    async def tell(self, scope: str, ages: Sequence[float]) -> None:
        now = self._now()
        if self._probe is None:
            try:
                await self._quotas.tell(scope, ages)
            except QuotasOutOfReach:
                self._lose()
            else:
                return
        self._untold.setdefault(scope, deque()).extend(now - in_microseconds(age) for age in ages)

    async def usage(self, scope: str, limits: Limits) -> Mapping[str, int]:
        """Away, what this worker knows of."""
        if self._probe is None:
            try:
                return await self._quotas.usage(scope, limits)
            except QuotasOutOfReach:
                self._lose()
        known: LocalQuota | Windows = self._local.get(scope) or self._own.get(scope) or Windows()
        now = self._now()
        return {
            name: known.count(window, now)
            for window, (name, limit) in enumerate(zip(WINDOWS, limits.in_order(), strict=True))
            if limit is not None
        }

    async def ping(self) -> bool:
        return await self._quotas.ping()

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)
            self._probe = None
        await self._quotas.close()

    def _now(self) -> int:
        return in_microseconds(self._clock())

    def _noted(self, scope: str, answer: Granted | Wait) -> Granted | Wait:
        if isinstance(answer, Granted):
            self._note(scope, self._now())
        return answer

    def _note(self, scope: str, now: int) -> None:
        self._last[scope] = now
        if self._attempts is None:
            self._own.setdefault(scope, Windows()).add(now, now)

    def _note_untold(self, scope: str, now: int, limits: Limits) -> None:
        # No more than the limits let through in the longest window that they limit.
        kept = [KEPT * width for width, limit in zip(WIDTHS, limits.in_order(), strict=True) if limit is not None]
        if kept:
            untold = self._untold.setdefault(scope, deque())
            untold.append(now)
            while untold[0] < now - max(kept):
                untold.popleft()

    def _lend(self, now: int) -> Granted:
        token = f"{_LOCAL}{uuid4().hex}"
        self._lent[token] = now
        while next(iter(self._lent.values())) < now - REPEATABLE_SECONDS * 1_000_000:
            del self._lent[next(iter(self._lent))]
        return Granted(token)

    async def _local_quota(self, scope: str, share: float) -> LocalQuota:
        local = self._local.get(scope)
        if local is not None and (self._attempts is None or self._based_on[scope] == share):
            return local
        async with self._basing[scope]:
            local = self._local.get(scope)
            if local is not None and (self._attempts is None or self._based_on[scope] == share):
                return local
            if self._attempts is None:
                local = LocalQuota(self._own.get(scope, Windows()).copy(), everyone=False, last=self._last.get(scope))
            else:
                old, ages = Windows(), await self._attempts(scope)
                now = self._now()
                for age in ages:
                    old.add(now - max(in_microseconds(age), 0), now)
                if local is None:
                    local = LocalQuota(old, everyone=True, last=self._last.get(scope))
                else:
                    local.rebase(old)
            self._local[scope], self._based_on[scope] = local, share
            return local

    def _lose(self) -> None:
        if self._probe is None:
            self._forget_local()  # what a settling worker knew is older than what the shared memory granted since
            self._probe = asyncio.create_task(self._come_back(), name="quotas: probing the shared memory")

    async def _come_back(self) -> None:
        while True:
            await asyncio.sleep(self._probe_every)
            try:
                if await self._quotas.ping() and await self._everything_told():
                    break
            except Exception:  # noqa: S112 - the ledger's errors, by way of `attempts`, are not known here: the next probe
                continue
        # Nothing was awaited since all was told.
        self._probe = None
        self._settled_at = self._now() + self._settle

    async def _everything_told(self) -> bool:
        while self._untold or self._untold_holds:
            now = self._now()
            if self._untold_holds:
                scope = next(iter(self._untold_holds))
                await self._quotas.hold(scope, max(self._held.get(scope, now) - now, 0) / 1_000_000)
                self._untold_holds.discard(scope)
                continue
            scope, grants = next(iter(self._untold.items()))
            del self._untold[scope]  # a grant made meanwhile, or given back, is another matter
            try:
                await self._quotas.tell(scope, [(now - at) / 1_000_000 for at in grants])
            except BaseException:
                self._untold[scope] = grants + self._untold.get(scope, deque())
                raise
        return True

    def _end_settling(self) -> None:
        if self._settled_at is not None and self._now() >= self._settled_at:
            self._forget_local()

    def _forget_local(self) -> None:
        self._settled_at = None
        self._local.clear()
        self._based_on.clear()
        self._basing.clear()
