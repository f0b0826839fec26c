"""The metric event as a value (contract, section 3): what `decode` makes of any of the accepted encodings."""

import hashlib
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from uuid import UUID

import msgspec

from schemas import avro

MAX_METRICS = 100
SCALE = 4
_MAX_UNSCALED = 10**18  # precision 18
_MAX_INTEGER_DIGITS = 14
_PLAIN_AMOUNT = re.compile(rf"([0-9]{{1,{_MAX_INTEGER_DIGITS}}})(?:\.([0-9]{{1,{SCALE}}}))?", re.A)
_STEP = Decimal(1).scaleb(-SCALE)

# Generous bounds on text, so that no single field can fill a request, a row or a log line.
_MAX_NAME = 1_024
_MAX_TEXT = 16_384
_MAX_METADATA = 100
_MAX_PLATFORMS = 100


class EventError(ValueError):
    """What is wrong with an event, as one sentence that names the field and quotes no content."""


class MetricEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One measured amount. `value` is an exact decimal with four places, finite and not negative."""

    metric: str
    value: Decimal
    unit: str
    category: str | None = None
    beneficiaries: int | None = None
    description: str | None = None


class ImpactMetricEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event. Make one with `decode`, or call `validated` on what you built by hand."""

    event_id: UUID
    company_id: UUID
    program_id: str
    program_name: str
    program_description: str | None = None
    period_start: date
    period_end: date
    occurred_at: datetime
    source: str
    metrics: tuple[MetricEntry, ...]
    platforms: tuple[str, ...] | None = None
    correlation_id: str | None = None
    metadata: dict[str, str] = {}


def amount(text: str) -> Decimal:
    """A decimal(18,4) from its digits, such as `12.5` or `1e2`. Raises EventError on more places or digits."""
    plain = _PLAIN_AMOUNT.fullmatch(text)
    if plain is not None:
        whole, places = plain.groups()
        return from_unscaled(int(whole + (places or "").ljust(SCALE, "0")))
    value = Decimal(text)
    if not value:
        return from_unscaled(0)  # however it is written: 0e20 too
    if not value.is_finite() or value.adjusted() >= _MAX_INTEGER_DIGITS:
        raise EventError("value must be a finite number below 10^14")
    if value.is_signed():
        raise EventError("value must not be negative")
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -SCALE:
        # Trailing zeros are no further decimals: 1.50000 is 1.5. By the digits: Decimal's arithmetic rounds to 28.
        _, digits, _ = value.as_tuple()
        if any(digits[exponent + SCALE :]):
            raise EventError("value must not have more than four decimals")
        value = value.quantize(_STEP)
    return from_unscaled(int(value.scaleb(SCALE)))


def from_unscaled(unscaled: int) -> Decimal:
    """Avro's integer of ten-thousandths → the decimal with four places."""
    if not 0 <= unscaled < _MAX_UNSCALED:
        raise EventError("value must be from 0 to below 10^14")
    return Decimal(unscaled).scaleb(-SCALE)


def to_unscaled(value: Decimal) -> int:
    return int(value.scaleb(SCALE))


def validated(event: ImpactMetricEvent) -> ImpactMetricEvent:
    """The event itself where every rule of the contract holds. Raises EventError naming the first that does not."""
    for entry in event.metrics:
        amount(str(entry.value))
    if event.occurred_at.tzinfo is None:
        raise EventError("occurred_at must have a zone")
    return validated_but_amounts(event)


def validated_but_amounts(event: ImpactMetricEvent) -> ImpactMetricEvent:
    """What is left to look at where the amounts come from `amount` or `from_unscaled`, and the time has a zone."""
    if event.period_end < event.period_start:
        raise EventError("period_end must not be before period_start")
    if not 1 <= len(event.metrics) <= MAX_METRICS:
        raise EventError(f"metrics must have 1 to {MAX_METRICS} entries")
    if len(event.metadata) > _MAX_METADATA:
        raise EventError(f"metadata must have at most {_MAX_METADATA} entries")
    if event.platforms is not None and len(event.platforms) > _MAX_PLATFORMS:
        raise EventError(f"platforms must have at most {_MAX_PLATFORMS} entries")
    if not _plain_and_short(event):
        _check_texts(event)
    return event


def _plain_and_short(event: ImpactMetricEvent) -> bool:
    """Whether all texts together are Unicode, without NUL, and shorter than any one of them may be: nearly every
    event, and nothing is left to look at but what must not be empty."""
    texts = [event.program_id, event.program_name, event.source]
    needed = [event.program_id, event.source]
    for entry in event.metrics:
        if not _beneficiaries_fit(entry):
            return False
        texts += entry.metric, entry.unit, entry.category or "", entry.description or ""
        needed.append(entry.metric)
    if event.metadata:
        texts += event.metadata
        texts += event.metadata.values()
    if event.platforms:
        texts += event.platforms
        needed += event.platforms
    texts += event.program_description or "", event.correlation_id or ""
    text = "".join(texts)
    return len(text) <= _MAX_NAME and "\0" not in text and _is_unicode(text) and all(map(str.strip, needed))


def _beneficiaries_fit(entry: MetricEntry) -> bool:
    return entry.beneficiaries is None or 0 <= entry.beneficiaries < 2**63


