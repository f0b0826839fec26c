"""Names and small formats: durations, topics, headers, trace context, ids."""

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Topics, headers
from schemas.durations import format_duration, parse_duration
from schemas.identity import delivery_id, idempotency_key
from schemas.topics import deliver_group, retry_group
from schemas.trace import child_of, new_traceparent, trace_id, valid_traceparent
from tests.schemas.events import patient

pytestmark = pytest.mark.fast

# ------------------------------------------------------------- durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("1.5s", 1.5), (" 10m ", 600), ("24h", 86_400), ("400d", 400 * 86_400), ("0s", 0)],
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-5s", "5 s", "5S", "1h30m", "1e3s", "infs", "5.s", "٣s", "1" * 20 + "d"]
)
def test_anything_else_is_a_value_error_that_says_what_a_duration_takes(text: str) -> None:
    with pytest.raises(ValueError, match="a number with ms, s, m, h or d"):
        parse_duration(text)


@patient
@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_no_duration_of_the_right_form_raises_anything_but_value_error(number: int, unit: str) -> None:
    try:
        parse_duration(f"{number}{unit}")
    except ValueError:
        assert len(str(number)) > 9


@patient
@given(st.integers(0, 999_999_999))
def test_a_duration_survives_its_own_spelling(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("given_as", "spelled"),
    [("60s", "1m"), ("1000ms", "1s"), ("60m", "1h"), ("24h", "1d"), ("90s", "90s"), ("1.5s", "1500ms"), ("0d", "0ms")],
)
def test_equal_durations_have_one_spelling(given_as: str, spelled: str) -> None:
    assert format_duration(parse_duration(given_as)) == spelled


# ------------------------------------------------------------- topics


def test_topics_are_named_as_in_the_contract() -> None:
    topics = Topics()
    assert topics.metrics == "impact.metrics"
    assert topics.metrics_dlt == "impact.metrics.dlt"
    assert topics.status == "impact.status"
    assert topics.deliveries("goodera") == "impact.deliveries.goodera"
    assert topics.deliveries_dlt("goodera") == "impact.deliveries.goodera.dlt"
    tiers = [topics.retry("goodera", parse_duration(text)) for text in ("5s", "1m", "10m", "1h")]
    assert tiers == [f"impact.deliveries.goodera.retry.{text}" for text in ("5s", "1m", "10m", "1h")]


def test_the_prefix_replaces_the_leading_impact_and_groups_keep_their_names() -> None:
    topics = Topics("t1.")
    assert topics.metrics == "t1.metrics"
    assert topics.deliveries("benevity") == "t1.deliveries.benevity"
    assert deliver_group("benevity") == "impact-in-deliver-benevity"
    assert retry_group("benevity") == "impact-in-retry-benevity"


# ------------------------------------------------------------- headers


def test_of_a_header_given_twice_the_first_counts() -> None:
    assert headers.read_headers([("ii-hop", b"3"), ("ii-hop", b"4")]) == {"ii-hop": "3"}


def test_foreign_empty_overlong_and_undecodable_headers_are_left_out() -> None:
    raw = [("other", b"x"), ("ii-event-id", None), ("ii-hop", b"\xff"), ("ii-error-code", b"x" * 1025)]
    assert headers.read_headers(raw) == {}
    assert headers.read_headers(None) == {}
    assert headers.read_headers([("ii-error-code", b"x" * 1024)]) == {"ii-error-code": "x" * 1024}


@patient
@given(st.lists(st.tuples(st.text(max_size=5) | st.sampled_from(sorted(headers.KNOWN)), st.none() | st.binary())))
def test_reading_headers_never_raises_and_is_bounded(raw: list[tuple[str, bytes | None]]) -> None:
    found = headers.read_headers(raw)
    assert set(found) <= headers.KNOWN
    assert all(len(value.encode()) <= headers.MAX_VALUE_BYTES for value in found.values())


