"""Record headers: UTF-8 strings, single-valued, bounded on reading and never trusted (contract, section 2)."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

EVENT_ID = "ii-event-id"
COMPANY_ID = "ii-company-id"
PLATFORM = "ii-platform"
DELIVERY_ID = "ii-delivery-id"
ORIGINAL_TOPIC = "ii-original-topic"
ORIGINAL_PARTITION = "ii-original-partition"
ORIGINAL_OFFSET = "ii-original-offset"
ORIGINAL_TIMESTAMP = "ii-original-timestamp"
HOP = "ii-hop"
ATTEMPT = "ii-attempt"
FIRST_FAILED_AT = "ii-first-failed-at"
LAST_FAILED_AT = "ii-last-failed-at"
NOT_BEFORE = "ii-not-before"
DEADLINE = "ii-deadline"
ERROR_KIND = "ii-error-kind"
ERROR_CODE = "ii-error-code"
ERROR_MESSAGE = "ii-error-message"
REPLAY_ID = "ii-replay-id"
REPLAY_COUNT = "ii-replay-count"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

KNOWN = frozenset(
    {
        EVENT_ID, COMPANY_ID, PLATFORM, DELIVERY_ID, ORIGINAL_TOPIC, ORIGINAL_PARTITION, ORIGINAL_OFFSET,
        ORIGINAL_TIMESTAMP, HOP, ATTEMPT, FIRST_FAILED_AT, LAST_FAILED_AT, NOT_BEFORE, DEADLINE, ERROR_KIND,
        ERROR_CODE, ERROR_MESSAGE, REPLAY_ID, REPLAY_COUNT, TRACEPARENT, TRACESTATE,
    }
)  # fmt: skip

MAX_VALUE_BYTES = 1024

WireHeaders = list[tuple[str, bytes]]


def read_headers(raw: Iterable[tuple[str, bytes | None]] | None) -> dict[str, str]:
    """Our own headers out of a record's, the first of each name; what is too long or no UTF-8 is left out."""
    found: dict[str, str] = {}
    for name, value in raw or ():
        if name in KNOWN and name not in found and value is not None and len(value) <= MAX_VALUE_BYTES:
            try:
                found[name] = value.decode()
            except UnicodeDecodeError:
                continue
    return found


def write_headers(values: Mapping[str, str | int | None]) -> WireHeaders:
    """For the wire: absent values left out, everything cut to 1 KiB at a character's boundary."""
    return [
        (name, str(value).encode() if isinstance(value, int) else _wire(value))
        for name, value in values.items()
        if value is not None
    ]


def _wire(value: str) -> bytes:
    if value.isascii() and len(value) <= MAX_VALUE_BYTES:
        return value.encode()
    return value.encode(errors="replace")[:MAX_VALUE_BYTES].decode(errors="ignore").encode()


def rfc3339(moment: datetime) -> str:
    """UTC with milliseconds: `2026-11-24T06:50:00.123Z`. Raises ValueError on a naive time."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone has no RFC 3339 form")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_time(text: str | None) -> datetime | None:
    """An RFC 3339 time with a zone, or None for anything else: headers are not trusted."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
