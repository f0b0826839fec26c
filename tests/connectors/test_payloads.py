"""What goes in comes out, exactly; and the bodies look as the contract says (golden files)."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given

from connectors.contract import Connector
from connectors.json_body import number
from connectors.workday import activity_id, event_of_activity
from schemas.event import ImpactMetricEvent
from tests.connectors import events
from tests.connectors.events import EVENT_ID, FULL, STANDARD, entry, event
from tests.connectors.platforms import REAL, connect

pytestmark = pytest.mark.fast

GOLDEN = Path(__file__).parent / "golden"
CONNECTORS: dict[str, Connector] = {name: connect(name, "http://127.0.0.1:1") for name in REAL}
BENEVITY, GOODERA, WORKDAY = (CONNECTORS[name] for name in REAL)


def parsed(connector: Connector, of: ImpactMetricEvent, generation: int = 0) -> Any:
    return json.loads(connector.body(of, "org-1", generation), parse_float=Decimal, parse_int=Decimal)


@pytest.mark.parametrize("name", REAL)
def test_the_body_is_the_golden_one(name: str) -> None:
    """Byte for byte: a changed body changes the hash of every delivery under way."""
    assert CONNECTORS[name].body(FULL, "org-1", 2) == (GOLDEN / f"{name}.json").read_bytes().rstrip(b"\n")


@pytest.mark.parametrize("name", REAL)
def test_a_body_of_hours_and_participants_is_the_golden_one(name: str) -> None:
    small = event(entry("participants", "3"), entry("volunteer_hours", "0.1"), program_description=None)
    assert CONNECTORS[name].body(small, "org-1", 0) == (GOLDEN / f"{name}.small.json").read_bytes().rstrip(b"\n")


@given(events.events)
def test_benevity_receives_every_amount_but_sessions(of: ImpactMetricEvent) -> None:
    sent = [entry for entry in of.metrics if entry.metric != "sessions"]
    assert BENEVITY.understands(of) == bool(sent)
    body = parsed(BENEVITY, of)
    assert [metric["metricValue"] for metric in body["metrics"]] == [entry.value for entry in sent]
    assert [metric.get("description") for metric in body["metrics"]] == [entry.description for entry in sent]
    assert body["programName"] == of.program_name


@given(events.events)
def test_goodera_receives_every_amount_and_scores_as_percentages(of: ImpactMetricEvent) -> None:
    assert GOODERA.understands(of)
    body = parsed(GOODERA, of)
    percent = {"integration_score", "job_readiness"}
    assert [dimension["value"] for dimension in body["impactDimensions"]] == [
        entry.value * 100 if entry.metric in percent else entry.value for entry in of.metrics
    ]
    assert [dimension.get("beneficiaries") for dimension in body["impactDimensions"]] == [
        entry.beneficiaries for entry in of.metrics
    ]


@given(events.events)
def test_workday_receives_hours_sessions_participants_and_volunteers_once(of: ImpactMetricEvent) -> None:
    def total(metric: str) -> Decimal:
        return sum((entry.value for entry in of.metrics if entry.metric == metric), Decimal(0))

    body = parsed(WORKDAY, of, 3)
    activities = body["volunteerActivities"]
    hours = Counter[str]()
    for activity in activities:
        hours[activity["activityType"]] += activity["volunteerHours"]
    assert hours["volunteer"] == total("volunteer_hours")
    assert hours["mentorship"] == total("sessions") * Decimal("1.5")
    assert sum(enrolled["enrollmentCount"] for enrolled in body["programEnrollments"]) == total("participants")
    volunteers = [entry for entry in of.metrics if entry.metric == "volunteer_hours"]
    counted = sum(activity["participantCount"] for activity in activities)
    assert counted == (total("volunteers") if volunteers else 0)
    understood = {"volunteer_hours", "sessions", "participants"}
    assert WORKDAY.understands(of) == any(entry.metric in understood for entry in of.metrics)
    identities = [activity["activityId"] for activity in activities]
    assert len(set(identities)) == len(identities)
    assert {event_of_activity(identity) for identity in identities} <= {of.event_id}


@pytest.mark.parametrize("name", REAL)
@given(events.events)
def test_a_body_is_the_same_every_time(name: str, of: ImpactMetricEvent) -> None:
    connector = CONNECTORS[name]
    body = connector.body(of, "org-1", 1)
    assert body == connect(name, "http://127.0.0.1:2").body(of, "org-1", 1)
    # No exponent, and no zero at the end of a fraction.
    json.loads(body, parse_float=lambda text: pytest.fail(text) if "e" in text.lower() or text.endswith("0") else 0)


@given(events.amounts)
def test_a_number_reads_back_as_the_same_decimal(value: Decimal) -> None:
    text = bytes(number(int(value.scaleb(4)))).decode()
    assert Decimal(text) == value
    assert text == format(value.normalize(), "f")


@pytest.mark.parametrize("generation", [0, 1, 7])
def test_the_generation_changes_nothing_but_workdays_activity_ids(generation: int) -> None:
    for connector in (BENEVITY, GOODERA):
        assert connector.body(FULL, "o", generation) == connector.body(FULL, "o", 0)
    ids = [activity["activityId"] for activity in parsed(WORKDAY, FULL, generation)["volunteerActivities"]]
    assert ids == [f"{EVENT_ID}:0:{generation}", f"{EVENT_ID}:3:{generation}"]


def test_the_event_can_be_read_off_an_activity_id() -> None:
    assert event_of_activity(activity_id(EVENT_ID, 12, 3)) == EVENT_ID
    for other in (
        "",
        "ENR-1",
        str(EVENT_ID),
        f"{EVENT_ID}:1",
        f"{EVENT_ID}:x:1",
        f"{EVENT_ID}:1:2:3",
        "x" * 36 + ":1:1",
    ):
        assert event_of_activity(other) in (None, EVENT_ID if other == f"{EVENT_ID}:1" else None)


@pytest.mark.parametrize(
    ("metrics", "counts"),
    [
        (["volunteer_hours 5"], ["0"]),
        (["volunteer_hours 5", "volunteers 3"], ["3"]),
        (["volunteers 3", "volunteer_hours 5"], ["3"]),
        (["volunteer_hours 5", "volunteer_hours 6", "volunteers 3"], ["3", "0"]),
        (["volunteer_hours 5", "volunteers 3", "volunteers 4.5", "volunteer_hours 6"], ["3", "4.5"]),
        (["volunteer_hours 5", "volunteers 3", "volunteers 4", "volunteers 1"], ["8"]),
        (["sessions 2", "volunteers 3"], ["0"]),
        (["sessions 2", "volunteers 3", "volunteer_hours 1"], ["0", "3"]),
    ],
)
def test_workday_pairs_volunteers_with_hours(metrics: list[str], counts: list[str]) -> None:
    body = parsed(WORKDAY, event(*(entry(*metric.split()) for metric in metrics)))
    assert [activity["participantCount"] for activity in body["volunteerActivities"]] == [Decimal(c) for c in counts]


UNDERSTOOD = {
    "benevity": {*STANDARD, "anything"} - {"sessions"},
    "goodera": {*STANDARD, "anything"},
    "workday": {"volunteer_hours", "participants", "sessions"},
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("metric", [*STANDARD, "anything"])
def test_an_event_is_understood_where_its_body_would_not_be_empty(name: str, metric: str) -> None:
    of = event(entry(metric))
    assert CONNECTORS[name].understands(of) == (metric in UNDERSTOOD[name])
    body = parsed(CONNECTORS[name], of)
    lists = [value for value in body.values() if isinstance(value, list)]
    assert any(lists) == (metric in UNDERSTOOD[name])


def test_every_metric_has_the_name_and_unit_of_the_contract() -> None:
    of = event(*(entry(metric, "0.5", "own unit") for metric in (*STANDARD, "trees_planted")))
    assert [
        (metric["metricType"], metric["metricUnit"], metric.get("category"))
        for metric in parsed(BENEVITY, of)["metrics"]
    ] == [
        ("volunteer_hours", "hours", None),
        ("participant_count", "count", None),
        ("program_participation", "count", None),
        ("outcome_score", "score", "integration"),
        ("outcome_score", "level", "language"),
        ("outcome_score", "score", "job_readiness"),
        ("outcome_score", "own unit", "trees_planted"),
    ]
    assert [
        (dimension["dimensionId"], dimension["unit"], str(dimension["value"]))
        for dimension in parsed(GOODERA, of)["impactDimensions"]
    ] == [
        ("volunteer_hours", "hours", "0.5"),
        ("program_reach", "participants", "0.5"),
        ("volunteer_engagement", "volunteers", "0.5"),
        ("session_count", "sessions", "0.5"),
        ("integration_outcome", "percentage", "50"),
        ("language_proficiency", "level_0_10", "0.5"),
        ("employability", "percentage", "50"),
        ("trees_planted", "own unit", "0.5"),
    ]


def test_an_event_id_is_not_needed_to_be_lower_case() -> None:
    assert event_of_activity(activity_id(UUID(str(EVENT_ID).upper()), 0, 0)) == EVENT_ID
