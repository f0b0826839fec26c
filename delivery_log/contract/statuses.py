"""Webhooks in, platform statuses out: what the gateway needs of a ledger."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

import msgspec


class StatusEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A verified webhook. `id` is made of platform and content, so that the same webhook counts once."""

    id: UUID
    platform: str
    event_type: str
    transaction_id: str | None
    activity_id: str | None
    platform_status: Literal["received", "confirmed", "rejected"] | None
    payload: str
    """The body as JSON text, as it came."""
    error_message: str | None
    occurred_at: datetime
    traceparent: str | None = None


class StatusLog(Protocol):
    """Webhooks in, platform statuses out: what the gateway needs."""

    async def record_status_events(self, events: Sequence[StatusEvent]) -> list[bool]:
        """Stores them; durable when it returns. True: new. False: already there.

        Raises ValueError, and has stored none of them, where a text or payload is one that the ledger cannot hold
        (`delivery_log.storable`).
        """
        ...

    async def link_status_events(self, limit: int) -> int:
        """Joins stored events with the finished deliveries whose current transaction they name, and moves
        `platform_status`. Until a delivery has an outcome its statuses wait: what they then say is of that outcome.

        The status is a function of all of a delivery's events, whatever order they came in: `received` only where
        there is nothing else; of `confirmed` and `rejected` the later `occurred_at`, a tie rejects, both seen is
        flagged; for Workday any rejected activity rejects. `rejected` makes the delivery `failed` (outcome `rejected`);
        a later confirmation makes it `delivered` again. Returns how many events were linked.
        """
        ...