def _is_unicode(text: str) -> bool:
    """No lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_texts(event: ImpactMetricEvent) -> None:
    _text("program_id", event.program_id, _MAX_NAME, required=True)
    _text("program_name", event.program_name, _MAX_NAME)
    _text("program_description", event.program_description, _MAX_TEXT)
    _text("source", event.source, _MAX_NAME, required=True)
    _text("correlation_id", event.correlation_id, _MAX_NAME)
    for platform in event.platforms or ():
        _text("platforms", platform, _MAX_NAME, required=True)
    for key, text in event.metadata.items():
        _text("metadata", key, _MAX_NAME)
        _text("metadata", text, _MAX_TEXT)
    for entry in event.metrics:
        _text("metric", entry.metric, _MAX_NAME, required=True)
        _text("unit", entry.unit, _MAX_NAME)
        _text("category", entry.category, _MAX_NAME)
        _text("description", entry.description, _MAX_TEXT)
        if not _beneficiaries_fit(entry):
            raise EventError("beneficiaries must be from 0 to 2^63 - 1")


def _text(name: str, text: str | None, longest: int, *, required: bool = False) -> None:
    if text is None:
        return
    if len(text) > longest:
        raise EventError(f"{name} must have at most {longest} characters")
    if required and not text.strip():
        raise EventError(f"{name} must not be empty")
    if "\0" in text:
        raise EventError(f"{name} must not contain the character U+0000")
    if not _is_unicode(text):
        raise EventError(f"{name} must not contain a lone surrogate")


_COMPANIES_KEPT = 10_000

_UUID = re.compile(r"(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32})", re.I | re.A)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_avro(event: ImpactMetricEvent) -> bytes:
    """The canonical Avro body: decimals at scale 4, map keys sorted. Equal events give equal bytes."""
    occurred = event.occurred_at - _EPOCH
    return avro.write_body(
        {
            "event_id": str(event.event_id),
            "company_id": str(event.company_id),
            "program_id": event.program_id,
            "program_name": event.program_name,
            "program_description": event.program_description,
            "period_start": event.period_start.toordinal() - _EPOCH_ORDINAL,
            "period_end": event.period_end.toordinal() - _EPOCH_ORDINAL,
            "occurred_at": (occurred.days * 86_400 + occurred.seconds) * 1_000 + occurred.microseconds // 1_000,
            "source": event.source,
            "metrics": [
                {
                    "metric": entry.metric,
                    "value": avro.decimal_bytes(to_unscaled(entry.value)),
                    "unit": entry.unit,
                    "category": entry.category,
                    "beneficiaries": entry.beneficiaries,
                    "description": entry.description,
                }
                for entry in event.metrics
            ],
            # A list: fastavro takes a tuple in a union for (branch, value).
            "platforms": None if event.platforms is None else list(event.platforms),
            "correlation_id": event.correlation_id,
            "metadata": dict(sorted(event.metadata.items())) if len(event.metadata) > 1 else event.metadata,
        }
    )


def from_avro(body: bytes) -> ImpactMetricEvent:
    """Avro body → event. Raises EventError or `avro.AvroError`; what it returns is validated."""
    fields = avro.read_body(body)
    try:
        event = ImpactMetricEvent(
            event_id=_uuid("event_id", fields["event_id"]),
            company_id=_company_id(fields["company_id"]),
            program_id=fields["program_id"],
            program_name=fields["program_name"],
            program_description=fields["program_description"],
            period_start=date.fromordinal(fields["period_start"] + _EPOCH_ORDINAL),
            period_end=date.fromordinal(fields["period_end"] + _EPOCH_ORDINAL),
            occurred_at=_from_millis(fields["occurred_at"]),
            source=fields["source"],
            metrics=tuple(
                MetricEntry(
                    metric=entry["metric"],
                    value=from_unscaled(int.from_bytes(entry["value"], "big", signed=True)),
                    unit=entry["unit"],
                    category=entry["category"],
                    beneficiaries=entry["beneficiaries"],
                    description=entry["description"],
                )
                for entry in fields["metrics"]
            ),
            platforms=None if fields["platforms"] is None else tuple(fields["platforms"]),
            correlation_id=fields["correlation_id"],
            metadata=fields["metadata"],
        )
    except (ValueError, OverflowError) as error:
        if isinstance(error, EventError):
            raise
        raise EventError("a date or time is out of range") from error
    return validated_but_amounts(event)


def content_hash(body: bytes) -> str:
    """SHA-256 (hex) of the canonical Avro body: what makes two records of one event_id the same event."""
    return hashlib.sha256(body).hexdigest()


def _uuid(name: str, text: str) -> UUID:
    # UUID() alone takes more than UUIDs: signs, underscores, braces, foreign digits.
    if _UUID.fullmatch(text) is None:
        raise EventError(f"{name} must be a UUID")
    return UUID(int=int(text.replace("-", ""), 16))


@lru_cache(maxsize=_COMPANIES_KEPT)
def _company_id(text: str) -> UUID:
    """Companies come again and again, and a UUID takes longer to read than to look up."""
    return _uuid("company_id", text)


def _from_millis(millis: int) -> datetime:
    # Not datetime.fromtimestamp: it goes through a float.
    seconds, rest = divmod(millis, 1_000)
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1_000)
    except (OverflowError, OSError):
        raise EventError("occurred_at is out of range") from None
