"""Delivery requests as records: what is written on our own topics, and how it is read back. Nothing in it is trusted:
the ledger decides."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from delivery.decision import Decision
from delivery.ports import IncomingRecord, OutgoingRecord
from delivery_log.contract import Request, Swept
from schemas import Unreadable, avro, content_hash, decode, headers
from schemas.event import ImpactMetricEvent
from schemas.identity import delivery_id
from schemas.topics import Topics
from schemas.trace import new_traceparent, valid_traceparent


class DeliveryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A record on `impact.deliveries.{platform}`, read."""

    delivery_id: UUID
    hop: int
    event: ImpactMetricEvent
    content_hash: str
    traceparent: str
    headers: dict[str, str]
    """Our own headers as they came, to be carried on."""
    value: bytes


def request_record(request: Request, topics: Topics, *, original_timestamp: float | None = None) -> OutgoingRecord:
    """The request for the platform's topic; key: the company, so that its records share a partition."""
    origin, failed_at = request.origin, request.first_failed_at
    return OutgoingRecord(
        topics.deliveries(request.platform),
        str(request.company_id).encode(),
        avro.encode_single_object(request.body),
        headers.write_headers(
            {
                headers.EVENT_ID: str(request.event_id),
                headers.COMPANY_ID: str(request.company_id),
                headers.PLATFORM: request.platform,
                headers.DELIVERY_ID: str(request.delivery_id),
                headers.HOP: request.hop,
                headers.ATTEMPT: request.attempt,
                headers.REPLAY_COUNT: request.replays or None,
                headers.ORIGINAL_TOPIC: None if origin is None else origin.topic,
                headers.ORIGINAL_PARTITION: None if origin is None else origin.partition,
                headers.ORIGINAL_OFFSET: None if origin is None else origin.offset,
                headers.ORIGINAL_TIMESTAMP: None if original_timestamp is None else _timestamp(original_timestamp),
                # The record before this one said it, and is gone.
                headers.FIRST_FAILED_AT: None if failed_at is None else headers.rfc3339(failed_at),
                headers.TRACEPARENT: request.traceparent,
            }
        ),
        confirms=(request.delivery_id, request.hop),
    )


def read_request(
    record: IncomingRecord, platform: str, read: Callable[[bytes], ImpactMetricEvent | Unreadable] = decode
) -> DeliveryRequest | Unreadable:
    """The request, or why this record is none. The delivery's id follows from its event: no header can move it."""
    event = read(record.value or b"")
    if isinstance(event, Unreadable):
        return event
    found = headers.read_headers(record.headers)
    body = record.value[len(avro.PREFIX) :] if record.value and record.value.startswith(avro.PREFIX) else b""
    return DeliveryRequest(
        delivery_id=delivery_id(event.event_id, platform),
        hop=_number(found.get(headers.HOP)),
        event=event,
        # The body as it stands is canonical where we published it; any other bytes hash to a mismatch, as they should.
        content_hash=content_hash(body),
        traceparent=valid_traceparent(found.get(headers.TRACEPARENT)) or new_traceparent(),
        headers=found,
        value=record.value or b"",
    )


def request_again(request: Request, known: DeliveryRequest | None = None) -> DeliveryRequest:
    """A request that the ledger told, as if its record had come; with the headers of one that did come."""
    event = decode(avro.encode_single_object(request.body))
    if isinstance(event, Unreadable):  # it was read when it was recorded
        raise ValueError(f"the body of event {request.event_id} is unreadable: {event.kind}")
    outgoing = request_record(request, Topics())
    return DeliveryRequest(
        delivery_id=request.delivery_id,
        hop=request.hop,
        event=event,
        content_hash=content_hash(request.body),
        traceparent=valid_traceparent(request.traceparent) or new_traceparent(),
        headers=headers.read_headers(outgoing.headers) if known is None else known.headers,
        value=outgoing.value,
    )


def retry_record(
    request: DeliveryRequest, decision: Decision, *, tier: timedelta, hop: int, attempt: int, topic: str, now: datetime,
    deadline: float | None, error_message: str | None,
) -> OutgoingRecord:  # fmt: skip
    """For a retry topic. The headers are replaced, not added to: they do not grow with the hops."""
    return OutgoingRecord(
        topic,
        str(request.event.company_id).encode(),
        request.value,
        headers.write_headers(
            {
                **request.headers,
                **_failure_headers(request, decision.outcome, decision.error_code, error_message, attempt, now),
                headers.HOP: hop,
                headers.NOT_BEFORE: headers.rfc3339(now + tier),
                headers.DEADLINE: None if deadline is None else headers.rfc3339(now + timedelta(seconds=deadline)),
                headers.TRACEPARENT: request.traceparent,
            }
        ),
        confirms=(request.delivery_id, hop),
    )


