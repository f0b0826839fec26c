"""Holding: what must not be sent now, why, and when it is worth trying again. One platform's, one worker's.

A platform is held while an operator paused it, while its breaker is not closed, or while it rejects our credentials; an
organization after a 403; a quota's scope while the platform throttles it. A hold lets single real deliveries through as
probes, and an answer ends it. What is held waits, and costs nobody an attempt.
"""

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
from delivery_log.contract import Hold, HoldReason

CREDENTIALS_PROBE_SECONDS = 60.0
FORBIDDEN_PROBE_SECONDS = 600.0
_FIRST_THROTTLE, _LONGEST_THROTTLE = 1.0, 60.0
_LONGEST_RETRY_AFTER = 3600.0
_PAUSED_LOOK_SECONDS = 1.0


@dataclass(slots=True)
class _Probing:
    """A hold that one delivery may try after each `interval`."""

    since: float
    interval: float
    next_probe: float
    id: UUID = field(default_factory=uuid4)


@dataclass(slots=True)
class _Throttle:
    since: float
    until: float
    wait: float
    id: UUID = field(default_factory=uuid4)


class Holds:
    """`now`: any clock that only goes on, in seconds."""

    def __init__(self) -> None:
        self.breaker = Breaker()
        self._paused: _Probing | None = None
        self._credentials: _Probing | None = None
        self._breaker: _Probing | None = None
        self._forbidden: dict[str, _Probing] = {}
        self._throttled: dict[str, _Throttle] = {}

    # ---- what an operator says

    def pause(self, paused: bool, now: float) -> None:
        if not paused:
            self._paused = None
        elif self._paused is None:
            self._paused = _Probing(now, _PAUSED_LOOK_SECONDS, now)

    def organization_touched(self, organization: str) -> None:
        """`companies set` changed it: worth trying at once."""
        self._forbidden.pop(organization, None)

    # ---- may it go?

    def platform_wait(self, now: float) -> float:
        """Seconds until it is worth asking again; 0.0: go. Whoever gets 0.0 while it is held is the probe, and tells
        what came of it (`learn`), or that it did not go (`released`)."""
        if self._paused is not None:
            return _PAUSED_LOOK_SECONDS
        if self._credentials is not None:
            wait = self._credentials.next_probe - now
            if wait > 0:
                return wait
        wait = self.breaker.admit(now)
        if wait == 0.0 and self._credentials is not None:
            self._credentials.next_probe = now + CREDENTIALS_PROBE_SECONDS
        return wait

    def organization_wait(self, organization: str, now: float) -> float:
        held = self._forbidden.get(organization)
        if held is None:
            return 0.0
        if held.next_probe > now:
            return held.next_probe - now
        held.next_probe = now + held.interval
        return 0.0

    def organization_released(self, organization: str, now: float) -> None:
        """Its probe was not sent: the next may be it."""
        if organization in self._forbidden:
            self._forbidden[organization].next_probe = now

    @property
    def forbidden(self) -> list[str]:
        return list(self._forbidden)

    def scope_wait(self, scope: str, now: float) -> float:
        throttle = self._throttled.get(scope)
        return 0.0 if throttle is None else max(throttle.until - now, 0.0)

    def released(self, now: float) -> None:
        """What was let go was not sent after all."""
        self.breaker.released()
        if self._credentials is not None:
            self._credentials.next_probe = now

    # ---- what came of it

    def learn(self, outcome: Outcome, organization: str, scope: str, now: float, *, probe: bool = False) -> None:
        """`probe`: it was let through while the platform was held."""
        if isinstance(outcome, Unavailable | Uncertain):
            self._failed(outcome, organization, now, probe=probe)
        else:
            self.breaker.answered(organization, now, probe=probe)
        if self.breaker.state(now) == "closed":
            self._breaker = None
        elif self._breaker is None:
            self._breaker = _Probing(now, 1.0, now)
        if isinstance(outcome, CredentialsRejected):
            if self._credentials is None:
                next_probe = now + CREDENTIALS_PROBE_SECONDS
                self._credentials = _Probing(now, CREDENTIALS_PROBE_SECONDS, next_probe)
        elif isinstance(outcome, Accepted | Refused | Forbidden | Throttled):
            self._credentials = None
        if isinstance(outcome, Forbidden):
            self._forbidden.setdefault(
                organization, _Probing(now, FORBIDDEN_PROBE_SECONDS, now + FORBIDDEN_PROBE_SECONDS)
            )
        elif isinstance(outcome, Accepted | Refused):
            self._forbidden.pop(organization, None)
        if isinstance(outcome, Throttled):
            self._throttle(scope, outcome.after, now)
        elif isinstance(outcome, Accepted | Refused) and self.scope_wait(scope, now) == 0.0:
            # What was sent before the hold began, and is answered during it, says nothing of what comes after.
            self._throttled.pop(scope, None)

    def _failed(self, outcome: Unavailable | Uncertain, organization: str, now: float, *, probe: bool) -> None:
        if outcome.error_code not in ("INTERNAL_ERROR", "LEASE_SPENT"):
            self.breaker.failed(organization, now, probe=probe)
        elif probe:
            self.breaker.released()  # ours, not the platform's

    def _throttle(self, scope: str, after: float | None, now: float) -> None:
        before = self._throttled.get(scope)
        if before is None:
            doubled = _FIRST_THROTTLE
        elif now < before.until:
            doubled = before.wait  # sent together with the one that began the hold: said once
        else:
            doubled = min(before.wait * 2, _LONGEST_THROTTLE)
        # Retry-After: 0 is no invitation to spin.
        wait = doubled if after is None else min(max(after, 0.1), _LONGEST_RETRY_AFTER)
        until = max(now + wait, 0.0 if before is None else before.until)
        since = now if before is None else before.since
        self._throttled[scope] = _Throttle(since, until, doubled, uuid4() if before is None else before.id)

    # ---- what is told

    @property
    def counts(self) -> bool:
        """Whether a failure now is the delivery's own: the breaker is closed and our credentials are good."""
        return self._breaker is None and self._credentials is None

    def report(self, platform: str, now: float) -> list[Hold]:
        """All that is held now, for the ledger: while it lasts a deadline stands still."""
        whole: list[tuple[HoldReason, _Probing | None]] = [
            ("paused", self._paused),
            ("breaker", self._breaker),
            ("credentials", self._credentials),
        ]
        holds = [
            Hold(id=held.id, platform=platform, organization_id=None, reason=reason, age=now - held.since)
            for reason, held in whole
            if held is not None
        ]
        holds += [
            Hold(id=h.id, platform=platform, organization_id=name, reason="forbidden", age=now - h.since)
            for name, h in self._forbidden.items()
        ]
        return holds + [
            Hold(id=t.id, platform=platform, organization_id=scope or None, reason="throttled", age=now - t.since)
            for scope, t in self._throttled.items()
            if t.until > now
        ]
