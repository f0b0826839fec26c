"""What follows from the outcomes of a batch. Pure, beside `decision`, which decides for one delivery.

A batch stays sealed as long as nobody was answered, or any member's fate is unknown: then it goes again whole, since a
member alone would go under another key. It has one count and one deadline meanwhile, those of the member that has been
at it longest.
"""

from collections.abc import Sequence

import msgspec

from connectors.contract import Accepted, Forbidden, Outcome, Refused, Unavailable
from delivery.decision import Decision, attempt_outcome, decide
from delivery.retry_schedule import RetrySchedule
from delivery_log.contract import Go


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """A member's decision, and what becomes of its place in the batch (see `delivery_log.contract.Result`)."""

    decision: Decision
    leaves: bool = False
    batch_limit: int | None = None
    settles: bool = False


def decide_together(
    outcomes: Sequence[Outcome],
    gos: Sequence[Go],
    organizations: Sequence[str],
    schedule: RetrySchedule,
    *,
    counts: bool = True,
) -> list[Settled]:
    """One for each member, in their order; of two members at least."""
    unsure = any(go.uncertain for go in gos)
    if _refused_whole(outcomes):
        if unsure and not _says_why(outcomes[0]):
            # By somebody on the way, perhaps: it tells nothing of the attempt before.
            return _again([_as_unknown(outcome, gos, schedule, counts) for outcome in outcomes])
        if isinstance(outcomes[0], Refused) or len(set(organizations)) > 1:
            return [_halved(outcome, len(outcomes), settles=unsure) for outcome in outcomes]
        return [
            Settled(decision=decide(outcome, go, schedule, counts=counts), leaves=True, settles=unsure)
            for outcome, go in zip(outcomes, gos, strict=True)
        ]
    decisions = [decide(outcome, eldest(gos), schedule, counts=counts) for outcome in outcomes]
    answered = [isinstance(outcome, Accepted | Refused) for outcome in outcomes]
    open_ones = [decision for decision, ended in zip(decisions, answered, strict=True) if not ended]
    if any(answered) and all(decision.fate_known for decision in open_ones):
        return [
            Settled(decision=decision)
            if ended
            else Settled(decision=decide(outcome, go, schedule, counts=counts), leaves=True, settles=unsure)
            for outcome, go, decision, ended in zip(outcomes, gos, decisions, answered, strict=True)
        ]
    again = iter(_again(open_ones))
    return [
        Settled(decision=decision) if ended else next(again)
        for decision, ended in zip(decisions, answered, strict=True)
    ]


def eldest(gos: Sequence[Go]) -> Go:
    """The count and deadline of the batch."""
    deadlines = [go.to_deadline for go in gos if go.to_deadline is not None]
    return msgspec.structs.replace(
        gos[0], counted=max(go.counted for go in gos), to_deadline=min(deadlines) if deadlines else None
    )


def _refused_whole(outcomes: Sequence[Outcome]) -> bool:
    return all(
        isinstance(outcome, Forbidden) or (isinstance(outcome, Refused) and outcome.whole) for outcome in outcomes
    )


def _says_why(outcome: Outcome) -> bool:
    """Whether the answer bears an error code of the platform's own."""
    return outcome.error_code is not None and not outcome.error_code.startswith("HTTP_")


def _halved(outcome: Outcome, size: int, *, settles: bool) -> Settled:
    """At once, and counted for nobody: one of them may be to blame, and is found when it stands alone."""
    name = attempt_outcome(outcome)
    return Settled(
        decision=Decision(
            outcome=name, counted=False, then="later", delay=0.0, error_code=outcome.error_code or name.upper()
        ),
        leaves=True,
        batch_limit=(size + 1) // 2,
        settles=settles,
    )


def _as_unknown(outcome: Outcome, gos: Sequence[Go], schedule: RetrySchedule, counts: bool) -> Decision:
    unknown = Unavailable(http_status=outcome.http_status, error_code=outcome.error_code, fate_known=False)
    decision = decide(unknown, eldest(gos), schedule, counts=counts)
    return msgspec.structs.replace(decision, outcome=attempt_outcome(outcome))


def _again(decisions: Sequence[Decision]) -> list[Settled]:
    """All of them alike: the longest wait, and one fate."""
    counted = any(decision.counted for decision in decisions)
    known = all(decision.fate_known for decision in decisions)
    dead = any(decision.then == "dead" for decision in decisions)
    delay = max(decision.delay for decision in decisions)
    return [
        Settled(
            decision=msgspec.structs.replace(
                decision,
                counted=counted,
                fate_known=known,
                then="dead" if dead else "later",
                delay=0.0 if dead else delay,
            )
        )
        for decision in decisions
    ]
