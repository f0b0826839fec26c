"""What follows from the outcomes of a batch."""

from collections.abc import Sequence
from typing import Any

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
from delivery.batch_decision import Settled, decide_together
from delivery_log.contract import Go
from tests.delivery.test_decision import go
from tests.delivery.world import SCHEDULE

pytestmark = pytest.mark.fast

WHOLE = Refused(http_status=400, error_code="DIMENSION_INVALID", whole=True)


def decided(outcomes: Sequence[Outcome], *gos: Go, organizations: Sequence[str] = (), **more: Any) -> list[Settled]:
    members = list(gos) or [go() for _ in outcomes]
    return decide_together(outcomes, members, organizations or ["org"] * len(outcomes), SCHEDULE, **more)


def ways(settled: Sequence[Settled]) -> list[tuple[str, bool, bool]]:
    return [(one.decision.then, one.leaves, one.decision.fate_known) for one in settled]


def test_all_accepted_is_delivered() -> None:
    assert ways(decided([Accepted(), Accepted()])) == [("delivered", False, True)] * 2


@pytest.mark.parametrize(
    ("outcome", "counted", "known"),
    [
        (Throttled(), False, True),
        (CredentialsRejected(), False, True),
        (Unavailable(fate_known=True), True, True),
        (Unavailable(http_status=503), True, False),
        (Uncertain(), True, False),
    ],
)
def test_what_nobody_answered_stays_sealed_and_goes_again(outcome: Outcome, counted: bool, known: bool) -> None:
    settled = decided([outcome] * 3)
    assert ways(settled) == [("later", False, known)] * 3
    assert {one.decision.counted for one in settled} == {counted}
    assert {one.decision.delay for one in settled} == {5.0}


def test_refused_as_a_whole_it_is_halved_at_once_and_counted_for_nobody() -> None:
    for settled in decided([WHOLE] * 5):
        assert (settled.leaves, settled.batch_limit, settled.settles) == (True, 3, False)
        decision = settled.decision
        assert (decision.outcome, decision.then, decision.delay, decision.counted) == ("refused", "later", 0.0, False)
    assert [one.batch_limit for one in decided([WHOLE] * 2)] == [1, 1]


def test_a_whole_refusal_settles_an_uncertain_attempt_only_where_the_platform_says_why() -> None:
    unsure = [go(uncertain=True), go(uncertain=True)]
    assert [(one.settles, one.batch_limit) for one in decided([WHOLE] * 2, *unsure)] == [(True, 1)] * 2
    by_somebody = decided([Refused(http_status=400, error_code="HTTP_400", whole=True)] * 2, *unsure)
    assert ways(by_somebody) == [("later", False, False)] * 2
    assert {one.decision.outcome for one in by_somebody} == {"refused"}


def test_answered_in_part_each_has_its_own_outcome_and_who_is_left_leaves() -> None:
    settled = decided([Accepted(), Refused(error_code="DIMENSION_INVALID"), Throttled(after=30.0)])
    assert ways(settled) == [("delivered", False, True), ("dead", False, True), ("later", True, True)]
    assert settled[2].decision.delay == 60.0


def test_one_unknown_fate_keeps_all_that_are_left_sealed_with_the_longest_wait() -> None:
    settled = decided([Accepted(), Uncertain(), Throttled(after=30.0)])
    assert ways(settled) == [("delivered", False, True), ("later", False, False), ("later", False, False)]
    assert [one.decision.delay for one in settled[1:]] == [60.0, 60.0]
    assert [one.decision.counted for one in settled[1:]] == [True, True]


def test_count_and_deadline_are_those_of_the_member_that_is_longest_at_it() -> None:
    members = [go(), go(counted=2, to_deadline=10.0)]
    assert {one.decision.delay for one in decided([Uncertain()] * 2, *members)} == {60.0}
    over = [go(), go(counted=2, to_deadline=-1.0)]
    assert ways(decided([Uncertain()] * 2, *over)) == [("dead", False, False)] * 2
    # Who leaves has his own again.
    assert ways(decided([Unavailable(fate_known=True), Accepted()], *over))[0] == ("later", True, True)


def test_forbidden_by_one_organization_is_told_from_forbidden_by_one_of_several() -> None:
    together = decided([Forbidden()] * 3)
    assert ways(together) == [("later", True, True)] * 3
    assert {(one.batch_limit, one.decision.outcome, one.decision.counted) for one in together} == {
        (None, "forbidden", False)
    }
    mixed = decided([Forbidden()] * 3, organizations=["a", "a", "b"])
    assert {(one.batch_limit, one.decision.delay, one.leaves) for one in mixed} == {(2, 0.0, True)}


def test_nothing_counts_while_the_platform_is_held() -> None:
    assert {one.decision.counted for one in decided([Uncertain()] * 2, counts=False)} == {False}
