"""A run that went well, made by hand: two events of one company, one platform, a poison record and a tombstone."""

from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID

from impact_in.ledger_check.facts import GroupPosition, StoredRecord
from proving.checker.expected import delivery_id, first_key
from proving.checker.facts import Attempt, Conditions, Delivery, EventRow, Facts, Part, Published, Receipt

COMPANY = UUID(int=1)
FIRST, SECOND = UUID(int=11), UUID(int=12)
TOPIC, PLATFORM = "t.metrics", "benevity"
VALUES = [b"first", b"second", b"poison", None, b"second"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def facts(**changes: Any) -> Facts:
    """`changes` replace whole parts of the good run."""
    return Facts(**{**_GOOD, **changes})


def published(offset: int, kind: str, event: UUID | None, **changes: Any) -> Published:
    value = VALUES[offset]
    fields: dict[str, Any] = {
        "n": offset + 1,
        "at": "2026-01-01T00:00:00Z",
        "kind": kind,
        "topic": TOPIC,
        "partition": 0,
        "offset": offset,
        "key": str(COMPANY),
        "value_sha256": None if value is None else sha256(value).hexdigest(),
    }
    if event is not None:
        fields |= {
            "event_id": str(event),
            "company": str(COMPANY),
            "label": f"label-{event.int}",
            "content_sha256": f"content of {event.int}",
            "metrics": [("volunteer_hours", "2.5000"), ("sessions", "1.0000")],
        }
    return Published(**{**fields, **changes})


def stored(offset: int) -> StoredRecord:
    return StoredRecord(TOPIC, 0, offset, str(COMPANY).encode(), VALUES[offset], {})


def receipt(n: int, event: UUID, **changes: Any) -> Receipt:
    part = Part("org", [f"label-{event.int}"], changes.get("effect", True), [("volunteer_hours", Decimal("2.5"))])
    fields: dict[str, Any] = {
        "n": n,
        "platform": PLATFORM,
        "at": "2026-01-01T00:00:01Z",
        "path": "/v1/impact",
        "key": first_key(event, PLATFORM),
        "body_sha256": f"body of {event.int}",
        "effect": True,
        "status": 200,
        "fault": None,
        "parts": [part],
    }
    return Receipt(**{**fields, **changes})


def attempt(event: UUID, number: int = 1, **changes: Any) -> Attempt:
    fields: dict[str, Any] = {
        "delivery_id": delivery_id(event, PLATFORM),
        "attempt": number,
        "started_at": NOW,
        "http_status": 200,
        "outcome": "accepted",
        "counted": True,
        "idempotency_key": first_key(event, PLATFORM),
        "payload_hash": f"body of {event.int}",
    }
    return Attempt(**{**fields, **changes})


def delivery(event: UUID, **changes: Any) -> Delivery:
    fields: dict[str, Any] = {
        "id": delivery_id(event, PLATFORM),
        "event_id": event,
        "company_id": COMPANY,
        "platform": PLATFORM,
        "status": "delivered",
        "outcome": "delivered",
    }
    return Delivery(**{**fields, **changes})


def dead_metric(offset: int, value: bytes | None) -> StoredRecord:
    headers = {
        "ii-original-topic": TOPIC,
        "ii-original-partition": "0",
        "ii-original-offset": str(offset),
    }
    return StoredRecord("t.metrics.dlt", 0, 0, None, value, headers)


def dead_delivery(event: UUID) -> StoredRecord:
    headers = {"ii-delivery-id": str(delivery_id(event, PLATFORM))}
    return StoredRecord(f"t.deliveries.{PLATFORM}.dlt", 0, 0, None, b"", headers)


def position(committed: int = 5, end: int = 5) -> GroupPosition:
    return GroupPosition("impact-in-ingest", TOPIC, 0, committed, end)


_GOOD: dict[str, Any] = {
    "conditions": Conditions(platforms=(PLATFORM,)),
    "published": [
        published(0, "event", FIRST),
        published(1, "event", SECOND),
        published(2, "poison", None),
        published(3, "tombstone", None),
        published(4, "duplicate", SECOND),
    ],
    "receipts": [receipt(1, FIRST), receipt(2, SECOND)],
    "metrics": [stored(offset) for offset in range(5)],
    "metrics_dead": [dead_metric(2, b"poison")],
    "deliveries_dead": {PLATFORM: []},
    "positions": [position()],
    "events": [
        EventRow(FIRST, "accepted", None, (TOPIC, 0, 0)),
        EventRow(SECOND, "accepted", None, (TOPIC, 0, 1)),
    ],
    "deliveries": [delivery(FIRST), delivery(SECOND)],
    "attempts": [attempt(FIRST), attempt(SECOND)],
    "companies": {(COMPANY, PLATFORM): "org"},
}
