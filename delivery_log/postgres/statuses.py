"""Webhooks in PostgreSQL."""

from collections.abc import Sequence
from uuid import uuid4

import asyncpg

from delivery_log.contract import StatusEvent
from delivery_log.postgres.database import Database, sql
from schemas.trace import trace_id

_RECORD_STATUS_EVENTS = sql("record_status_events")
_LINK_STATUS_EVENTS = sql("link_status_events")

# What a row can be refused for: its texts (class 22), its depth, a key longer than an index entry.
_UNSTORABLE = (asyncpg.DataError, asyncpg.ProgramLimitExceededError, asyncpg.StatementTooComplexError)


class PostgresStatusLog:
    """`delivery_log.contract.StatusLog` on a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record_status_events(self, events: Sequence[StatusEvent]) -> list[bool]:
        if not events:
            return []
        try:
            rows = await self._database.fetch(
                _RECORD_STATUS_EVENTS,
                [event.id for event in events],
                [event.platform for event in events],
                [event.event_type for event in events],
                [event.transaction_id for event in events],
                [event.activity_id for event in events],
                [event.platform_status for event in events],
                [event.payload for event in events],
                [event.error_message for event in events],
                [event.occurred_at for event in events],
                [trace_id(event.traceparent) if event.traceparent else None for event in events],
                uuid4(),
            )
        except _UNSTORABLE as error:
            raise ValueError(f"the ledger cannot hold a status event ({type(error).__name__})") from None
        new = {row["id"] for row in rows}
        answers = []
        for event in events:
            answers.append(event.id in new)
            new.discard(event.id)  # of one webhook twice in a call, the first is the new one
        return answers

    async def link_status_events(self, limit: int) -> int:
        rows = await self._database.fetch(_LINK_STATUS_EVENTS, limit)
        return int(rows[0]["linked"])
