"""admit: a delivery waits here, in memory and unleased, until platform, organization and quota let it go.

Waiting costs no attempt and no place among those in flight. Whoever waits for a scope's quota waits in a queue: one of
them asks, the others stand behind.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from connectors.contract import Outcome, Unavailable, Uncertain
from delivery.holding import Holds
from delivery.observer import Observer, QuotaWaited, Trouble
from delivery_log.contract import LedgerUnavailable
from guards.quota_contract import Granted, Limits, Quotas, QuotasOutOfReach, Wait

# So often whoever waits looks again: what an operator changed takes effect within it.
_LOOK_SECONDS = 1.0


class Pass(msgspec.Struct, frozen=True):
    """Leave to send one request. Hand it back: `used`, or `unused`."""

    organization: str
    scope: str
    granted: Granted | None
    counts: bool
    """Whether a failure counts against the delivery: not one that was let through as a probe."""


class Gate:
    """One platform's. `scope_of(organization)` names the quota's scope; `limits` may change at any time."""

    def __init__(
        self, platform: str, *, holds: Holds, quotas: Quotas, scope_of: Callable[[str], str], observer: Observer
    ) -> None:
        self.platform = platform
        self.holds = holds
        self.limits = Limits()
        self.waiting = 0
        """Scopes whose first in the queue waits: for the end of a hold, or for its quota."""
        self._quotas = quotas
        self._scope_of = scope_of
        self._observer = observer
        self._turnstiles: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def organization_wait(self, organization: str) -> float:
        """Seconds for which this organization alone is held; who gets 0.0 while it is held is the probe. That long is
        no time to wait in memory."""
        return self.holds.organization_wait(organization, asyncio.get_running_loop().time())

    def scope_of(self, organization: str) -> str:
        """Whom the platform counts this organization's requests for."""
        return self._scope_of(organization)

    async def enter(self, organization: str) -> Pass:
        """Waits until a request for this organization may be sent. Ask `organization_wait` before."""
        scope = self._scope_of(organization)
        if self.holds.nothing and self.limits == _UNLIMITED:
            return Pass(organization, scope, None, True)  # nothing to wait for, and nobody to wait behind
        return await self.enter_scope(scope, organization)

    async def enter_scope(self, scope: str, organization: str = "") -> Pass:
        """Waits until a request may be sent, whoever of the scope it will be for."""
        clock = asyncio.get_running_loop().time
        async with self._turnstiles[scope]:
            granted, refused_at = None, None
            while True:
                wait = self.holds.scope_wait(scope, clock()) or self.holds.platform_wait(clock())
                if wait == 0.0:
                    counts = self.holds.counts
                    granted = await self._take(scope)
                    if not isinstance(granted, Wait):
                        if refused_at is not None:
                            self._observer.notice(QuotaWaited(self.platform, clock() - refused_at))
                        return Pass(organization, scope, granted, counts)
                    if not counts:
                        self.holds.released(clock())
                    wait = granted.after
                    refused_at = clock() if refused_at is None else refused_at
                else:
                    refused_at = None  # held: that is not the quota's doing
                self.waiting += 1
                try:
                    await asyncio.sleep(min(wait, _LOOK_SECONDS))
                finally:
                    self.waiting -= 1

    async def unused(self, leave: Pass) -> None:
        """Nothing was sent: the grant goes back, and another may be the probe."""
        self.abandoned(leave)
        if leave.granted is not None:
            try:
                await self._quotas.give_back(self._quota(leave.scope), leave.granted)
            except QuotasOutOfReach as error:
                self._observer.notice(Trouble("quota_give_back", str(error)))

    def abandoned(self, leave: Pass) -> None:
        """Cut off, perhaps sent: the grant stays counted, and another may be the probe."""
        now = asyncio.get_running_loop().time()
        self.holds.organization_released(leave.organization, now)
        if not leave.counts:
            self.holds.released(now)

    def used(self, leave: Pass, outcome: Outcome) -> bool:
        """What came of it; whether the attempt counts as far as holding decides it."""
        now = asyncio.get_running_loop().time()
        self.holds.learn(outcome, leave.organization, leave.scope, now, probe=not leave.counts)
        return leave.counts and self.holds.counts

    def used_together(self, leave: Pass, outcomes: Sequence[tuple[str, Outcome]]) -> bool:
        """`used`, for a request with shipments of several organizations: each organization's outcomes, of which the
        best speaks for it."""
        now = asyncio.get_running_loop().time()
        best: dict[str, Outcome] = {}
        for organization, outcome in outcomes:
            if isinstance(best.get(organization, _NOTHING), Unavailable | Uncertain):
                best[organization] = outcome
        for organization, outcome in best.items():
            self.holds.learn(outcome, organization, leave.scope, now, probe=not leave.counts, one_of=len(best))
        return leave.counts and self.holds.counts

    def organization_unused(self, organization: str) -> None:
        """Nothing was sent for it: another may be its probe."""
        self.holds.organization_released(organization, asyncio.get_running_loop().time())

    def _quota(self, scope: str) -> str:
        return f"{self.platform}:{scope}"

    async def _take(self, scope: str) -> Granted | Wait | None:
        """None: no limit is set, nobody needs to be asked."""
        limits = self.limits
        if limits == _UNLIMITED:
            return None
        try:
            return await self._quotas.take(self._quota(scope), limits)
        except (QuotasOutOfReach, LedgerUnavailable) as error:  # the ledger tells a memory that forgot what was sent
            self._observer.notice(Trouble("quota_take", str(error)))
            return Wait(_LOOK_SECONDS)


_UNLIMITED = Limits()
_NOTHING = Uncertain()
