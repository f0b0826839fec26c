"""Twin of looking at the ledger."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

from delivery_log.contract import AttemptRow, Backlog, DeliveryFilter, DeliveryRow, Page, StatusRow, Tally
from delivery_log.cursors import read_cursor, write_cursor
from delivery_log.memory.state import DeliveryRecord, MemoryState, StatusRecord
from schemas.trace import trace_id


class MemoryInspection:
    """`delivery_log.contract.Inspection` over a `MemoryState`."""

    def __init__(self, state: MemoryState | None = None) -> None:
        self.state = state or MemoryState()

    async def deliveries(self, where: DeliveryFilter, *, cursor: str | None, limit: int) -> Page:
        if limit < 1:
            raise ValueError("a page has at least one row")
        behind = read_cursor(cursor) if cursor is not None else None
        rows = sorted(
            (
                row
                for row in self.state.deliveries.values()
                if _fits(row, where) and (behind is None or (row.created_at, row.id) < behind)
            ),
            key=lambda row: (row.created_at, row.id),
            reverse=True,
        )
        items = tuple(_delivery(row) for row in rows[:limit])
        last = items[-1] if len(rows) > limit else None
        return Page(items=items, next_cursor=write_cursor(last.created_at, last.id) if last else None)

    async def delivery(self, delivery_id: UUID) -> DeliveryRow | None:
        row = self.state.deliveries.get(delivery_id)
        if row is None:
            return None
        attempts = sorted(
            (attempt for (owner, _), attempt in self.state.attempts.items() if owner == delivery_id),
            key=lambda attempt: attempt.attempt,
        )
        statuses = sorted(
            (record for record in self.state.status_events.values() if _concerns(record, row)),
            key=lambda record: (record.event.occurred_at, record.received_at, record.event.id),
        )
        return _delivery(row, tuple(attempts), tuple(_status(record) for record in statuses))

    async def tallies(self) -> list[Tally]:
        counts = Counter(
            (row.platform, row.status, row.outcome, row.platform_status) for row in self.state.deliveries.values()
        )
        return [
            Tally(platform=platform, status=status, outcome=outcome, platform_status=platform_status, count=count)
            for (platform, status, outcome, platform_status), count in sorted(
                counts.items(), key=lambda item: tuple(text or "" for text in item[0])
            )
        ]

    async def backlog(self, *, confirm_within: float) -> Backlog:
        rows, now = self.state.deliveries.values(), self.state.clock()
        unpublished = [
            row.published_at for row in rows if row.unannounced or (row.unfinished and row.published_hop < row.hop)
        ]
        return Backlog(
            retrying=Counter(row.platform for row in rows if row.status == "retrying"),
            unconfirmed=Counter(
                row.platform
                for row in rows
                if row.status == "delivered" and not row.mocked and row.platform_status in (None, "received")
                if row.delivered_at is not None and row.delivered_at < now - timedelta(seconds=confirm_within)
            ),
            unpublished_for=max(((now - moment).total_seconds() for moment in unpublished), default=0.0),
        )

    async def ping(self) -> None:
        """A dictionary is always there."""


def _fits(row: DeliveryRecord, where: DeliveryFilter) -> bool:
    return (
        (where.company_id is None or row.company_id == where.company_id)
        and (where.platform is None or row.platform == where.platform)
        and (where.status is None or row.status == where.status)
        and (where.error_code is None or row.error_code == where.error_code)
        and (where.since is None or row.created_at >= where.since)
        and (where.until is None or row.created_at < where.until)
    )


def _concerns(record: StatusRecord, row: DeliveryRecord) -> bool:
    if record.delivery_id == row.id:
        return True
    transaction = record.event.transaction_id
    return transaction is not None and (record.event.platform, transaction) == (row.platform, row.transaction_id)


def _delivery(
    row: DeliveryRecord, attempts: tuple[AttemptRow, ...] = (), status_events: tuple[StatusRow, ...] = ()
) -> DeliveryRow:
    return DeliveryRow(
        **{name: getattr(row, name) for name in _SAME},
        trace_id=trace_id(row.traceparent),
        attempts=attempts,
        status_events=status_events,
    )


def _status(record: StatusRecord) -> StatusRow:
    event = record.event
    return StatusRow(
        event_type=event.event_type,
        platform_status=event.platform_status,
        transaction_id=event.transaction_id,
        error_message=event.error_message,
        occurred_at=event.occurred_at,
        received_at=record.received_at,
    )


_SAME = tuple(name for name in DeliveryRow.__struct_fields__ if name not in ("trace_id", "attempts", "status_events"))
