"""Holding: what must not be sent now, why, and when it is worth trying again. One platform's.

A platform is held while an operator paused it, while its breaker is not closed, or while it rejects our credentials; an
organization after a 403; a quota's scope while the platform throttles it. A hold lets single real deliveries through as
probes, and an answer ends it. What is held waits, and costs nobody an attempt.

Where workers share their holds (`Holds.share`), each tells the ledger what it holds and takes over what others do; a
probe needs the ledger's leave first, so that there is one at a time for all of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from connectors.contract import (
    Accepted,
    CredentialsRejected,
    Forbidden,
    Outcome,
    Refused,
    Throttled,
    Unavailable,
    Uncertain,
)
from delivery.breaker import Breaker
from delivery_log.contract import HeldNow, Hold, HoldReason

CREDENTIALS_PROBE_SECONDS = 60.0
FORBIDDEN_PROBE_SECONDS = 600.0
_FIRST_THROTTLE, _LONGEST_THROTTLE = 1.0, 60.0
_LONGEST_RETRY_AFTER = 3600.0
_PAUSED_LOOK_SECONDS = 1.0
_ASKED_SECONDS, _ASKED_BY_OTHERS_SECONDS = 0.1, 1.0
_PARKED_WHILE_ASKED_SECONDS = 1.0
# Less than the ledger's claim lasts; long enough for a record that comes back from the ledger to use it.
_LEAVE_SECONDS = 10.0
_ENDED_KEPT_SECONDS = 60.0


@dataclass(slots=True)
class _Held:
    """A hold. `next_probe`: when it is worth trying; `interval`: the wait before that, in seconds."""

    reason: HoldReason
    scope: str
    """An organization, a quota's scope, or `""`: the whole platform."""
    since: float
    interval: float
    next_probe: float
    id: UUID = field(default_factory=uuid4)
    news: bool = True
    """The ledger has to hear of `next_probe`."""
    asks: bool = False
    """A delivery would probe, and the ledger has not been asked for leave."""
    asked: bool = False
    """It has, and has not answered."""
    leave_until: float = -math.inf
    out: bool = False
    """A probe of ours is on its way."""


