"""The events of a benchmark, each with a label in its `program_id` by which the sink knows it again."""

import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import msgspec

from delivery.ports import OutgoingRecord
from schemas.event import ImpactMetricEvent, MetricEntry
from schemas.reading import to_json_fields

LABEL_START = b'"b-'


def companies(count: int) -> list[UUID]:
    dice = random.Random("companies")  # noqa: S311 no secret
    return [UUID(int=dice.getrandbits(128), version=4) for _ in range(count)]


def label(company: int, number: int, published_us: int = 0) -> str:
    return f"b-{company}-{number}-{published_us}"


def read_labels(body: bytes) -> list[tuple[int, int, int]]:
    """Of all records of a batch."""
    found, start = [], 0
    while (label := read_label(body, start)) is not None:
        found.append(label)
        start = body.find(LABEL_START, start) + 1
    return found


def read_label(body: bytes, start: int = 0) -> tuple[int, int, int] | None:
    """Company, number in the company, time of publication (microseconds since 1970, 0 for none)."""
    start = body.find(LABEL_START, start)
    if start < 0:
        return None
    company, number, published = body[start + 3 : body.find(b'"', start + 3)].split(b"-")
    return int(company), int(number), int(published)


def event(company_id: UUID, program_id: str, occurred_at: datetime) -> ImpactMetricEvent:
    return ImpactMetricEvent(
        event_id=uuid4(),
        company_id=company_id,
        program_id=program_id,
        program_name="Language Café",
        period_start=date(2026, 1, 1),
        period_end=date(2026, 1, 31),
        occurred_at=occurred_at,
        source="benchmark",
        metrics=(
            MetricEntry(metric="volunteer_hours", value=Decimal("12.5000"), unit="hours"),
            MetricEntry(metric="participants", value=Decimal("40.0000"), unit="count"),
        ),
    )


class Labelled:
    """Counts each company's events, so that their numbers rise in the order of publication."""

    def __init__(self, ids: Sequence[UUID]) -> None:
        self._ids = ids
        self._next = [0] * len(ids)

    def record(self, topic: str, company: int, *, timed: bool = False) -> OutgoingRecord:
        """JSON, which the baseline passes on as it is: the harder comparison for us. `timed`: says when it was made."""
        number = self._next[company]
        self._next[company] += 1
        text = label(company, number, time.time_ns() // 1000 if timed else 0)
        fields = to_json_fields(event(self._ids[company], text, datetime.now(UTC)))
        return OutgoingRecord(topic, str(self._ids[company]).encode(), msgspec.json.encode(fields), [])

    def many(self, topic: str, count: int) -> Iterator[OutgoingRecord]:
        """Companies in shuffled rounds: each has as many."""
        dice = random.Random("order")  # noqa: S311 no secret
        everyone = list(range(len(self._ids)))
        made = 0
        while made < count:
            dice.shuffle(everyone)
            for company in everyone[: count - made]:
                yield self.record(topic, company)
                made += 1
