"""Reads the facts of a run, once and whole: two files, the topics, the tables."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from impact_in.ledger_check.facts import read_kafka
from proving.checker.facts import Attempt, Conditions, Delivery, EventRow, Facts, Part, Published, Receipt
from schemas.topics import Topics
from streams.connection import KafkaConnection

_DELIVERIES = (
    "select id, event_id, company_id, platform, status, outcome, mocked, replays, seq, generation, idempotency_key, "
    "error_code from impact_deliveries"
)
_ATTEMPTS = (
    "select delivery_id, attempt, started_at, http_status, outcome, counted, idempotency_key, payload_hash, batch_id, "
    "error_code from delivery_attempts"
)
# A request whose answer has not been written yet stands in the row alone: it, too, is an attempt begun.
_BEGUN = (
    "select id, attempts, lease_started_at, idempotency_key, payload_hash, batch_id from impact_deliveries "
    "where lease_owner is not null and attempts > 0"
)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run's facts are. `published`, `receipts`: the files of publisher and witness."""

    bootstrap: str
    database_url: str
    topic_prefix: str
    published: str
    receipts: str
    conditions: Conditions = Conditions()


async def read_facts(source: Source) -> Facts:
    """Raises OSError, asyncpg's and aiokafka's errors, and ValueError where a file is not what it should be."""
    topics, conditions = Topics(source.topic_prefix), source.conditions
    connection = KafkaConnection(bootstrap_servers=source.bootstrap)
    kafka = await read_kafka(connection, topics, conditions.platforms, conditions.delays)
    database = await asyncpg.connect(source.database_url)
    try:
        async with database.transaction(isolation="repeatable_read", readonly=True):
            events = await database.fetch(
                'select id, disposition, reason, topic, "partition", "offset" from impact_events'
            )
            deliveries = await database.fetch(_DELIVERIES)
            attempts = await database.fetch(_ATTEMPTS)
            begun = await database.fetch(_BEGUN)
            companies = await database.fetch(
                "select company_id, platform, organization_id from company_platforms where enabled"
            )
    finally:
        await database.close()
    return Facts(
        conditions=conditions,
        published=read_published(Path(source.published)),
        receipts=read_receipts(Path(source.receipts)),
        metrics=kafka.metrics,
        metrics_dead=kafka.metrics_dlt,
        deliveries_dead=kafka.deliveries_dlt,
        positions=kafka.positions,
        events=[_event(dict(row)) for row in events],
        deliveries=[Delivery(**dict(row)) for row in deliveries],
        attempts=[Attempt(**dict(row)) for row in attempts]
        + _unfinished([dict(row) for row in begun], [dict(row) for row in attempts]),
        companies={(row["company_id"], row["platform"]): row["organization_id"] for row in companies},
    )


def read_published(path: Path) -> list[Published]:
    return [msgspec.json.decode(line, type=Published) for line in _lines(path)]


def read_receipts(path: Path) -> list[Receipt]:
    """A line that a crash cut off was never answered: it is left out."""
    return [receipt(json.loads(line)) for line in _lines(path)]


def receipt(line: Mapping[str, Any]) -> Receipt:
    """A line of the witness's file (docs/simulators.md)."""
    if line.get("records"):
        parts = [
            Part(record["organizationId"], record["refs"], record["taken"], _amounts(record["amounts"]))
            for record in line["records"]
        ]
    elif line["eventRefs"]:
        parts = [Part(line["organizationId"], line["eventRefs"], line["effect"], _amounts(line["amounts"]))]
    else:
        parts = []
    return Receipt(
        n=line["n"],
        platform=line["platform"],
        at=line["at"],
        path=line["path"],
        key=line["key"],
        body_sha256=line["bodySha256"],
        effect=line["effect"],
        status=line["status"],
        fault=line["fault"],
        parts=parts,
        violation=line.get("violation"),
    )


def _lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().split(b"\n")[:-1] if line]


def _amounts(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, Decimal]]:
    return [(name, Decimal(text)) for name, text in pairs]


def _event(row: Mapping[str, Any]) -> EventRow:
    place = None if row["topic"] is None else (row["topic"], row["partition"], row["offset"])
    return EventRow(row["id"], row["disposition"], row["reason"], place)


def _unfinished(begun: Iterable[Mapping[str, Any]], written: Iterable[Mapping[str, Any]]) -> list[Attempt]:
    known = {(row["delivery_id"], row["attempt"]) for row in written}
    return [
        Attempt(
            delivery_id=row["id"],
            attempt=row["attempts"],
            started_at=row["lease_started_at"] or datetime.fromtimestamp(0, UTC),
            http_status=None,
            outcome="unknown_outcome",
            counted=False,
            idempotency_key=row["idempotency_key"],
            payload_hash=row["payload_hash"],
            batch_id=row["batch_id"],
        )
        for row in begun
        if (row["id"], row["attempts"]) not in known
    ]
