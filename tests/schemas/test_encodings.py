"""One event, whatever the encoding: same value, same hash; held against plain fastavro and the published schema."""

import hashlib
import io
import json
import random
from decimal import Decimal
from typing import Any

import fastavro
import fastavro.schema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ImpactMetricEvent, Unreadable, UnreadableKind, avro, content_hash, decode
from schemas.event import to_avro
from schemas.reading import to_json_fields
from tests.schemas.events import PUBLISHED, json_event, patient, read_independently, valid_events, write_independently

pytestmark = pytest.mark.fast


@patient
@given(valid_events)
def test_json_and_avro_of_an_event_are_the_same_value_with_the_same_hash(event: ImpactMetricEvent) -> None:
    from_json = decode(json.dumps(to_json_fields(event)).encode())
    from_avro = decode(avro.encode_single_object(to_avro(event)))
    assert isinstance(from_json, ImpactMetricEvent), from_json
    assert from_json == from_avro == event
    assert content_hash(to_avro(from_json)) == content_hash(to_avro(event))


@patient
@given(valid_events)
def test_the_body_is_what_any_producer_with_the_published_schema_writes(event: ImpactMetricEvent) -> None:
    assert to_avro(event) == write_independently(event)
    assert content_hash(to_avro(event)) == hashlib.sha256(write_independently(event)).hexdigest()


@patient
@given(valid_events)
def test_the_body_is_what_any_reader_of_the_published_schema_reads(event: ImpactMetricEvent) -> None:
    fields: dict[str, Any] = read_independently(to_avro(event))
    assert fields["event_id"] == event.event_id
    assert (fields["period_start"], fields["period_end"]) == (event.period_start, event.period_end)
    assert fields["occurred_at"] == event.occurred_at
    assert [entry["value"] for entry in fields["metrics"]] == [Decimal(str(entry.value)) for entry in event.metrics]
    assert fields["platforms"] == (None if event.platforms is None else list(event.platforms))
    assert fields["metadata"] == event.metadata


@patient
@given(st.dictionaries(st.text("abcäö", max_size=3), st.text("xyz", max_size=3), min_size=2), st.randoms())
def test_the_order_of_a_map_makes_no_difference(metadata: dict[str, str], chance: random.Random) -> None:
    keys = list(metadata)
    chance.shuffle(keys)
    one, other = (
        decode(json_event(metadata=metadata)),
        decode(json_event(metadata={key: metadata[key] for key in keys})),
    )
    assert isinstance(one, ImpactMetricEvent)
    assert isinstance(other, ImpactMetricEvent)
    assert to_avro(one) == to_avro(other)


def test_an_avro_map_in_another_order_and_in_two_blocks_has_the_same_hash() -> None:
    event = decode(json_event(metadata={"a": "1", "b": "2"}))
    assert isinstance(event, ImpactMetricEvent)
    body = to_avro(event)
    canonical = b"\x04\x02a\x021\x02b\x022\x00"
    assert body.endswith(canonical)
    odd = body.removesuffix(canonical) + b"\x02\x02b\x022\x01\x08\x02a\x021\x00"
    again = decode(avro.encode_single_object(odd))
    assert again == event
    assert isinstance(again, ImpactMetricEvent)
    assert to_avro(again) == body


def test_a_decimal_with_more_bytes_than_it_needs_has_the_same_hash() -> None:
    event = decode(json_event(metrics=[{"metric": "m", "value": 7, "unit": "u"}]))
    assert isinstance(event, ImpactMetricEvent)
    short = avro.decimal_bytes(70_000)
    long = b"\0\0" + short
    odd = to_avro(event).replace(bytes([2 * len(short)]) + short, bytes([2 * len(long)]) + long)
    assert odd != to_avro(event)
    assert decode(avro.encode_single_object(odd)) == event


def test_any_difference_of_content_is_a_difference_of_hash() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"program_name": "other"},
        {"program_description": ""},
        {"platforms": []},
        {"platforms": ["benevity"]},
        {"correlation_id": ""},
        {"metadata": {"a": ""}},
        {"occurred_at": "2026-02-01T08:30:00.124Z"},
        {"metrics": [{"metric": "volunteer_hours", "value": "12.5001", "unit": "hours"}]},
    ]
    hashes = set()
    for change in changes:
        event = decode(json_event(**change))
        assert isinstance(event, ImpactMetricEvent)
        hashes.add(content_hash(to_avro(event)))
    assert len(hashes) == len(changes)


def test_the_fingerprint_is_fastavros_for_the_published_schema() -> None:
    canonical = fastavro.schema.to_parsing_canonical_form(PUBLISHED)
    assert avro.FINGERPRINT.hex() == fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
    assert avro.PREFIX == b"\xc3\x01" + avro.FINGERPRINT
    assert "doc" not in canonical


def test_the_fingerprint_is_the_specifications_little_endian_rabin() -> None:
    """By the algorithm of the specification, bit by bit, so that no library need be believed."""
    empty = 0xC15D213AA4D7A795
    value = empty
    for byte in fastavro.schema.to_parsing_canonical_form(PUBLISHED).encode():
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (empty if value & 1 else 0)
    assert value.to_bytes(8, "little") == avro.FINGERPRINT


@pytest.mark.parametrize(
    "text", ["{6f1c1f0e-4b1e-4c55-9a55-0d8f6a3f2b1}", "+f1c1f0e-4b1e-4c55-9a55-0d8f6a3f2b1_", "٣" * 32]
)
def test_what_is_no_uuid_in_json_is_none_in_avro(text: str) -> None:
    event = decode(json_event())
    assert isinstance(event, ImpactMetricEvent)
    fields = read_independently(to_avro(event)) | {"event_id": text}
    plain = json.loads(json.dumps(PUBLISHED).replace('"logicalType": "uuid"', '"doc": "text"'))
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(plain), fields | {"company_id": str(fields["company_id"])})
    answer = decode(avro.encode_single_object(buffer.getvalue()))
    assert isinstance(answer, Unreadable)
    assert answer.kind is UnreadableKind.INVALID_EVENT
    assert "event_id" in answer.detail


@pytest.mark.parametrize("days", [2**31 - 1, -(2**31), -800_000])
def test_a_date_beyond_the_calendar_in_avro_is_an_invalid_event(days: int) -> None:
    event = decode(json_event())
    assert isinstance(event, ImpactMetricEvent)
    fields = avro.read_body(to_avro(event))
    for change in ({"period_start": days}, {"period_end": days}, {"occurred_at": days * 10**9}):
        answer = decode(avro.encode_single_object(avro.write_body(fields | change)))
        assert isinstance(answer, Unreadable)
        assert answer.kind is UnreadableKind.INVALID_EVENT
