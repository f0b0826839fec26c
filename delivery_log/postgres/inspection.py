"""Looking at the ledger in PostgreSQL."""

from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from delivery_log.contract import (
    AttemptRow,
    Backlog,
    DeliveryFilter,
    DeliveryRow,
    LedgerUnavailable,
    Page,
    StatusRow,
    Tally,
)
from delivery_log.cursors import read_cursor, write_cursor
from delivery_log.postgres.database import Database, sql

_LIST_DELIVERIES = sql("list_deliveries")
_SHOW_DELIVERY = sql("show_delivery")
_TALLY_DELIVERIES = sql("tally_deliveries")
_BACKLOG = sql("backlog")
_CHECK_WRITABLE = sql("check_writable")

_MOST_UNCONFIRMED = 1_000_000
_EMPTY = Page(items=(), next_cursor=None)


class PostgresInspection:
    """`delivery_log.contract.Inspection` on a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def deliveries(self, where: DeliveryFilter, *, cursor: str | None, limit: int) -> Page:
        if limit < 1:
            raise ValueError("a page has at least one row")
        behind = read_cursor(cursor) if cursor is not None else (None, None)
        try:
            rows = await self._database.fetch(
                _LIST_DELIVERIES,
                where.company_id,
                where.platform,
                where.status,
                where.error_code,
                where.since,
                where.until,
                *behind,
                limit + 1,
            )
        except asyncpg.DataError:
            return _EMPTY  # a filter that no row can match: a text with NUL in it, a time beyond all calendars
        items = tuple(_delivery(row) for row in rows[:limit])
        last = items[-1] if len(rows) > limit else None
        return Page(items=items, next_cursor=write_cursor(last.created_at, last.id) if last else None)

    async def delivery(self, delivery_id: UUID) -> DeliveryRow | None:
        rows = await self._database.fetch(_SHOW_DELIVERY, delivery_id)
        if not rows:
            return None
        row = rows[0]
        return _delivery(
            row,
            attempts=msgspec.convert(row["attempts_made"], tuple[AttemptRow, ...]),
            status_events=msgspec.convert(row["statuses"], tuple[StatusRow, ...]),
        )

    async def tallies(self) -> list[Tally]:
        return [Tally(**row) for row in await self._database.fetch(_TALLY_DELIVERIES)]

    async def backlog(self, *, confirm_within: float) -> Backlog:
        rows = await self._database.fetch(_BACKLOG, confirm_within, _MOST_UNCONFIRMED)
        return Backlog(
            retrying={row["platform"]: row["retrying"] for row in rows if row["retrying"]},
            unconfirmed={row["platform"]: row["unconfirmed"] for row in rows if row["unconfirmed"]},
            unpublished_for=max((row["unpublished_for"] for row in rows), default=0.0),
        )

    async def ping(self) -> None:
        rows = await self._database.fetch(_CHECK_WRITABLE)
        if not rows[0]["writable"]:
            raise LedgerUnavailable("Postgres is read-only")


def _delivery(
    row: "asyncpg.Record", attempts: tuple[AttemptRow, ...] = (), status_events: tuple[StatusRow, ...] = ()
) -> DeliveryRow:
    columns: dict[str, Any] = {name: row[column] for name, column in _COLUMN_OF.items()}
    return DeliveryRow(**columns, attempts=attempts, status_events=status_events)


_COLUMN_OF = {
    name: {"error_message": "error_msg"}.get(name, name)
    for name in DeliveryRow.__struct_fields__
    if name not in ("attempts", "status_events")
}