def dead_letter_record(
    request: DeliveryRequest,
    *,
    topic: str,
    kind: str,
    code: str | None,
    message: str | None,
    attempt: int,
    now: datetime,
    hop: int | None = None,
) -> OutgoingRecord:
    """Why, where from, how often, and the payload. `hop`: the row's, where a row died; its confirmation is kept."""
    return OutgoingRecord(
        topic,
        str(request.event.company_id).encode(),
        request.value,
        headers.write_headers(
            {
                **request.headers,
                **_failure_headers(request, kind, code, message, attempt, now),
                headers.HOP: request.headers.get(headers.HOP) if hop is None else hop,
                headers.NOT_BEFORE: None,
                headers.TRACEPARENT: request.traceparent,
            }
        ),
        confirms=None if hop is None else (request.delivery_id, hop),
        may_be_cut=True,
    )


def lost_dead_letter(dead: Swept, topics: Topics) -> OutgoingRecord:
    """A dead letter that was never confirmed, from what the ledger knows of it."""
    record = request_record(dead.request, topics)
    kind = "refused" if dead.last_outcome == "refused" else "deadline"
    why = {
        headers.ERROR_KIND: "unknown_outcome" if dead.error_code == "UNKNOWN_OUTCOME" else kind,
        headers.ERROR_CODE: dead.error_code,
        headers.ERROR_MESSAGE: dead.error_message,
    }
    topic = topics.deliveries_dlt(dead.request.platform)
    return OutgoingRecord(
        topic,
        record.key,
        record.value,
        [*record.headers, *headers.write_headers(why)],
        record.confirms,
        may_be_cut=True,
    )


def unreadable_record(record: IncomingRecord, unreadable: Unreadable, topic: str) -> OutgoingRecord:
    """The bytes and the key as they came, and why they could not be read or accepted."""
    found = headers.read_headers(record.headers)
    return OutgoingRecord(
        topic,
        record.key,
        record.value or b"",
        headers.write_headers(
            {
                headers.ORIGINAL_TOPIC: record.topic,
                headers.ORIGINAL_PARTITION: record.partition,
                headers.ORIGINAL_OFFSET: record.offset,
                headers.ORIGINAL_TIMESTAMP: _timestamp(record.timestamp),
                headers.ERROR_KIND: unreadable.kind,
                headers.ERROR_CODE: unreadable.kind.upper(),
                headers.ERROR_MESSAGE: unreadable.detail,
                headers.TRACEPARENT: valid_traceparent(found.get(headers.TRACEPARENT)),
            }
        ),
        may_be_cut=True,
    )


def waited(request: DeliveryRequest) -> float | None:
    """Seconds since the event's first record was published, where that is known."""
    published = headers.read_time(request.headers.get(headers.ORIGINAL_TIMESTAMP))
    return None if published is None else (datetime.now(UTC) - published).total_seconds()


def without_value(record: OutgoingRecord) -> OutgoingRecord:
    """A record that its topic will not take, cut down to its headers: the original's coordinates are among them. A key
    that is large itself is cut too."""
    note = f"{len(record.value)} bytes are more than {record.topic} takes; the value stays where it came from"
    kept = [header for header in record.headers if header[0] != headers.ERROR_MESSAGE]
    key = None if record.key is None else record.key[: headers.MAX_VALUE_BYTES]
    return OutgoingRecord(
        record.topic, key, b"", [*kept, *headers.write_headers({headers.ERROR_MESSAGE: note})], record.confirms, True
    )


def _failure_headers(
    request: DeliveryRequest, kind: str, code: str | None, message: str | None, attempt: int, now: datetime
) -> dict[str, str | int | None]:
    return {
        headers.ATTEMPT: attempt,
        headers.FIRST_FAILED_AT: request.headers.get(headers.FIRST_FAILED_AT) or headers.rfc3339(now),
        headers.LAST_FAILED_AT: headers.rfc3339(now),
        headers.ERROR_KIND: kind,
        headers.ERROR_CODE: code,
        headers.ERROR_MESSAGE: message,
    }


def _timestamp(seconds: float) -> str | None:
    try:
        return headers.rfc3339(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError, OSError):
        return None


def _number(text: str | None) -> int:
    """A hop as a header says it; 0, which is no row's, for anything else."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 9 else 0
