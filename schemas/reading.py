"""Raw bytes → an event, or the reason why not. Never an exception: what came from outside is a value."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from schemas import avro
from schemas.event import EventError, ImpactMetricEvent, MetricEntry, amount, from_avro, validated_but_amounts

MAX_RECORD_BYTES = 1024 * 1024


class UnreadableKind(StrEnum):
    """Why a record went to `impact.metrics.dlt` (header `ii-error-kind`)."""

    EMPTY = "empty"
    OVERSIZE = "oversize"
    INVALID_JSON = "invalid_json"
    INVALID_AVRO = "invalid_avro"
    UNKNOWN_SCHEMA = "unknown_schema"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    INVALID_EVENT = "invalid_event"
    ID_CONFLICT = "id_conflict"
    INTERNAL_ERROR = "internal_error"


class Unreadable(msgspec.Struct, frozen=True):
    """`detail` is one sentence for a person; it names fields and quotes none of the record's content."""

    kind: UnreadableKind
    detail: str


class _JsonMetric(msgspec.Struct):
    metric: str
    value: msgspec.Raw  # its digits as they stand: a float between would lose them
    unit: str
    category: str | None = None
    beneficiaries: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    description: str | None = None


class _JsonEvent(msgspec.Struct):
    event_id: UUID
    company_id: UUID
    program_id: str
    program_name: str
    period_start: date
    period_end: date
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)]
    source: str
    metrics: list[_JsonMetric]
    program_description: str | None = None
    platforms: list[str] | None = None
    correlation_id: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


_json_decoder = msgspec.json.Decoder(_JsonEvent)
_NUMBER = re.compile(rb'(?P<quote>"?)(?P<digits>-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?)(?P=quote)')


def decode(raw: bytes | memoryview) -> ImpactMetricEvent | Unreadable:
    """A record's value in any accepted encoding, told apart by its first bytes.

    `C3 01`: Avro single-object. `00`: Confluent wire format (not yet: a named dead letter). Else: a JSON object.
    Total: whatever the bytes are, it returns, and in bounded time and memory (1 MiB at most is looked at).
    """
    raw = bytes(raw)
    if not raw:
        return Unreadable(UnreadableKind.EMPTY, "the record's value is empty")
    if len(raw) > MAX_RECORD_BYTES:
        return Unreadable(UnreadableKind.OVERSIZE, f"the record has {len(raw)} bytes, more than {MAX_RECORD_BYTES}")
    if raw.startswith(avro.SINGLE_OBJECT_MARKER):
        return _decode_avro(raw)
    if raw[0] == 0:
        return Unreadable(
            UnreadableKind.UNSUPPORTED_ENCODING,
            "the Confluent wire format is not supported yet; publish Avro single-object encoding or JSON",
        )
    return decode_json(raw)


def decode_json(raw: bytes) -> ImpactMetricEvent | Unreadable:
    try:
        wire = _json_decoder.decode(raw)
    except msgspec.ValidationError as error:
        return Unreadable(UnreadableKind.INVALID_EVENT, _without_content(str(error)))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError, OverflowError) as error:
        # msgspec's messages name a position, never the text at it.
        detail = str(error) if isinstance(error, msgspec.DecodeError) else type(error).__name__
        return Unreadable(UnreadableKind.INVALID_JSON, f"the record is no JSON that can be read: {detail}")
    try:
        return validated_but_amounts(
            ImpactMetricEvent(
                event_id=wire.event_id,
                company_id=wire.company_id,
                program_id=wire.program_id,
                program_name=wire.program_name,
                program_description=wire.program_description,
                period_start=wire.period_start,
                period_end=wire.period_end,
                occurred_at=_to_millis(wire.occurred_at),
                source=wire.source,
                metrics=tuple(
                    MetricEntry(
                        metric=entry.metric,
                        value=_json_amount(entry.value),
                        unit=entry.unit,
                        category=entry.category,
                        beneficiaries=entry.beneficiaries,
                        description=entry.description,
                    )
                    for entry in wire.metrics
                ),
                platforms=None if wire.platforms is None else tuple(wire.platforms),
                correlation_id=wire.correlation_id,
                metadata=wire.metadata,
            )
        )
    except EventError as error:
        return Unreadable(UnreadableKind.INVALID_EVENT, str(error))


def _decode_avro(raw: bytes) -> ImpactMetricEvent | Unreadable:
    if len(raw) < len(avro.PREFIX):
        return Unreadable(UnreadableKind.INVALID_AVRO, "the record ends within the Avro fingerprint")
    if not raw.startswith(avro.PREFIX):
        return Unreadable(
            UnreadableKind.UNKNOWN_SCHEMA,
            f"the Avro fingerprint {raw[2:10].hex()} is not that of ImpactMetricEvent ({avro.FINGERPRINT.hex()})",
        )
    try:
        return from_avro(raw[len(avro.PREFIX) :])
    except EventError as error:
        return Unreadable(UnreadableKind.INVALID_EVENT, str(error))
    except avro.AvroError as error:
        return Unreadable(UnreadableKind.INVALID_AVRO, str(error))


def _to_millis(moment: datetime) -> datetime:
    """UTC and whole milliseconds, as Avro carries it: the same event in either encoding is the same value."""
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise EventError("occurred_at is out of range") from None
    return moment.replace(microsecond=moment.microsecond // 1_000 * 1_000)


def _json_amount(raw: msgspec.Raw) -> Any:
    match = _NUMBER.fullmatch(bytes(raw).strip())
    if match is None:
        raise EventError("value must be a number, or a string of one, of at most 40 digits")
    return amount(match["digits"].decode())


def _without_content(message: str) -> str:
    """msgspec quotes an unknown field or value in a few messages; keep what stands before a quotation."""
    return message if len(message) <= 200 else message[:200]


def to_json_fields(event: ImpactMetricEvent) -> Mapping[str, Any]:
    """The event in the contract's JSON names, decimals as strings so that no reader rounds them."""
    return {
        "event_id": str(event.event_id),
        "company_id": str(event.company_id),
        "program_id": event.program_id,
        "program_name": event.program_name,
        "program_description": event.program_description,
        "period_start": event.period_start.isoformat(),
        "period_end": event.period_end.isoformat(),
        "occurred_at": event.occurred_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "source": event.source,
        "metrics": [
            {
                "metric": entry.metric,
                "value": str(entry.value),
                "unit": entry.unit,
                "category": entry.category,
                "beneficiaries": entry.beneficiaries,
                "description": entry.description,
            }
            for entry in event.metrics
        ],
        "platforms": None if event.platforms is None else list(event.platforms),
        "correlation_id": event.correlation_id,
        "metadata": event.metadata,
    }
