"""Events as fields of JSON, strategies for any valid one, and a reader of its Avro that shares nothing with ours."""

import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib import resources
from typing import Any

import fastavro
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from schemas.event import ImpactMetricEvent, MetricEntry, from_unscaled

# A busy machine is no finding.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

FIELDS: dict[str, Any] = {
    "event_id": "6f1c1f0e-4b1e-4c55-9a55-0d8f6a3f2b11",
    "company_id": "0b0f5a0c-1d7c-4ad3-8c2e-6f7e0f3a9d22",
    "program_id": "prog-7",
    "program_name": "Sprachbrücke Köln",
    "program_description": None,
    "period_start": "2026-01-01",
    "period_end": "2026-01-31",
    "occurred_at": "2026-02-01T08:30:00.123Z",
    "source": "programme-service",
    "metrics": [{"metric": "volunteer_hours", "value": "12.5", "unit": "hours"}],
}


def json_event(**changes: Any) -> bytes:
    """A valid event in JSON with these fields changed; a field given as `...` is left out."""
    fields = {name: value for name, value in (FIELDS | changes).items() if value is not ...}
    return json.dumps(fields).encode()


def json_with_value(digits: str) -> bytes:
    """An event whose amount stands in the JSON as these characters."""
    return json_event(metrics=[{"metric": "m", "value": "@", "unit": "u"}]).replace(b'"@"', digits.encode())


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_names = _texts.filter(lambda text: bool(text.strip()))
amounts = st.integers(0, 10**18 - 1).map(from_unscaled)
entries = st.builds(
    MetricEntry,
    metric=_names,
    value=amounts,
    unit=_texts,
    category=st.none() | _texts,
    beneficiaries=st.none() | st.integers(0, 2**63 - 1),
    description=st.none() | _texts,
)
valid_events = st.builds(
    lambda start, days, **fields: ImpactMetricEvent(period_start=start, period_end=start + timedelta(days), **fields),
    event_id=st.uuids(),
    company_id=st.uuids(),
    program_id=_names,
    program_name=_texts,
    program_description=st.none() | _texts,
    start=st.dates(date(1, 1, 1), date(9998, 1, 1)),
    days=st.integers(0, 300),
    occurred_at=st.integers(-62_135_596_800_000, 253_402_300_799_999).map(
        lambda millis: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)
    ),
    source=_names,
    metrics=st.lists(entries, min_size=1, max_size=4).map(tuple),
    platforms=st.none() | st.lists(_names, max_size=3).map(tuple),
    correlation_id=st.none() | _texts,
    metadata=st.dictionaries(_texts, _texts, max_size=4),
)


# ---- the schema as published, logical types and all, read by plain fastavro

PUBLISHED = json.loads(resources.files("schemas").joinpath("ImpactMetricEvent.avsc").read_text(encoding="utf-8"))
_PARSED = fastavro.parse_schema(PUBLISHED)


def read_independently(body: bytes) -> dict[str, Any]:
    return fastavro.schemaless_reader(io.BytesIO(body), _PARSED, None)  # type: ignore[return-value]


def write_independently(event: ImpactMetricEvent) -> bytes:
    """The event's Avro body as any producer with the published schema would write it, map keys sorted."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(
        buffer,
        _PARSED,
        {
            "event_id": event.event_id,
            "company_id": event.company_id,
            "program_id": event.program_id,
            "program_name": event.program_name,
            "program_description": event.program_description,
            "period_start": event.period_start,
            "period_end": event.period_end,
            "occurred_at": event.occurred_at,
            "source": event.source,
            "metrics": [
                {
                    "metric": entry.metric,
                    "value": Decimal(str(entry.value)),
                    "unit": entry.unit,
                    "category": entry.category,
                    "beneficiaries": entry.beneficiaries,
                    "description": entry.description,
                }
                for entry in event.metrics
            ],
            "platforms": None if event.platforms is None else list(event.platforms),
            "correlation_id": event.correlation_id,
            "metadata": dict(sorted(event.metadata.items())),
        },
    )
    return buffer.getvalue()
