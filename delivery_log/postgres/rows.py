"""Rows of the ledger's statements, as the contract's values."""

from typing import Any
from uuid import UUID

from delivery_log.contract import Go, Origin, Request


def request(row: Any, event: Any) -> Request:
    return Request(
        delivery_id=row["id"],
        event_id=row["event_id"],
        company_id=row["company_id"],
        platform=row["platform"],
        hop=row["hop"],
        body=event["body"],
        traceparent=row["traceparent"],
        attempt=row["attempts"],
        replays=row["replays"],
        origin=origin(event),
        first_failed_at=row["first_failed_at"],
    )


def origin(row: Any) -> Origin | None:
    return None if row["topic"] is None else Origin(row["topic"], row["partition"], row["offset"])


def go(row: Any, key: UUID, batch_id: UUID | None) -> Go:
    return Go(
        attempt=row["attempt"],
        counted=row["counted"],
        idempotency_key=key,
        replays=row["replays"],
        failing_for=row["failing_for"],
        to_deadline=row["to_deadline"],
        uncertain=row["uncertain"],
        batch_id=batch_id,
    )
