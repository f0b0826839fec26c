"""What follows from an outcome. The one place that decides it, and pure: no clock, no server."""

from typing import Literal

import msgspec

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
from delivery.retry_schedule import RetrySchedule
from delivery_log.contract import AttemptOutcome, Go

_NAMES: dict[type, AttemptOutcome] = {
    Accepted: "accepted",
    Refused: "refused",
    Throttled: "throttled",
    Unavailable: "unavailable",
    CredentialsRejected: "credentials_rejected",
    Forbidden: "forbidden",
    Uncertain: "uncertain",
}

# Not the delivery's fault: these cost it nothing.
_UNCOUNTED = (Throttled, Forbidden, CredentialsRejected)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    outcome: AttemptOutcome
    counted: bool
    then: Literal["delivered", "later", "dead"]
    delay: float = 0.0
    """Seconds until the next attempt, where `then` is `later`."""
    fate_known: bool = True
    error_code: str | None = None


def attempt_outcome(outcome: Outcome) -> AttemptOutcome:
    """The outcome's name in `delivery_attempts.outcome`."""
    return _NAMES[type(outcome)]


def decide(outcome: Outcome, go: Go, schedule: RetrySchedule, *, counts: bool = True) -> Decision:
    """What becomes of a delivery that ended attempt `go` with this outcome. `counts` False: the platform was held, and
    this was its probe.

    The deadline is looked at only after a counted failure: nothing is given up unattempted, or because of a wait.
    """
    name = attempt_outcome(outcome)
    if isinstance(outcome, Accepted):
        return Decision(outcome=name, counted=True, then="delivered")
    code = "ORG_FORBIDDEN" if isinstance(outcome, Forbidden) else outcome.error_code or name.upper()
    if isinstance(outcome, Refused):
        return Decision(outcome=name, counted=True, then="dead", error_code=code)
    counted = counts and not isinstance(outcome, _UNCOUNTED)
    fate_known = not isinstance(outcome, Uncertain) and not (
        isinstance(outcome, Unavailable) and not outcome.fate_known
    )
    if counted and go.to_deadline is not None and go.to_deadline <= 0:
        return Decision(outcome=name, counted=True, then="dead", fate_known=fate_known, error_code=code)
    after = outcome.after if isinstance(outcome, Throttled | Unavailable) else None
    return Decision(
        outcome=name,
        counted=counted,
        then="later",
        delay=schedule.wait(go.counted + counted, after),
        fate_known=fate_known,
        error_code=code,
    )
