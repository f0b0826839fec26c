"""What four parties say: the publisher, the witness, Kafka and the ledger. Amounts are exact, times as they came."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

import msgspec

from impact_in.ledger_check.facts import Coordinates, GroupPosition, StoredRecord
from proving.publisher.journal import Published

__all__ = [
    "Attempt", "Conditions", "Coordinates", "Delivery", "EventRow", "Facts", "GroupPosition", "Part", "Personality",
    "Published", "Receipt", "StoredRecord",
]  # fmt: skip

Personality = Literal["keys", "counts"]
KEYED = frozenset(("benevity", "workday"))
UNSURE = frozenset(("unknown_outcome", "uncertain", "unavailable"))
"""Attempts that may have had their effect. `unavailable` is one of them only by a 5xx or 408, or without a status."""


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """Under which a run took place. `delays` in the spelling of the retry topics' names, `deadline` in seconds."""

    platforms: tuple[str, ...] = ("benevity", "goodera", "workday")
    personality: Personality = "keys"
    delays: tuple[str, ...] = ("1s", "2s", "5s")
    last_delay: float = 5.0
    deadline: float = 60.0


class Part(msgspec.Struct, frozen=True):
    """What a request says of one event: the record of a batch, or its only one."""

    organization: str | None
    refs: list[str]
    taken: bool
    amounts: list[tuple[str, Decimal]]


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """One request that the witness saw. `status` 0: it gave no answer."""

    n: int
    platform: str
    at: str
    path: str
    key: str
    body_sha256: str
    effect: bool
    status: int
    fault: str | None
    parts: list[Part]
    violation: str | None = None

    @property
    def fate_is_clear(self) -> bool:
        """Whether the client can know what became of it: an answer that can be understood, and no server's error."""
        if self.fault == "garbage":
            return False
        return 200 <= self.status < 300 or (400 <= self.status < 500 and self.status != 408)


class EventRow(msgspec.Struct, frozen=True):
    id: UUID
    disposition: str
    reason: str | None
    coordinates: Coordinates | None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    event_id: UUID
    company_id: UUID
    platform: str
    status: str
    outcome: str | None
    mocked: bool = False
    replays: int = 0
    seq: int = 0
    generation: int = 0
    idempotency_key: str | None = None
    error_code: str | None = None

    @property
    def end(self) -> str:
        """How it ended, in one word; its status where it did not."""
        return self.outcome or ("cancelled" if self.status == "failed" else self.status)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    delivery_id: UUID
    attempt: int
    started_at: datetime
    http_status: int | None
    outcome: str
    counted: bool
    idempotency_key: str | None
    payload_hash: str | None
    batch_id: UUID | None = None
    error_code: str | None = None

    @property
    def unsure(self) -> bool:
        if self.outcome != "unavailable":
            return self.outcome in UNSURE
        return self.http_status is None or self.http_status >= 500 or self.http_status == 408


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """`companies`: (company, platform) → organization, of those that are enabled."""

    conditions: Conditions
    published: Sequence[Published]
    receipts: Sequence[Receipt]
    metrics: Sequence[StoredRecord]
    metrics_dead: Sequence[StoredRecord]
    deliveries_dead: Mapping[str, Sequence[StoredRecord]]
    positions: Sequence[GroupPosition]
    events: Sequence[EventRow]
    deliveries: Sequence[Delivery]
    attempts: Sequence[Attempt]
    companies: Mapping[tuple[UUID, str], str]


def seconds(delay: str) -> float:
    """`5s`, `1m`, as in the topics' names, in seconds."""
    units = {"ms": timedelta(milliseconds=1), "s": timedelta(seconds=1), "m": timedelta(minutes=1)}
    units |= {"h": timedelta(hours=1), "d": timedelta(days=1)}
    unit = delay.lstrip("0123456789.")
    return (float(delay.removesuffix(unit)) * units[unit]).total_seconds()
