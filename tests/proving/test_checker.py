"""The checker finds each planted violation, and names the record."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from proving.checker.facts import Conditions, EventRow, Part
from proving.checker.verdict import judge, same_end
from tests.proving.made_facts import (
    FIRST,
    NOW,
    PLATFORM,
    SECOND,
    TOPIC,
    attempt,
    dead_delivery,
    dead_metric,
    delivery,
    facts,
    position,
    published,
    receipt,
)

pytestmark = pytest.mark.fast
UNSURE = {"outcome": "uncertain", "http_status": None}


def broken(**changes: Any) -> dict[str, list[str]]:
    verdict = judge(facts(**changes))
    return {name: [one.what for one in found] for name, found in verdict.violations.items() if found}


def test_a_good_run_holds() -> None:
    assert broken() == {}


def parts(organization: str = "org", hours: str = "2.5") -> list[Part]:
    return [Part(organization, [f"label-{SECOND.int}"], True, [("volunteer_hours", Decimal(hours))])]


@pytest.mark.parametrize(
    ("equation", "said", "changes"),
    [
        pytest.param(
            "E1", f"{TOPIC}[0]@2 must become a dead letter, and became nothing", {"metrics_dead": []}, id="lost"
        ),
        pytest.param(
            "E1",
            f"{TOPIC}[0]@1 must become a row, and became row and dead letter",
            {"metrics_dead": [dead_metric(2, b"poison"), dead_metric(1, b"second")]},
            id="two outcomes",
        ),
        pytest.param(
            "E1",
            f"{TOPIC}[0]@4 must become a dead letter, and became nothing",
            {
                "published": [
                    published(0, "event", FIRST),
                    published(1, "event", SECOND),
                    published(2, "poison", None),
                    published(3, "tombstone", None),
                    published(4, "conflict", SECOND, content_sha256="other"),
                ]
            },
            id="a conflict taken for a duplicate",
        ),
        pytest.param("E2", f"event {SECOND}", {"deliveries": [delivery(FIRST)]}, id="no delivery"),
        pytest.param(
            "E2",
            f"event {SECOND} (label-{SECOND.int}) is still retrying",
            {"deliveries": [delivery(FIRST), delivery(SECOND, status="retrying", outcome=None)]},
            id="unfinished",
        ),
        pytest.param(
            "E3",
            f"event {SECOND} (label-{SECOND.int}) is delivered, and had no effect",
            {"receipts": [receipt(1, FIRST), receipt(2, SECOND, effect=False)]},
            id="no effect",
        ),
        pytest.param(
            "E3",
            "and the ledger says dead",
            {"deliveries": [delivery(FIRST), delivery(SECOND, status="failed", outcome="dead")]},
            id="an effect of what is dead for sure",
        ),
        pytest.param(
            "E3",
            f"event {SECOND} (label-{SECOND.int}) has 2.51 of volunteer_hours at benevity, and 2.5000 was published",
            {"receipts": [receipt(1, FIRST), receipt(2, SECOND, parts=parts(hours="2.51"))]},
            id="another amount",
        ),
        pytest.param(
            "E3",
            "went to stranger at benevity, and belongs to org",
            {"receipts": [receipt(1, FIRST), receipt(2, SECOND, parts=parts("stranger"))]},
            id="another company",
        ),
        pytest.param(
            "E3",
            f"event {SECOND} (label-{SECOND.int}) had 2 effects at benevity (requests 2, 3)",
            {
                "receipts": [receipt(1, FIRST), receipt(2, SECOND), receipt(3, SECOND, key="other")],
                "attempts": [attempt(FIRST), attempt(SECOND, 1, **UNSURE), attempt(SECOND, 2)],
            },
            id="two effects",
        ),
        pytest.param(
            "E4",
            "benevity request 3 has other content",
            {
                "receipts": [
                    receipt(1, FIRST),
                    receipt(2, SECOND, status=500, effect=False),
                    receipt(3, SECOND, body_sha256="other"),
                ],
                "attempts": [attempt(FIRST), attempt(SECOND, 1, **UNSURE), attempt(SECOND, 2)],
            },
            id="other content under a key",
        ),
        pytest.param(
            "E5",
            f"event {SECOND} (label-{SECOND.int}) is dead for benevity, and not in its dead letters",
            {
                "deliveries": [delivery(FIRST), delivery(SECOND, status="failed", outcome="dead")],
                "receipts": [receipt(1, FIRST), receipt(2, SECOND, effect=False, status=422)],
            },
            id="no dead letter",
        ),
        pytest.param(
            "E5",
            "is in the dead letters of benevity, and the ledger says delivered",
            {"deliveries_dead": {PLATFORM: [dead_delivery(SECOND)]}},
            id="a dead letter of what was delivered",
        ),
        pytest.param(
            "E5",
            f"the dead letter of {TOPIC}[0]@2 has other bytes",
            {"metrics_dead": [dead_metric(2, b"poisoN")]},
            id="changed poison",
        ),
        pytest.param(
            "E6",
            f"event {SECOND} (label-{SECOND.int}) was requested 2 times at benevity in 1 attempts",
            {"receipts": [receipt(1, FIRST), receipt(2, SECOND), receipt(3, SECOND, effect=False)]},
            id="a request without an attempt",
        ),
        pytest.param(
            "E6",
            "was requested 1 times more after benevity had it, with 0 attempts of unknown fate",
            {
                "receipts": [receipt(1, FIRST), receipt(2, SECOND), receipt(3, SECOND, effect=False)],
                "attempts": [attempt(FIRST), attempt(SECOND, 1), attempt(SECOND, 2)],
            },
            id="a needless request",
        ),
        pytest.param(
            "E6",
            "counted 17 attempts",
            {"attempts": [attempt(FIRST), *(attempt(SECOND, n, http_status=None) for n in range(1, 18))]},
            id="too many attempts",
        ),
        pytest.param("E9", "impact-in-ingest is at 4 of 5", {"positions": [position(committed=4)]}, id="not committed"),
        pytest.param(
            "order",
            f"event {FIRST} (label-{FIRST.int}) at offset 0 came to benevity in benevity request 2, after offset 1",
            {"receipts": [receipt(1, SECOND), receipt(2, FIRST)]},
            id="order",
        ),
        pytest.param(
            "format",
            "benevity request 2: no such field",
            {"receipts": [receipt(1, FIRST), receipt(2, SECOND, violation="no such field")]},
            id="format",
        ),
    ],
)
def test_each_planted_violation_is_found_and_named(equation: str, said: str, changes: dict[str, Any]) -> None:
    found = broken(**changes)
    assert any(said in what for what in found.get(equation, ())), found


def test_what_is_uncertain_may_be_repeated_and_may_have_an_effect_when_dead() -> None:
    assert not broken(
        receipts=[receipt(1, FIRST), receipt(2, SECOND, status=0), receipt(3, SECOND, effect=False, status=500)],
        attempts=[
            attempt(FIRST),
            attempt(SECOND, 1, **UNSURE),
            attempt(SECOND, 2, outcome="unavailable", http_status=500),
        ],
        deliveries=[delivery(FIRST), delivery(SECOND, status="failed", outcome="dead")],
        deliveries_dead={PLATFORM: [dead_delivery(SECOND)]},
    )


def test_a_platform_that_counts_may_have_one_more_effect_for_each_unknown_fate_and_no_more() -> None:
    counts = Conditions(platforms=(PLATFORM,), personality="counts")
    twice = [receipt(1, FIRST), receipt(2, SECOND, status=0), receipt(3, SECOND)]
    unsure = [attempt(FIRST), attempt(SECOND, 1, **UNSURE), attempt(SECOND, 2)]
    assert not broken(conditions=counts, receipts=twice, attempts=unsure)
    thrice = broken(conditions=counts, receipts=[*twice, receipt(4, SECOND)], attempts=[*unsure, attempt(SECOND, 3)])
    assert "had 3 effects" in thrice["E3"][0]


@pytest.mark.parametrize(("outcome", "holds"), [("accepted", False), ("unknown_outcome", True)])
def test_only_an_attempt_of_unknown_outcome_explains_a_second_request(outcome: str, holds: bool) -> None:
    late = attempt(SECOND, 1, outcome=outcome, http_status=200)
    found = broken(
        receipts=[receipt(1, FIRST), receipt(2, SECOND), receipt(3, SECOND, effect=False)],
        attempts=[attempt(FIRST), late, attempt(SECOND, 2, started_at=NOW + timedelta(hours=1))],
    )
    assert (not found) is holds


def test_a_violation_tells_the_whole_life_of_its_record() -> None:
    verdict = judge(facts(receipts=[receipt(1, FIRST), receipt(2, SECOND), receipt(3, SECOND, effect=False)]))
    life = "\n".join(verdict.histories["E6"][0])
    for told in (f"{TOPIC}[0]@1", "duplicate", "event row  accepted", "attempt 1", "receipt benevity 2", "benevity 3"):
        assert told in life
    assert "E6" in verdict.explained()


def test_e11_names_what_ended_otherwise_in_the_other_run() -> None:
    one = judge(facts())
    dead = facts(deliveries=[delivery(FIRST), delivery(SECOND, status="failed", outcome="dead")])
    assert same_end(one, judge(facts())).violations["E11"] == []
    found = same_end(judge(dead), one).violations["E11"]
    assert any(str(SECOND) in violation.what for violation in found)


def test_an_event_row_at_another_place_is_no_row_of_this_record() -> None:
    rows = [EventRow(FIRST, "accepted", None, (TOPIC, 0, 0)), EventRow(FIRST, "accepted", None, (TOPIC, 0, 1))]
    assert any("@1 became the row of" in what for what in broken(events=rows)["E1"])
