"""Requests as records: what is written is read back; headers are replaced, cut, and trusted in nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.decision import Decision
from delivery.ports import IncomingRecord, OutgoingRecord
from delivery.preparation import payload_sample
from delivery.records import (
    DeliveryRequest,
    dead_letter_record,
    read_request,
    request_record,
    retry_record,
    unreadable_record,
    without_value,
)
from delivery_log.contract import Origin, Request
from schemas import Unreadable, UnreadableKind, content_hash, headers
from schemas.event import to_avro
from schemas.identity import delivery_id
from tests.delivery.world import TOPICS, TRACE, event, raw
from tests.schemas.events import patient

pytestmark = pytest.mark.fast

NOW = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)
EVENT = event()
LATER = Decision(outcome="unavailable", counted=True, then="later", delay=5.0, error_code="HTTP_503")


def request(**changes: Any) -> Request:
    fields: dict[str, Any] = {
        "delivery_id": delivery_id(EVENT.event_id, "benevity"),
        "event_id": EVENT.event_id,
        "company_id": EVENT.company_id,
        "platform": "benevity",
        "hop": 3,
        "body": to_avro(EVENT),
        "traceparent": TRACE,
        "attempt": 2,
        "replays": 1,
        "origin": Origin("impact.metrics", 4, 17),
    }
    return Request(**(fields | changes))


def consumed(record: OutgoingRecord) -> IncomingRecord:
    return IncomingRecord(record.topic, 0, 0, NOW.timestamp(), record.key, record.value, tuple(record.headers))


def read(record: IncomingRecord) -> DeliveryRequest:
    found = read_request(record, "benevity")
    assert isinstance(found, DeliveryRequest), found
    return found


def retried(of: DeliveryRequest, **changes: Any) -> OutgoingRecord:
    fields: dict[str, Any] = {
        "tier": timedelta(seconds=5),
        "hop": 4,
        "attempt": 3,
        "topic": "retry",
        "now": NOW,
        "deadline": 300.0,
        "error_message": "busy",
    }
    return retry_record(of, LATER, **(fields | changes))


def buried(of: DeliveryRequest, message: str | None = "no such metric") -> OutgoingRecord:
    return dead_letter_record(
        of, topic="dlt", kind="refused", code="INVALID_METRIC", message=message, attempt=3, now=NOW
    )


def test_a_request_carries_all_that_the_contract_names_and_is_read_back() -> None:
    record = request_record(request(), TOPICS, original_timestamp=NOW.timestamp())
    assert record.topic == "impact.deliveries.benevity"
    assert record.key == str(EVENT.company_id).encode()
    assert dict(headers.read_headers(record.headers)) == {
        "ii-event-id": str(EVENT.event_id),
        "ii-company-id": str(EVENT.company_id),
        "ii-platform": "benevity",
        "ii-delivery-id": str(delivery_id(EVENT.event_id, "benevity")),
        "ii-hop": "3",
        "ii-attempt": "2",
        "ii-replay-count": "1",
        "ii-original-topic": "impact.metrics",
        "ii-original-partition": "4",
        "ii-original-offset": "17",
        "ii-original-timestamp": "2026-11-24T07:00:00.000Z",
        "traceparent": TRACE,
    }
    back = read(consumed(record))
    assert (back.delivery_id, back.hop, back.event) == (delivery_id(EVENT.event_id, "benevity"), 3, EVENT)
    assert back.content_hash == content_hash(to_avro(EVENT))
    assert back.traceparent == TRACE


def test_an_event_that_came_by_http_has_no_coordinates() -> None:
    found = headers.read_headers(request_record(request(origin=None, replays=0), TOPICS).headers)
    assert not {"ii-original-topic", "ii-original-partition", "ii-original-offset", "ii-replay-count"} & set(found)


@pytest.mark.parametrize("hop", [b"", b"-1", b"1.5", b"\xd9\xa3", b"9" * 10, b"x", None])
def test_a_hop_that_is_none_is_no_rows(hop: bytes | None) -> None:
    wire = () if hop is None else ((headers.HOP, hop),)
    assert read(IncomingRecord("t", 0, 0, 0.0, None, raw(EVENT), wire)).hop == 0


def test_no_header_can_move_a_delivery() -> None:
    wire = (
        (headers.DELIVERY_ID, str(uuid4()).encode()),
        (headers.EVENT_ID, str(uuid4()).encode()),
        (headers.PLATFORM, b"workday"),
    )
    assert read(IncomingRecord("t", 0, 0, 0.0, None, raw(EVENT), wire)).delivery_id == delivery_id(
        EVENT.event_id, "benevity"
    )


def test_a_bad_traceparent_is_replaced() -> None:
    wire = ((headers.TRACEPARENT, b"00-bad"),)
    assert read(IncomingRecord("t", 0, 0, 0.0, None, raw(EVENT), wire)).traceparent != "00-bad"


@pytest.mark.parametrize("value", [None, b"", b"garbage", raw(EVENT)[:-1], b"\0\0\0\0\1"])
def test_what_is_no_request_is_a_reason(value: bytes | None) -> None:
    assert isinstance(read_request(IncomingRecord("t", 0, 0, 0.0, None, value), "benevity"), Unreadable)


def test_a_retry_says_why_when_and_until_when() -> None:
    first = read(consumed(request_record(request(), TOPICS)))
    found = headers.read_headers(retried(first).headers)
    assert found["ii-hop"] == "4"
    assert found["ii-attempt"] == "3"
    assert found["ii-error-kind"] == "unavailable"
    assert found["ii-error-code"] == "HTTP_503"
    assert found["ii-error-message"] == "busy"
    assert found["ii-first-failed-at"] == found["ii-last-failed-at"] == "2026-11-24T07:00:00.000Z"
    assert found["ii-not-before"] == "2026-11-24T07:00:05.000Z"
    assert found["ii-deadline"] == "2026-11-24T07:05:00.000Z"
    assert found["ii-original-offset"] == "17"
    assert found["traceparent"] == TRACE


def test_the_first_failure_is_kept_and_the_last_replaced() -> None:
    first = read(consumed(request_record(request(), TOPICS)))
    second = read(consumed(retried(first)))
    found = headers.read_headers(retried(second, now=NOW + timedelta(seconds=9), error_message=None).headers)
    assert found["ii-first-failed-at"] == "2026-11-24T07:00:00.000Z"
    assert found["ii-last-failed-at"] == "2026-11-24T07:00:09.000Z"
    assert "ii-error-message" not in found


def test_a_request_published_again_says_since_when_it_fails() -> None:
    again = request_record(request(first_failed_at=NOW - timedelta(hours=1)), TOPICS)
    found = headers.read_headers(retried(read(consumed(again))).headers)
    assert found["ii-first-failed-at"] == "2026-11-24T06:00:00.000Z"
    assert found["ii-last-failed-at"] == "2026-11-24T07:00:00.000Z"


@patient
@given(st.integers(1, 30), st.text(max_size=3_000))
def test_headers_do_not_grow_with_the_hops(hops: int, message: str) -> None:
    of = read(consumed(request_record(request(), TOPICS)))
    sizes = []
    for hop in range(4, 4 + hops):
        record = retried(of, hop=hop, attempt=hop, error_message=message)
        names = [name for name, _ in record.headers]
        assert len(set(names)) == len(names)
        assert all(len(value) <= 1024 for _, value in record.headers)
        assert record.value == of.value
        sizes.append(sum(len(name) + len(value) for name, value in record.headers))
        of = read(consumed(record))
    assert max(sizes) - min(sizes) <= 4


def test_a_dead_letter_says_why_where_from_and_how_often_and_carries_the_payload() -> None:
    of = read(consumed(retried(read(consumed(request_record(request(), TOPICS))))))
    record = buried(of)
    found = headers.read_headers(record.headers)
    assert record.value == raw(EVENT)
    assert record.key == str(EVENT.company_id).encode()
    assert found["ii-error-kind"] == "refused"
    assert found["ii-error-code"] == "INVALID_METRIC"
    assert found["ii-error-message"] == "no such metric"
    assert found["ii-attempt"] == "3"
    assert found["ii-original-topic"] == "impact.metrics"
    assert "ii-not-before" not in found


def test_a_long_message_is_cut_at_a_character() -> None:
    of = read(consumed(request_record(request(), TOPICS)))
    found = headers.read_headers(buried(of, "ä" * 600 + "x").headers)
    assert found["ii-error-message"] == "ä" * 512


def test_an_unreadable_record_keeps_key_and_bytes_and_says_where_it_was() -> None:
    wire = ((headers.TRACEPARENT, TRACE.encode()), ("foreign", b"x"), (headers.HOP, b"9"))
    record = unreadable_record(
        IncomingRecord("impact.metrics", 3, 12, NOW.timestamp(), b"\xff", b"\0\xff", wire),
        Unreadable(UnreadableKind.UNSUPPORTED_ENCODING, "why"),
        "impact.metrics.dlt",
    )
    assert (record.key, record.value) == (b"\xff", b"\0\xff")
    assert headers.read_headers(record.headers) == {
        "ii-original-topic": "impact.metrics",
        "ii-original-partition": "3",
        "ii-original-offset": "12",
        "ii-original-timestamp": "2026-11-24T07:00:00.000Z",
        "ii-error-kind": "unsupported_encoding",
        "ii-error-code": "UNSUPPORTED_ENCODING",
        "ii-error-message": "why",
        "traceparent": TRACE,
    }


@pytest.mark.parametrize("timestamp", [float("nan"), 1e20, -1e20])
def test_an_absurd_timestamp_is_left_out(timestamp: float) -> None:
    record = unreadable_record(
        IncomingRecord("t", 0, 0, timestamp, None, b""), Unreadable(UnreadableKind.EMPTY, "why"), "dlt"
    )
    assert headers.ORIGINAL_TIMESTAMP not in headers.read_headers(record.headers)


def test_a_record_without_its_value_still_says_why() -> None:
    cut = without_value(buried(read(consumed(request_record(request(), TOPICS)))))
    found = headers.read_headers(cut.headers)
    assert cut.value == b""
    assert found["ii-error-code"] == "INVALID_METRIC"
    assert "stays where it came from" in found["ii-error-message"]


@pytest.mark.parametrize(
    ("body", "sample"),
    [
        (b"", "null"),
        (b"<soap/>", '"no JSON"'),
        (b'{"a": "secret", "b": [{"c": 1.5}], "d": null, "e": true}', None),
        (b'{"' + b"k" * 2_000 + b'": 1}', '"more than 1 KiB"'),
    ],
)
def test_a_sample_has_the_shape_and_no_value(body: bytes, sample: str | None) -> None:
    text = payload_sample(body)
    assert "secret" not in text
    assert text == (sample or '{"a":"string","b":[{"c":"number"}],"d":"null","e":"boolean"}')