class Holds:
    """`now`: any clock that only goes on, in seconds."""

    def __init__(self, credential: str = "") -> None:
        """`credential`: a fingerprint of what this worker sends with. What met another one says nothing of ours."""
        self._credential = credential
        self.breaker = Breaker()
        self._paused: _Held | None = None
        self._credentials: _Held | None = None
        self._breaker: _Held | None = None
        self._forbidden: dict[str, _Held] = {}
        self._throttled: dict[str, _Held] = {}
        self._stirred: Callable[[], None] | None = None
        self._ended: dict[UUID, float] = {}
        self._told: list[tuple[_Held, bool, bool]] = []

    # ---- what an operator says

    def pause(self, paused: bool, now: float) -> None:
        if not paused:
            self._paused = None
        elif self._paused is None:
            self._paused = _Held("paused", "", now, _PAUSED_LOOK_SECONDS, now)

    def organization_touched(self, organization: str, now: float) -> None:
        """`companies set` changed it: worth trying at once."""
        self._free(organization, now)

    # ---- may it go?

    def platform_wait(self, now: float) -> float:
        """Seconds until it is worth asking again; 0.0: go. Whoever gets 0.0 while it is held is the probe, and tells
        what came of it (`learn`), or that it did not go (`released`)."""
        if self._paused is not None:
            return _PAUSED_LOOK_SECONDS
        if self._credentials is not None and self._credentials.next_probe > now:
            return self._credentials.next_probe - now
        wait = self.breaker.wait(now)
        if wait > 0:
            return wait
        # In this order with every worker, so that no two have one claim each and wait for the other's.
        whole = [held for held in (self._breaker, self._credentials) if held is not None]
        for held in whole:
            if not self._has_leave(held, now):
                return _ASKED_SECONDS if self._ask(held) else _ASKED_BY_OTHERS_SECONDS
        for held in whole:
            held.out = True
        self.breaker.admit(now)
        if self._credentials is not None:
            self._credentials.next_probe = now + CREDENTIALS_PROBE_SECONDS
        return 0.0

    def organization_wait(self, organization: str, now: float) -> float:
        held = self._forbidden.get(organization)
        if held is None:
            return 0.0
        if held.next_probe > now:
            return held.next_probe - now
        if not self._has_leave(held, now):
            return _PARKED_WHILE_ASKED_SECONDS if self._ask(held) else held.interval
        held.out = True
        held.next_probe = now + held.interval
        return 0.0

    def organization_released(self, organization: str, now: float) -> None:
        """Its probe was not sent: the next may be it."""
        held = self._forbidden.get(organization)
        if held is not None:
            held.next_probe, held.out = now, False

    @property
    def forbidden(self) -> list[str]:
        return list(self._forbidden)

    def scope_wait(self, scope: str, now: float) -> float:
        throttle = self._throttled.get(scope)
        return 0.0 if throttle is None else max(throttle.next_probe - now, 0.0)

    def released(self, now: float) -> None:
        """What was let go was not sent after all."""
        self.breaker.released()
        if self._credentials is not None:
            self._credentials.next_probe = now
        for held in (self._breaker, self._credentials):
            if held is not None:
                held.out = False

    # ---- what came of it

    def learn(
        self, outcome: Outcome, organization: str, scope: str, now: float, *, probe: bool = False, one_of: int = 1
    ) -> None:
        """`probe`: it was let through while the platform was held. `one_of` so many organizations in the request: of a
        403 that several got together nobody knows whom it means."""
        if isinstance(outcome, Accepted) and self.nothing:
            self.breaker.answered(organization, now, probe=probe)
            return
        if isinstance(outcome, Unavailable | Uncertain):
            self._failed(outcome, organization, now, probe=probe)
            self._look_at_breaker(now)
        else:
            self.heard(organization, now, probe=probe)
        if isinstance(outcome, CredentialsRejected):
            if self._credentials is None:
                next_probe = now + CREDENTIALS_PROBE_SECONDS
                self._credentials = self._begun(_Held("credentials", "", now, CREDENTIALS_PROBE_SECONDS, next_probe))
        elif isinstance(outcome, Accepted | Refused | Forbidden | Throttled):
            self._over(self._credentials, now)
            self._credentials = None
        if isinstance(outcome, Forbidden):
            if organization not in self._forbidden and one_of == 1:
                next_probe = now + FORBIDDEN_PROBE_SECONDS
                held = _Held("forbidden", organization, now, FORBIDDEN_PROBE_SECONDS, next_probe)
                self._forbidden[organization] = self._begun(held)
        elif isinstance(outcome, Accepted | Refused):
            self._free(organization, now)
        if isinstance(outcome, Throttled):
            self._throttle(scope, outcome.after, now)
        elif isinstance(outcome, Accepted | Refused) and self.scope_wait(scope, now) == 0.0:
            # What was sent before the hold began, and is answered during it, says nothing of what comes after.
            self._throttled.pop(scope, None)
        self._probed(self._forbidden.get(organization))
        if probe:
            self._probed(self._breaker)
            self._probed(self._credentials)

    def heard(self, organization: str, now: float, *, probe: bool = False) -> None:
        """The platform answered; what it said is no matter here."""
        self.breaker.answered(organization, now, probe=probe)
        self._look_at_breaker(now)

    def _look_at_breaker(self, now: float) -> None:
        opened = self.breaker.next_probe
        if opened is None:
            self._over(self._breaker, now)
            self._breaker = None
        elif self._breaker is None:
            self._breaker = self._begun(_Held("breaker", "", now, opened[1], opened[0]))
        else:
            self._breaker.next_probe, self._breaker.interval = opened

    def _failed(self, outcome: Unavailable | Uncertain, organization: str, now: float, *, probe: bool) -> None:
        if outcome.error_code not in ("INTERNAL_ERROR", "LEASE_SPENT"):
            self.breaker.failed(organization, now, probe=probe)
        elif probe:
            self.breaker.released()  # ours, not the platform's

    def _throttle(self, scope: str, after: float | None, now: float) -> None:
        before = self._throttled.get(scope)
        if before is None:
            doubled = _FIRST_THROTTLE
        elif now < before.next_probe:
            doubled = before.interval  # sent together with the one that began the hold: said once
        else:
            doubled = min(before.interval * 2, _LONGEST_THROTTLE)
        # Retry-After: 0 is no invitation to spin.
        wait = doubled if after is None else min(max(after, 0.1), _LONGEST_RETRY_AFTER)
        if before is None or now >= before.next_probe:  # in between it was not held
            self._throttled[scope] = self._begun(_Held("throttled", scope, now, doubled, now + wait))
        elif now + wait > before.next_probe:
            before.next_probe = now + wait
            self._begun(before)

    def _free(self, organization: str, now: float) -> None:
        self._over(self._forbidden.pop(organization, None), now)

    # ---- with other workers

    def share(self, stirred: Callable[[], None]) -> None:
        """From now on a probe waits for leave. `stirred()` says that there is something to tell or to ask
        (`delivery.shared_holds`)."""
        self._stirred = stirred

    def adopt(self, found: Sequence[HeldNow], owner: str, now: float) -> None:
        """What the ledger says of this platform's holds, to which those in `report` belong. `owner`: we."""
        self._told = []
        released = {held.id for held in found if held.released}
        for held in list(self._all()):
            if held.id in released:
                self._drop(held)
        # Where several have begun one, the eldest by the ledger's clock gives it its name: all workers choose the same.
        eldest: dict[tuple[HoldReason, str], HeldNow] = {}
        for hold in sorted(found, key=lambda hold: (hold.age, hold.id)):
            ours = hold.credential == self._credential_of(hold.reason)
            if ours and hold.reason != "paused" and not hold.released and hold.id not in self._ended:
                eldest[hold.reason, _scope(hold)] = hold
        for hold in eldest.values():
            self._take_over(hold, owner, now)

    def ended(self, now: float) -> list[UUID]:
        """Holds that are over for everybody, of the last minute."""
        self._ended = {identifier: at for identifier, at in self._ended.items() if at > now - _ENDED_KEPT_SECONDS}
        return list(self._ended)

    def untold(self) -> None:
        """What was last reported did not arrive."""
        for held, news, asks in self._told:
            held.news, held.asks = held.news or news, held.asks or asks

    def _take_over(self, hold: HeldNow, owner: str, now: float) -> None:
        held = next((held for held in self._all() if held.reason == hold.reason and held.scope == _scope(hold)), None)
        due = now + hold.next_probe
        if held is None:
            if hold.reason == "throttled" and due <= now:
                return
            held = _Held(hold.reason, _scope(hold), now - hold.age, hold.wait, due, id=hold.id, news=False)
            self._put(held)
        elif held.id != hold.id:
            self._ended[held.id] = now
            held.id, held.since, held.leave_until = hold.id, now - hold.age, -math.inf
            held.news = hold.reason == "throttled"
        if hold.reason == "throttled":
            held.next_probe, held.interval = max(held.next_probe, due), max(held.interval, hold.wait)
            return
        asked, held.asked = held.asked, False
        if hold.probing > 0 and hold.prober != owner:
            due = max(due, now + _ASKED_BY_OTHERS_SECONDS)  # another's probe is on its way
            held.leave_until = -math.inf
        elif hold.probing > 0 and asked:
            held.leave_until = now + min(hold.probing, _LEAVE_SECONDS)
        if not (held.out or held.news):
            held.next_probe, held.interval = due, hold.wait
            if hold.reason == "breaker":
                self.breaker.open(due, hold.wait)

    def _put(self, held: _Held) -> None:
        match held.reason:
            case "breaker":
                self._breaker = held
                self.breaker.open(held.next_probe, held.interval)
            case "credentials":
                self._credentials = held
            case "forbidden":
                self._forbidden[held.scope] = held
            case "throttled":
                self._throttled[held.scope] = held

    def _drop(self, held: _Held) -> None:
        """It is over, and another has said so."""
        match held.reason:
            case "breaker":
                self._breaker = None
                self.breaker.close()
            case "credentials":
                self._credentials = None
            case "forbidden":
                del self._forbidden[held.scope]
            case "throttled":
                del self._throttled[held.scope]

    def _credential_of(self, reason: HoldReason) -> str:
        return self._credential if reason in ("credentials", "forbidden") else ""

    def _has_leave(self, held: _Held, now: float) -> bool:
        return self._stirred is None or held.leave_until > now

    def _ask(self, held: _Held) -> bool:
        """Whether this is the first to ask."""
        first, held.asks = not held.asks, True
        if first:
            self._stir()
        return first

    def _begun(self, held: _Held) -> _Held:
        held.news = True
        self._stir()
        return held

    def _probed(self, held: _Held | None) -> None:
        """A probe of it came back, and did not end it."""
        if held is not None and held.out:
            held.out, held.leave_until = False, -math.inf
            self._begun(held)

    def _over(self, held: _Held | None, now: float) -> None:
        if held is not None and self._stirred is not None:
            self._ended[held.id] = now
            self._stir()

    def _stir(self) -> None:
        if self._stirred is not None:
            self._stirred()

    # ---- what is told

    @property
    def nothing(self) -> bool:
        """Nothing at all is held."""
        return not (self._paused or self._credentials or self._breaker or self._forbidden or self._throttled)

    @property
    def counts(self) -> bool:
        """Whether a failure now is the delivery's own: the breaker is closed and our credentials are good."""
        return self._breaker is None and self._credentials is None

    def _all(self) -> Iterator[_Held]:
        for held in (self._breaker, self._credentials):
            if held is not None:
                yield held
        yield from self._forbidden.values()
        yield from self._throttled.values()

    def reasons(self, now: float) -> list[HoldReason]:
        """Of each hold that there is now."""
        return [held.reason for held in self._held_now(now)]

    def _held_now(self, now: float) -> list[_Held]:
        paused = [] if self._paused is None else [self._paused]
        return paused + [held for held in self._all() if held.reason != "throttled" or held.next_probe > now]

    def report(self, platform: str, now: float) -> list[Hold]:
        """All that is held now, for the ledger: while it lasts a deadline stands still. What was news is told by it
        (see `untold`)."""
        held_now = self._held_now(now)
        holds = [
            Hold(
                id=held.id,
                platform=platform,
                organization_id=held.scope or None,
                reason=held.reason,
                age=now - held.since,
                next_probe=held.next_probe - now,
                wait=held.interval,
                news=held.news,
                wants_probe=held.asks,
                probing=held.out or held.leave_until > now,
                credential=self._credential_of(held.reason),
            )
            for held in held_now
        ]
        self._told = [(held, held.news, held.asks) for held in held_now]
        for held in held_now:
            held.asked = held.asks
            held.news = held.asks = False
        return holds


def _scope(hold: HeldNow) -> str:
    return hold.organization_id or ""
