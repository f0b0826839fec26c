"""Deliveries as the API shows them (contract, sections 6 and 7): the row in camelCase."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from delivery_log.contract import AttemptRow, DeliveryRow, StatusRow


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A delivery in a list."""

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
    error_msg: str | None
    transaction_id: str | None
    idempotency_key: str | None
    platform_status: str | None
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime
    updated_at: datetime
    trace_id: str | None


class AttemptView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    attempt: int
    started_at: datetime
    duration_ms: float | None
    http_status: int | None
    outcome: str
    counted: bool
    error_code: str | None
    error_msg: str | None
    transaction_id: str | None


class StatusView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    event_type: str
    platform_status: str | None
    transaction_id: str | None
    error_msg: str | None
    occurred_at: datetime
    received_at: datetime


class SingleDeliveryView(DeliveryView, frozen=True, kw_only=True, rename="camel"):
    """A delivery alone, with its attempts and status events."""

    attempts: tuple[AttemptView, ...]
    status_events: tuple[StatusView, ...]


def in_list(row: DeliveryRow) -> DeliveryView:
    return DeliveryView(**_values(row, DeliveryView))


def alone(row: DeliveryRow) -> SingleDeliveryView:
    return SingleDeliveryView(
        **_values(row, DeliveryView),
        attempts=tuple(AttemptView(**_values(attempt, AttemptView)) for attempt in row.attempts),
        status_events=tuple(StatusView(**_values(status, StatusView)) for status in row.status_events),
    )


def _values(row: DeliveryRow | AttemptRow | StatusRow, view: type[msgspec.Struct]) -> dict[str, Any]:
    """The contract names the column `error_msg`."""
    return {name: getattr(row, "error_message" if name == "error_msg" else name) for name in view.__struct_fields__}
