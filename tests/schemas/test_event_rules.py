"""Section 3 of the contract, rule by rule."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from schemas import ImpactMetricEvent, Unreadable, UnreadableKind, decode
from schemas.event import EventError, MetricEntry, to_avro, validated
from tests.schemas.events import FIELDS, json_event

pytestmark = pytest.mark.fast

METRIC = FIELDS["metrics"][0]


def read(**changes: Any) -> ImpactMetricEvent:
    answer = decode(json_event(**changes))
    assert isinstance(answer, ImpactMetricEvent), answer
    return answer


def refusal(**changes: Any) -> str:
    answer = decode(json_event(**changes))
    assert isinstance(answer, Unreadable), answer
    assert answer.kind is UnreadableKind.INVALID_EVENT
    return answer.detail


def metric(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (METRIC | changes).items() if value is not ...}


def test_every_field_is_read_as_what_it_is() -> None:
    event = read(
        program_description="d",
        platforms=["benevity", "goodera"],
        correlation_id="c",
        metadata={"b": "2", "a": "1"},
        metrics=[metric(category="cat", beneficiaries=3, description="desc")],
    )
    assert event == ImpactMetricEvent(
        event_id=UUID("6f1c1f0e-4b1e-4c55-9a55-0d8f6a3f2b11"),
        company_id=UUID("0b0f5a0c-1d7c-4ad3-8c2e-6f7e0f3a9d22"),
        program_id="prog-7",
        program_name="Sprachbrücke Köln",
        program_description="d",
        period_start=date(2026, 1, 1),
        period_end=date(2026, 1, 31),
        occurred_at=datetime(2026, 2, 1, 8, 30, 0, 123_000, tzinfo=UTC),
        source="programme-service",
        metrics=(
            MetricEntry(
                metric="volunteer_hours",
                value=Decimal("12.5"),
                unit="hours",
                category="cat",
                beneficiaries=3,
                description="desc",
            ),
        ),
        platforms=("benevity", "goodera"),
        correlation_id="c",
        metadata={"a": "1", "b": "2"},
    )


@pytest.mark.parametrize("field", [name for name in FIELDS if name != "program_description"])
def test_a_required_field_that_is_missing_is_named(field: str) -> None:
    assert field in refusal(**{field: ...})


@pytest.mark.parametrize("field", ["metric", "value", "unit"])
def test_a_required_field_of_a_metric_that_is_missing_is_named(field: str) -> None:
    assert field in refusal(metrics=[metric(**{field: ...})])


@pytest.mark.parametrize("field", ["program_description", "platforms", "correlation_id", "metadata"])
def test_what_may_be_absent_may_be_absent(field: str) -> None:
    assert read(**{field: ...}) == read()


@pytest.mark.parametrize("field", [*FIELDS, "metadata"])
def test_a_number_is_no_value_for_any_field(field: str) -> None:
    assert field in refusal(**{field: 17})


def test_unknown_fields_are_ignored_and_change_no_hash() -> None:
    event = read(new_field={"deep": [1, 2.5, None]}, metrics=[metric(colour="red")])
    assert event == read()
    assert to_avro(event) == to_avro(read())


@pytest.mark.parametrize("field", ["event_id", "company_id"])
@pytest.mark.parametrize(
    "text", ["", "7", "6f1c1f0e-4b1e-4c55-9a55-0d8f6a3f2b1", "zf1c1f0e-4b1e-4c55-9a55-0d8f6a3f2b11"]
)
def test_an_id_must_be_a_uuid(field: str, text: str) -> None:
    assert field in refusal(**{field: text})


def test_the_spelling_of_a_uuid_does_not_matter() -> None:
    assert read(event_id=FIELDS["event_id"].upper()) == read()


@pytest.mark.parametrize("field", ["period_start", "period_end"])
@pytest.mark.parametrize("text", ["2026-02-30", "2026-1-1", "01.01.2026", "2026-01-01T00:00:00Z", "20260101", ""])
def test_a_date_is_year_month_day(field: str, text: str) -> None:
    assert field in refusal(**{field: text})


def test_a_period_may_be_one_day_and_must_not_end_before_it_starts() -> None:
    read(period_start="2026-01-31", period_end="2026-01-31")
    assert "period_end" in refusal(period_start="2026-02-01", period_end="2026-01-31")


@pytest.mark.parametrize(
    "text", ["2026-02-01", "2026-02-01T08:30:00", "2026-02-01T25:00:00Z", "yesterday", "", "0001-01-01T00:00:00+01:00"]
)
def test_a_time_is_rfc_3339_with_a_zone(text: str) -> None:
    assert "occurred_at" in refusal(occurred_at=text)


@pytest.mark.parametrize("text", ["2026-02-01T09:30:00.123+01:00", "2026-02-01T08:30:00.123999Z"])
def test_a_time_is_the_instant_in_whole_milliseconds(text: str) -> None:
    assert read(occurred_at=text) == read()


def test_1_to_100_metrics() -> None:
    assert "metrics" in refusal(metrics=[])
    assert len(read(metrics=[METRIC] * 100).metrics) == 100
    assert "metrics" in refusal(metrics=[METRIC] * 101)


@pytest.mark.parametrize("beneficiaries", [-1, 2**63, 1.5, "3"])
def test_beneficiaries_are_a_whole_number_from_zero(beneficiaries: Any) -> None:
    assert "beneficiaries" in refusal(metrics=[metric(beneficiaries=beneficiaries)])


@pytest.mark.parametrize("beneficiaries", [0, 2**63 - 1, None])
def test_the_bounds_of_beneficiaries_are_within(beneficiaries: int | None) -> None:
    assert read(metrics=[metric(beneficiaries=beneficiaries)]).metrics[0].beneficiaries == beneficiaries


@pytest.mark.parametrize("field", ["program_id", "source"])
@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_identifying_text_must_not_be_empty(field: str, text: str) -> None:
    assert field in refusal(**{field: text})


@pytest.mark.parametrize(
    ("field", "most"),
    [
        ("program_id", 1_024),
        ("program_name", 1_024),
        ("program_description", 16_384),
        ("source", 1_024),
        ("correlation_id", 1_024),
    ],
)
def test_every_text_is_bounded(field: str, most: int) -> None:
    read(**{field: "x" * most})
    assert field in refusal(**{field: "x" * (most + 1)})


def test_lists_and_maps_are_bounded() -> None:
    read(platforms=["p"] * 100, metadata={str(number): "" for number in range(100)})
    assert "platforms" in refusal(platforms=["p"] * 101)
    assert "metadata" in refusal(metadata={str(number): "" for number in range(101)})


def test_no_platforms_is_not_all_platforms() -> None:
    assert read(platforms=[]).platforms == ()
    assert read(platforms=None).platforms is None


@pytest.mark.parametrize(
    "changes",
    [
        {"period_end": date(2025, 12, 31)},
        {"occurred_at": datetime(2026, 2, 1)},  # noqa: DTZ001 - the very mistake
        {"metrics": ()},
        {"program_id": ""},
    ],
)
def test_an_event_built_by_hand_is_held_to_the_same_rules(changes: dict[str, Any]) -> None:
    event = msgspec.structs.replace(read(), **changes)
    with pytest.raises(EventError):
        validated(event)


@pytest.mark.parametrize("value", ["-1", "0.00001", "1e14", "NaN", "Infinity", "1." + "0" * 30 + "1"])
def test_an_amount_built_by_hand_is_held_to_the_same_rules(value: str) -> None:
    entry = MetricEntry(metric="m", value=Decimal(value), unit="u")
    with pytest.raises(EventError, match="value"):
        validated(msgspec.structs.replace(read(), metrics=(entry,)))


def test_a_good_event_built_by_hand_is_itself() -> None:
    event = msgspec.structs.replace(read(), metrics=(MetricEntry(metric="m", value=Decimal(3), unit="u"),))
    assert validated(event) is event
