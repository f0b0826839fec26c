"""Looking at the ledger, changing nothing."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    attempt: int
    started_at: datetime
    duration_ms: float | None
    http_status: int | None
    outcome: str
    counted: bool
    error_code: str | None
    error_message: str | None
    transaction_id: str | None


class StatusRow(msgspec.Struct, frozen=True, kw_only=True):
    event_type: str
    platform_status: str | None
    transaction_id: str | None
    error_message: str | None
    occurred_at: datetime
    received_at: datetime


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as people and the API see it (contract, section 6 and 7)."""

    id: UUID
    event_id: UUID
    company_id: UUID
    platform: str
    organization_id: str
    payload_hash: str | None
    status: str
    outcome: str | None
    mocked: bool
    retries: int
    replays: int
    error_code: str | None
    error_message: str | None
    transaction_id: str | None
    idempotency_key: str | None
    platform_status: str | None
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime
    updated_at: datetime
    trace_id: str | None
    attempts: tuple[AttemptRow, ...] = ()
    status_events: tuple[StatusRow, ...] = ()


class DeliveryFilter(msgspec.Struct, frozen=True, kw_only=True):
    company_id: UUID | None = None
    platform: str | None = None
    status: str | None = None
    error_code: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    items: tuple[DeliveryRow, ...]
    next_cursor: str | None


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How many deliveries of a platform are in a state."""

    platform: str
    status: str
    outcome: str | None
    platform_status: str | None
    count: int


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What waits, by platform."""

    retrying: Mapping[str, int]
    unconfirmed: Mapping[str, int]
    """Accepted so long ago that it should have been confirmed or rejected; of mocked ones nobody expects that. Counted
    up to a million."""
    unpublished_for: float
    """Seconds that the eldest record which should be on a topic has waited for a broker's confirmation; 0.0: none."""


class Inspection(Protocol):
    """Looking, changing nothing."""

    async def deliveries(self, where: DeliveryFilter, *, cursor: str | None, limit: int) -> Page:
        """Newest first; `since` is included, `until` is not. Raises ValueError on a cursor that is none of ours."""
        ...

    async def delivery(self, delivery_id: UUID) -> DeliveryRow | None:
        """With attempts and status events."""
        ...

    async def tallies(self) -> list[Tally]: ...

    async def backlog(self, *, confirm_within: float) -> Backlog:
        """`confirm_within`: seconds."""
        ...

    async def ping(self) -> None:
        """Raises LedgerUnavailable where it would refuse to write."""
        ...
