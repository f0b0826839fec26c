"""`decode` is total: whatever the bytes are, it returns an event or a reason, quickly."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ImpactMetricEvent, Unreadable, UnreadableKind, avro, decode
from schemas.event import to_avro
from schemas.reading import MAX_RECORD_BYTES
from tests.schemas.events import FIELDS, json_event, json_with_value, patient, valid_events

pytestmark = pytest.mark.fast

_AVRO = avro.encode_single_object(to_avro(decode(json_event(metadata={"a": "b"}, platforms=["benevity"]))))  # type: ignore[arg-type]
_JSON = json_event(metadata={"a": "b"}, platforms=["benevity"])


def is_an_answer(answer: object) -> bool:
    return isinstance(answer, ImpactMetricEvent) or (
        isinstance(answer, Unreadable) and isinstance(answer.kind, UnreadableKind) and 0 < len(answer.detail) <= 300
    )


def kind(raw: bytes) -> UnreadableKind | None:
    answer = decode(raw)
    assert is_an_answer(answer)
    return answer.kind if isinstance(answer, Unreadable) else None


@patient
@given(st.binary(max_size=300))
def test_arbitrary_bytes_get_an_answer(raw: bytes) -> None:
    assert is_an_answer(decode(raw))


@patient
@given(st.binary(max_size=200))
def test_arbitrary_bytes_behind_our_fingerprint_get_an_answer(body: bytes) -> None:
    assert is_an_answer(decode(avro.PREFIX + body))


@patient
@given(
    base=st.sampled_from([_AVRO, _JSON]),
    edits=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 3), st.binary(max_size=10)), min_size=1, max_size=4),
)
def test_a_damaged_record_gets_an_answer(base: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    raw = base
    for at, removed, inserted in edits:
        at %= len(raw) + 1
        raw = raw[:at] + inserted + raw[at + removed :]
    assert is_an_answer(decode(raw))


@patient
@given(valid_events, st.data())
def test_an_event_cut_short_is_never_an_event(event: ImpactMetricEvent, data: st.DataObject) -> None:
    raw = avro.encode_single_object(to_avro(event))
    end = data.draw(st.integers(0, len(raw) - 1))
    assert isinstance(decode(raw[:end]), Unreadable)


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@patient
@given(st.dictionaries(st.sampled_from([*FIELDS, "platforms", "correlation_id", "metadata", "other"]), _anything))
def test_wrong_types_in_any_field_get_an_answer(changes: dict[str, object]) -> None:
    assert is_an_answer(decode(json.dumps(FIELDS | changes).encode()))


@patient
@given(st.integers(-(2**70), 2**70), st.sampled_from([b"\xf0", b""]))
def test_a_length_that_lies_gets_an_answer(length: int, tail: bytes) -> None:
    zigzag = (length << 1) ^ (length >> 69)
    encoded = bytearray()
    while zigzag > 0x7F:
        encoded.append((zigzag & 0x7F) | 0x80)
        zigzag >>= 7
    encoded.append(max(zigzag, 0))
    assert kind(avro.PREFIX + bytes(encoded) + tail) is not None


@pytest.mark.parametrize("fields", ["", "a" * 90])
def test_a_negative_string_length_does_not_read_the_rest_as_text(fields: str) -> None:
    body = to_avro(decode(_JSON))  # type: ignore[arg-type]
    assert kind(avro.PREFIX + b"\x01" + body[1:] + fields.encode()) is UnreadableKind.INVALID_AVRO


def test_an_array_that_claims_2_to_the_60_items_is_refused_at_once() -> None:
    body = to_avro(decode(_JSON))  # type: ignore[arg-type]
    at = body.index(b"\x02\x1evolunteer_hours")
    huge = b"\x80\x80\x80\x80\x80\x80\x80\x80\x20"
    assert kind(avro.PREFIX + body[:at] + huge + body[at + 1 :]) is UnreadableKind.INVALID_AVRO


def test_an_amount_of_a_megabyte_is_refused() -> None:
    body = to_avro(decode(_JSON))  # type: ignore[arg-type]
    at = body.index(avro.decimal_bytes(125_000)) - 1
    length, digits = 500_000, b"\x7f" * 500_000
    varint = bytes([(2 * length & 0x7F) | 0x80, (2 * length >> 7 & 0x7F) | 0x80, 2 * length >> 14])
    assert kind(avro.PREFIX + body[:at] + varint + digits + body[at + 4 :]) is UnreadableKind.INVALID_EVENT


def test_nothing_is_empty() -> None:
    assert kind(b"") is UnreadableKind.EMPTY


def test_two_megabytes_are_oversize_whatever_they_hold() -> None:
    assert kind(_JSON + b" " * 2 * 1024 * 1024) is UnreadableKind.OVERSIZE


def test_the_largest_record_is_read() -> None:
    assert kind(_JSON + b" " * (MAX_RECORD_BYTES - len(_JSON))) is None


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"metrics":[', b'{"other":['])
def test_nesting_100_000_deep_is_refused(opening: bytes) -> None:
    assert kind(opening * (100_000 // len(opening) + 1)) in (UnreadableKind.INVALID_JSON, UnreadableKind.INVALID_EVENT)


def test_nesting_in_an_unknown_field_is_refused_or_passed_over() -> None:
    raw = _JSON[:-1] + b', "other": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert kind(raw) in (None, UnreadableKind.INVALID_JSON)


@pytest.mark.parametrize("digits", ["9" * 5_000, "0." + "9" * 5_000, "1e" + "9" * 5_000, '"' + "9" * 5_000 + '"'])
def test_a_number_of_5_000_digits_is_refused(digits: str) -> None:
    assert kind(json_with_value(digits)) is UnreadableKind.INVALID_EVENT


@pytest.mark.parametrize("digits", ["NaN", "Infinity", "-Infinity", "nan"])
def test_what_is_no_json_number_is_no_json(digits: str) -> None:
    assert kind(json_with_value(digits)) is UnreadableKind.INVALID_JSON


@pytest.mark.parametrize("digits", ["NaN", "Infinity", "-Infinity", "sNaN", "1_000", "٣", "0x10", "1,5", " ", ""])
def test_what_python_would_read_as_a_number_is_none_in_a_string(digits: str) -> None:
    assert kind(json_with_value(json.dumps(digits))) is UnreadableKind.INVALID_EVENT


@pytest.mark.parametrize("field", ["program_id", "program_name", "program_description", "source", "correlation_id"])
@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\udfffx"])
def test_text_that_no_table_can_hold_is_refused(field: str, text: str) -> None:
    assert kind(json_event(**{field: text})) in (UnreadableKind.INVALID_EVENT, UnreadableKind.INVALID_JSON)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_table_can_hold_is_refused_in_metrics_and_maps(text: str) -> None:
    refused = (UnreadableKind.INVALID_EVENT, UnreadableKind.INVALID_JSON)
    for name in ("metric", "unit", "category", "description"):
        assert kind(json_event(metrics=[{"metric": "m", "value": 1, "unit": "u", name: text}])) in refused
    assert kind(json_event(metadata={text: "v"})) in refused
    assert kind(json_event(metadata={"k": text})) in refused
    assert kind(json_event(platforms=[text])) in refused


def test_a_lone_surrogate_in_raw_utf_8_is_no_json() -> None:
    assert kind(_JSON.replace(b"prog-7", b"\xed\xa0\x80")) is UnreadableKind.INVALID_JSON


def test_a_surrogate_pair_is_one_character() -> None:
    event = decode(json_event(program_name="\U0001f600"))
    assert isinstance(event, ImpactMetricEvent)
    assert event.program_name == "\U0001f600"


def test_the_confluent_wire_format_is_named_as_not_supported() -> None:
    assert kind(b"\0\0\0\0\1abc") is UnreadableKind.UNSUPPORTED_ENCODING


def test_another_fingerprint_is_an_unknown_schema_and_named() -> None:
    answer = decode(b"\xc3\x01" + bytes(range(8)) + b"body")
    assert isinstance(answer, Unreadable)
    assert answer.kind is UnreadableKind.UNKNOWN_SCHEMA
    assert "0001020304050607" in answer.detail


@pytest.mark.parametrize("length", range(2, 10))
def test_a_record_that_ends_in_the_fingerprint_is_no_avro(length: int) -> None:
    assert kind(avro.PREFIX[:length]) is UnreadableKind.INVALID_AVRO


def test_bytes_behind_the_body_are_no_event() -> None:
    assert kind(_AVRO + b"\0") is UnreadableKind.INVALID_AVRO


def test_a_memoryview_is_as_good_as_bytes() -> None:
    assert decode(memoryview(_AVRO)) == decode(_AVRO)


def test_a_reason_quotes_nothing_of_the_record() -> None:
    secret = "hunter2-hunter2"
    wrong: list[dict[str, Any]] = [
        {"event_id": secret},
        {"period_start": secret},
        {"occurred_at": secret},
        {"metrics": [{"metric": secret, "value": secret, "unit": secret}]},
        {"platforms": [secret, 5]},
        {"metadata": {secret: 5}},
        {secret: 1, "source": 5},
        {"program_name": secret + "\0"},
    ]
    for changes in wrong:
        answer = decode(json_event(**changes))
        assert isinstance(answer, Unreadable)
        assert secret not in answer.detail
