"""What is published: a function of a seed, so that two runs with one seed publish the same.

Each event carries a label of its own as its program id. Every platform's body names the program, so that a receipt
tells by itself which event it is of, whatever key or organization came with it.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

Kind = Literal["event", "duplicate", "conflict", "poison", "tombstone"]
_STEP = Decimal("0.0001")
_RECENT = 100  # a duplicate or a conflict is of one of so many last events


@dataclass(frozen=True, slots=True)
class Metric:
    """`value`: exact, four decimals."""

    name: str
    value: Decimal
    unit: str


@dataclass(frozen=True, slots=True)
class Event:
    event_id: UUID
    company_id: UUID
    label: str
    program_name: str
    period_start: date
    period_end: date
    occurred_at: datetime
    metrics: tuple[Metric, ...]
    platforms: tuple[str, ...] | None = None
    source: str = "proving"
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Intended:
    """One record to publish. Poison has bytes and no event; a tombstone has neither."""

    kind: Kind
    company_id: UUID
    event: Event | None = None
    raw: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """How many of each there are for one event, 0 to 1. `limited`: events that ask for some platforms only."""

    duplicates: float = 0.02
    conflicts: float = 0.005
    poison: float = 0.005
    tombstones: float = 0.005
    limited: float = 0.1


CLEAN = Mixture(duplicates=0, conflicts=0, poison=0, tombstones=0, limited=0)


def companies(seed: int, count: int) -> list[UUID]:
    dice = random.Random(f"proving companies {seed}")  # noqa: S311 - dice, no secret
    return [_uuid(dice) for _ in range(count)]


def intended(
    seed: int, count: int, ids: Sequence[UUID], mixture: Mixture, platforms: Sequence[str]
) -> Iterator[Intended]:
    """`count` events, each once, and the mixture's others among them, in the order of their publication."""
    dice = random.Random(f"proving events {seed}")  # noqa: S311 - dice, no secret
    recent: list[Event] = []
    for number in range(count):
        event = _event(dice, f"p{seed}-{number:07}", dice.choice(ids), mixture, platforms)
        recent = [*recent[-_RECENT + 1 :], event]
        yield Intended("event", event.company_id, event)
        if dice.random() < mixture.duplicates:
            again = dice.choice(recent)
            yield Intended("duplicate", again.company_id, again)
        if dice.random() < mixture.conflicts:
            other = _other_content(dice.choice(recent))
            yield Intended("conflict", other.company_id, other)
        if dice.random() < mixture.poison:
            yield Intended("poison", dice.choice(ids), raw=_poison(dice))
        if dice.random() < mixture.tombstones:
            yield Intended("tombstone", dice.choice(ids))


def _event(dice: random.Random, label: str, company: UUID, mixture: Mixture, platforms: Sequence[str]) -> Event:
    start = date(2026, 1, 1) + timedelta(days=dice.randrange(300))
    limited = tuple(dice.sample(platforms, 1)) if platforms and dice.random() < mixture.limited else None
    return Event(
        event_id=_uuid(dice),
        company_id=company,
        label=label,
        program_name=dice.choice(("Language Café", "Buddy Mentoring", "Food Bank Saturdays")),
        period_start=start,
        period_end=start + timedelta(days=dice.randrange(1, 60)),
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=dice.randrange(10**10)),
        metrics=tuple(_metrics(dice)),
        platforms=limited,
    )


def _metrics(dice: random.Random) -> Iterator[Metric]:
    # Hours and participants in each: every platform takes both, and Workday names the program with the second alone.
    yield Metric("volunteer_hours", dice.randrange(1, 10_000_000) * _STEP, "hours")
    yield Metric("participants", (dice.randrange(1, 200) * Decimal(1)).quantize(_STEP), "count")
    if dice.random() < 0.3:
        yield Metric("volunteers", (dice.randrange(1, 40) * Decimal(1)).quantize(_STEP), "count")
    if dice.random() < 0.3:
        yield Metric("sessions", dice.randrange(1, 200_000) * _STEP, "count")
    if dice.random() < 0.2:
        yield Metric("integration_score", dice.randrange(0, 10_001) * _STEP, "score")


def _other_content(event: Event) -> Event:
    """The same id, and an hour more."""
    first, *rest = event.metrics
    return replace(event, metrics=(replace(first, value=first.value + 1), *rest))


def _poison(dice: random.Random) -> bytes:
    number = dice.randrange(10**9)
    return dice.choice(
        (
            f"this is no JSON {number}".encode(),
            f'{{"event_id": "not a UUID {number}"}}'.encode(),
            b"\xc3\x01" + number.to_bytes(8, "big") + b"unknown schema",
            f'{{"event_id": "{_uuid(dice)}", "metrics": [{{"value": NaN}}]}}'.encode(),
            b"\x00\xff\xfe" + number.to_bytes(8, "big"),
        )
    )


def _uuid(dice: random.Random) -> UUID:
    return UUID(int=dice.getrandbits(128), version=4)
