"""Events and shipments as the tests need them, and hypothesis strategies for any valid one."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from hypothesis import strategies as st

from connectors.contract import Connector, Shipment
from schemas.event import ImpactMetricEvent, MetricEntry, from_unscaled, validated

EVENT_ID = UUID("6f1c1f0e-4b1e-4c55-9a55-0d8f6a3f2b11")
COMPANY_ID = UUID("0b0f5a0c-1d7c-4ad3-8c2e-6f7e0f3a9d22")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STANDARD = (
    "volunteer_hours",
    "participants",
    "volunteers",
    "sessions",
    "integration_score",
    "language_level",
    "job_readiness",
)


def entry(metric: str, value: str = "1", unit: str = "unit", **more: Any) -> MetricEntry:
    return MetricEntry(metric=metric, value=Decimal(value).quantize(Decimal("0.0001")), unit=unit, **more)


def event(*metrics: MetricEntry, **more: Any) -> ImpactMetricEvent:
    fields: dict[str, Any] = {
        "event_id": EVENT_ID,
        "company_id": COMPANY_ID,
        "program_id": "prog-7",
        "program_name": "Sprachbrücke Köln",
        "program_description": 'Tandems, "weekly"\nin the evening',
        "period_start": date(2026, 1, 1),
        "period_end": date(2026, 1, 31),
        "occurred_at": datetime(2026, 2, 1, 8, 30, 0, 123000, tzinfo=UTC),
        "source": "programme-service",
        "metrics": metrics or (entry("volunteer_hours", "12.5", "hours"),),
    }
    return validated(ImpactMetricEvent(**(fields | more)))


FULL = event(
    entry("volunteer_hours", "12.5", "h", description="Evenings", category="mentoring"),
    entry("participants", "40", "people", beneficiaries=80),
    entry("volunteers", "7", "people"),
    entry("sessions", "3", "sessions"),
    entry("integration_score", "0.1", "ratio"),
    entry("language_level", "7.25", "level"),
    entry("job_readiness", "0.6789", "ratio"),
    entry("trees_planted", "99999999999999.9999", "trees", category="ecology", beneficiaries=0),
)


def shipment(connector: Connector, of: ImpactMetricEvent | None = None, *, number: int = 0) -> Shipment:
    of = of or event(entry("volunteer_hours", "12.5", "h"))
    return Shipment(
        delivery_id=uuid5(EVENT_ID, str(number)),
        event=of,
        organization_id=f"org-{number}",
        generation=0,
        body=connector.body(of, f"org-{number}", 0),
        idempotency_key=uuid5(EVENT_ID, f"key {number}"),
        traceparent=TRACEPARENT,
    )


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
_names = _texts.filter(lambda text: bool(text.strip()))
amounts = st.integers(0, 10**18 - 1).map(from_unscaled)
entries = st.builds(
    MetricEntry,
    metric=st.sampled_from(STANDARD) | _names,
    value=amounts,
    unit=_texts,
    category=st.none() | _texts,
    beneficiaries=st.none() | st.integers(0, 2**63 - 1),
    description=st.none() | _texts,
)
_days = st.dates(date(1970, 1, 1), date(2100, 1, 1))
events = st.builds(
    lambda start, days, **fields: ImpactMetricEvent(period_start=start, period_end=start + timedelta(days), **fields),
    event_id=st.uuids(),
    company_id=st.uuids(),
    program_id=_names,
    program_name=_texts,
    program_description=st.none() | _texts,
    start=_days,
    days=st.integers(0, 400),
    occurred_at=st.integers(0, 4_000_000_000_000).map(
        lambda millis: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)
    ),
    source=_names,
    metrics=st.lists(entries, min_size=1, max_size=12).map(tuple),
)
