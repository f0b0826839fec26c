"""Twin of the webhooks' log, and the rule that makes a status of a history, as a function of its own."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from delivery_log.contract import StatusEvent
from delivery_log.memory.state import DeliveryRecord, MemoryState, StatusRecord
from delivery_log.storable import check_storable, check_text

_RANK = {"rejected": 2, "confirmed": 1, "received": 0}

_Transaction = tuple[str, str]  # platform and id

REJECTED_CODE = "PLATFORM_REJECTED"
"""`error_code` of a delivery that a webhook rejected."""


class Verdict(NamedTuple):
    """What a platform says of a delivery, all in all."""

    status: Literal["received", "confirmed", "rejected"] | None = None
    error_message: str | None = None
    contradicted: bool = False
    """One subject was both confirmed and rejected."""


def judge(history: Iterable[StatusEvent]) -> Verdict:
    """The verdict of all status events of one transaction; their order does not matter (design, section 6).

    Of each subject (Workday: an activity; elsewhere the transaction) the last word counts: `received` only where there
    is nothing else; of `confirmed` and `rejected` the later, of two at the same time the rejection. One rejected
    subject rejects the delivery.
    """
    subjects: dict[str | None, list[StatusEvent]] = {}
    for event in history:
        if event.platform_status is not None:
            subjects.setdefault(event.activity_id, []).append(event)
    if not subjects:
        return Verdict()
    last_words = [
        max(
            events,
            key=lambda event: (
                event.platform_status != "received",
                event.occurred_at,
                event.platform_status == "rejected",
                event.id,
            ),
        )
        for events in subjects.values()
    ]
    decisive = max(last_words, key=lambda event: (_RANK[event.platform_status or ""], event.occurred_at, event.id))
    contradicted = any(
        {"confirmed", "rejected"} <= {event.platform_status for event in events} for events in subjects.values()
    )
    return Verdict(decisive.platform_status, decisive.error_message, contradicted)


def apply(verdict: Verdict, row: DeliveryRecord) -> None:
    """Moves a finished delivery: between delivered and rejected the platform decides; dead and cancelled stay."""
    row.platform_status = verdict.status
    row.platform_status_contradicted = verdict.contradicted
    if row.status == "delivered" or row.outcome == "rejected":
        rejected = verdict.status == "rejected"
        row.status = "failed" if rejected else "delivered"
        row.outcome = "rejected" if rejected else "delivered"
        row.error_code = REJECTED_CODE if rejected else None
        row.error_message = verdict.error_message if rejected else None


class MemoryStatusLog:
    """`delivery_log.contract.StatusLog` over a `MemoryState`."""

    def __init__(self, state: MemoryState | None = None) -> None:
        self.state = state or MemoryState()

    async def record_status_events(self, events: Sequence[StatusEvent]) -> list[bool]:
        for event in events:
            check_storable(event.payload)
            for text in (event.event_type, event.transaction_id, event.activity_id, event.error_message):
                check_text(text or "")
        now = self.state.clock()
        answers = []
        for event in events:
            answers.append(event.id not in self.state.status_events)
            self.state.status_events.setdefault(event.id, StatusRecord(event, now))
        return answers

    async def link_status_events(self, limit: int) -> int:
        state = self.state
        members: dict[_Transaction, list[DeliveryRecord]] = {}
        for row in state.deliveries.values():
            if row.transaction_id is not None and not row.unfinished:
                members.setdefault((row.platform, row.transaction_id), []).append(row)
        histories: dict[_Transaction, list[StatusRecord]] = {}
        for record in state.status_events.values():
            transaction = (record.event.platform, record.event.transaction_id or "")
            if transaction in members:
                histories.setdefault(transaction, []).append(record)
        waiting = sorted(
            (
                (record.received_at, transaction)
                for transaction, history in histories.items()
                for record in history
                if record.linked_at is None
            ),
        )
        linked = 0
        for transaction in {transaction for _, transaction in waiting[:limit]}:
            linked += self._link(histories[transaction], members[transaction])
        return linked

    def _link(self, history: Sequence[StatusRecord], rows: Sequence[DeliveryRecord]) -> int:
        now = self.state.clock()
        new = [record for record in history if record.linked_at is None]
        for record in new:
            record.linked_at = now
            record.delivery_id = rows[0].id if len(rows) == 1 else None
        verdict = judge(record.event for record in history)
        for row in rows:
            apply(verdict, row)
            row.updated_at = now
        return len(new)
