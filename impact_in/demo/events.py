"""Demo companies and demo events: made by a seed, so that two runs with one seed publish the same."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from delivery_log.contract import CompanyPlatform
from schemas.event import ImpactMetricEvent, MetricEntry, validated

_PROGRAMS = ("Language Café", "Buddy Mentoring", "Code Your Future", "Interview Training", "Food Bank Saturdays")
# So many events a company, on average: order is kept within a company, so few companies would make a long queue of
# what a retry holds up.
_EVENTS_A_COMPANY = 25
_LEAST_COMPANIES, _MOST_COMPANIES = 12, 1_000


def _uuid(dice: random.Random) -> UUID:
    return UUID(int=dice.getrandbits(128), version=4)


def demo_companies(seed: int, events: int) -> list[UUID]:
    """As many as so many events want."""
    dice = random.Random(f"companies {seed}")  # noqa: S311 a demo's dice, no secret
    count = min(max(events // _EVENTS_A_COMPANY, _LEAST_COMPANIES), _MOST_COMPANIES)
    return [_uuid(dice) for _ in range(count)]


def registrations(companies: Sequence[UUID], platforms: Sequence[str]) -> list[CompanyPlatform]:
    """Every demo company has all platforms."""
    return [
        CompanyPlatform(company_id=company, platform=platform, organization_id=f"{platform}-org-{number:02}")
        for number, company in enumerate(companies, 1)
        for platform in platforms
    ]


def demo_events(seed: int, count: int, companies: Sequence[UUID]) -> Iterator[ImpactMetricEvent]:
    """Each has volunteer hours, so that each platform understands a metric of each event."""
    dice = random.Random(f"events {seed}")  # noqa: S311 a demo's dice, no secret
    now = datetime.now(UTC).replace(microsecond=0)
    for _ in range(count):
        start = date(2026, 1, 1) + timedelta(days=dice.randrange(300))
        yield validated(
            ImpactMetricEvent(
                event_id=_uuid(dice),
                company_id=dice.choice(companies),
                program_id=f"program-{dice.randrange(5)}",
                program_name=dice.choice(_PROGRAMS),
                period_start=start,
                period_end=start + timedelta(days=dice.randrange(1, 60)),
                occurred_at=now,
                source="demo",
                metrics=tuple(_metrics(dice)),
                metadata={"demo": "yes"},
            )
        )


def _metrics(dice: random.Random) -> Iterator[MetricEntry]:
    yield _entry("volunteer_hours", Decimal(dice.randrange(1, 4_000)) / 4, "hours")
    if dice.random() < 0.5:
        yield _entry("participants", Decimal(dice.randrange(1, 200)), "count")
    if dice.random() < 0.3:
        yield _entry("volunteers", Decimal(dice.randrange(1, 40)), "count")
    if dice.random() < 0.3:
        yield _entry("sessions", Decimal(dice.randrange(1, 20)), "count")
    if dice.random() < 0.2:
        yield _entry("integration_score", Decimal(dice.randrange(0, 10_001)) / 10_000, "score")


def _entry(metric: str, value: Decimal, unit: str) -> MetricEntry:
    return MetricEntry(metric=metric, value=value.quantize(Decimal("0.0001")), unit=unit)


def poison() -> list[bytes]:
    """Records that are no events: each is to be found in the dead-letter topic as it came."""
    return [
        b"this is no JSON",
        b'{"event_id": "not a UUID"}',
        b"\xc3\x01\x00\x00\x00\x00\x00\x00\x00\x00unknown schema",
    ]