@patient
@given(
    st.dictionaries(st.sampled_from(sorted(headers.KNOWN)), st.none() | st.integers(0, 10**9) | st.text(max_size=2000))
)
def test_written_headers_can_be_read_and_are_cut_at_a_character(values: dict[str, str | int | None]) -> None:
    written = headers.write_headers(values)
    found = headers.read_headers(written)
    assert set(found) == {name for name, value in values.items() if value is not None}
    for name, value in found.items():
        whole = str(values[name]).encode(errors="replace").decode()
        assert whole.startswith(value)
        assert value == whole or len(value.encode()) > headers.MAX_VALUE_BYTES - 4


def test_a_lone_surrogate_in_a_header_becomes_a_question_mark() -> None:
    assert headers.write_headers({"ii-error-message": "a\ud800b"}) == [("ii-error-message", b"a?b")]


def test_times_are_rfc_3339_in_utc() -> None:
    moment = datetime(2026, 11, 24, 7, 50, 0, 123_456, tzinfo=timezone(timedelta(hours=1)))
    assert headers.rfc3339(moment) == "2026-11-24T06:50:00.123Z"
    with pytest.raises(ValueError, match="zone"):
        headers.rfc3339(datetime(2026, 11, 24))  # noqa: DTZ001 - the very mistake


@patient
@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_time_survives_a_header_to_the_millisecond(moment: datetime) -> None:
    read = headers.read_time(headers.rfc3339(moment))
    assert read is not None
    assert timedelta() <= moment - read < timedelta(milliseconds=1)


@patient
@given(st.none() | st.text(max_size=30) | st.sampled_from(["2026-11-24", "2026-11-24T06:50:00", "now", "9" * 50]))
def test_a_time_from_outside_is_a_zoned_time_or_none(text: str | None) -> None:
    moment = headers.read_time(text)
    assert moment is None or moment.tzinfo is not None


# ------------------------------------------------------------- trace context

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        PARENT.upper(),
        PARENT + "\n",
        PARENT + "-x",
        "01" + PARENT[2:],
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "\u0660" + PARENT[1:],
    ],
)
def test_a_malformed_traceparent_is_none(text: str | None) -> None:
    assert valid_traceparent(text) is None


def test_a_traceparent_is_carried_and_its_children_keep_the_trace() -> None:
    assert valid_traceparent(PARENT) == PARENT
    child = child_of(PARENT)
    assert valid_traceparent(child) == child
    assert trace_id(child) == trace_id(PARENT) == "0af7651916cd43dd8448eb211c80319c"
    assert child[36:52] != PARENT[36:52]
    assert child[52:] == PARENT[52:]


def test_new_traces_are_valid_and_differ() -> None:
    one, other = new_traceparent(), new_traceparent()
    assert valid_traceparent(one) == one
    assert trace_id(one) != trace_id(other)


# ------------------------------------------------------------- ids


def uuid5_by_hand(namespace: UUID, name: str) -> UUID:
    """RFC 9562, section 5.5."""
    digest = bytearray(hashlib.sha1(namespace.bytes + name.encode()).digest()[:16])
    digest[6] = (digest[6] & 0x0F) | 0x50
    digest[8] = (digest[8] & 0x3F) | 0x80
    return UUID(bytes=bytes(digest))


def test_a_delivery_has_the_id_that_the_contract_makes() -> None:
    event = uuid4()
    namespace = uuid5_by_hand(UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"), "impact-in")
    assert delivery_id(event, "benevity") == uuid5_by_hand(namespace, f"{event}:benevity")


def test_a_generation_has_the_key_that_the_design_makes() -> None:
    delivery = uuid4()
    assert idempotency_key(delivery, 0) == uuid5_by_hand(delivery, "0")
    assert idempotency_key(delivery, 12) == uuid5_by_hand(delivery, "12")
    assert idempotency_key(delivery, 0) != idempotency_key(delivery, 1)
