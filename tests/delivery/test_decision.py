"""What follows from an outcome, a row each."""

from typing import Any
from uuid import uuid4

import pytest

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
from delivery.decision import decide
from delivery_log.contract import Go
from tests.delivery.world import SCHEDULE

pytestmark = pytest.mark.fast


def go(**changes: Any) -> Go:
    fields: dict[str, Any] = {
        "attempt": 1,
        "counted": 0,
        "idempotency_key": uuid4(),
        "replays": 0,
        "failing_for": None,
        "to_deadline": None,
        "uncertain": False,
    }
    return Go(**(fields | changes))


@pytest.mark.parametrize(
    ("outcome", "name", "counted", "then", "delay", "fate_known", "code"),
    [
        (Accepted(http_status=200), "accepted", True, "delivered", 0, True, None),
        (Refused(error_code="INVALID_METRIC"), "refused", True, "dead", 0, True, "INVALID_METRIC"),
        (Refused(), "refused", True, "dead", 0, True, "REFUSED"),
        (Throttled(after=30), "throttled", False, "later", 60, True, "THROTTLED"),
        (Throttled(), "throttled", False, "later", 5, True, "THROTTLED"),
        (Unavailable(http_status=503), "unavailable", True, "later", 5, False, "UNAVAILABLE"),
        (Unavailable(fate_known=True), "unavailable", True, "later", 5, True, "UNAVAILABLE"),
        (Unavailable(after=59, error_code="HTTP_503"), "unavailable", True, "later", 60, False, "HTTP_503"),
        (CredentialsRejected(), "credentials_rejected", False, "later", 5, True, "CREDENTIALS_REJECTED"),
        (Forbidden(error_code="X"), "forbidden", False, "later", 5, True, "ORG_FORBIDDEN"),
        (Uncertain(error_code="TIMEOUT"), "uncertain", True, "later", 5, False, "TIMEOUT"),
    ],
)
def test_each_outcome_has_its_row(
    outcome: Outcome, name: str, counted: bool, then: str, delay: float, fate_known: bool, code: str | None
) -> None:
    decision = decide(outcome, go(), SCHEDULE)
    assert (decision.outcome, decision.counted, decision.then) == (name, counted, then)
    assert (decision.delay, decision.fate_known, decision.error_code) == (delay, fate_known, code)


@pytest.mark.parametrize("outcome", [Unavailable(), Unavailable(fate_known=True), Uncertain()])
@pytest.mark.parametrize(("to_deadline", "then"), [(None, "later"), (0.1, "later"), (0.0, "dead"), (-100.0, "dead")])
def test_a_counted_failure_past_the_deadline_is_the_last(
    outcome: Outcome, to_deadline: float | None, then: str
) -> None:
    decision = decide(outcome, go(counted=3, to_deadline=to_deadline), SCHEDULE)
    assert decision.then == then
    assert decision.counted
    assert decision.fate_known == (isinstance(outcome, Unavailable) and outcome.fate_known)


@pytest.mark.parametrize("outcome", [Throttled(), Forbidden(), CredentialsRejected()])
def test_what_is_not_counted_never_ends_a_delivery(outcome: Outcome) -> None:
    decision = decide(outcome, go(counted=3, to_deadline=-1e6), SCHEDULE)
    assert decision.then == "later"
    assert not decision.counted


def test_an_acceptance_past_the_deadline_is_an_acceptance() -> None:
    assert decide(Accepted(), go(counted=3, to_deadline=-1.0), SCHEDULE).then == "delivered"


@pytest.mark.parametrize(("counted", "delay"), [(0, 5), (1, 60), (5, 60)])
def test_the_count_before_and_this_attempt_choose_the_tier(counted: int, delay: float) -> None:
    assert decide(Unavailable(), go(counted=counted), SCHEDULE).delay == delay


@pytest.mark.parametrize(("counted", "delay"), [(0, 5), (1, 5), (2, 60)])
def test_an_uncounted_attempt_stays_on_its_tier(counted: int, delay: float) -> None:
    assert decide(Throttled(), go(counted=counted), SCHEDULE).delay == delay
