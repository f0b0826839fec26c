"""A record's whole life, for whoever has to find out what went wrong: published where, rows, attempts, receipts."""

from collections.abc import Iterator
from uuid import UUID

from impact_in.ledger_check.equations import origin
from proving.checker.equations import Violation, where
from proving.checker.expected import Index


def history(index: Index, violation: Violation) -> list[str]:
    lines: list[str] = []
    if violation.place is not None:
        lines += _of_place(index, violation)
    if violation.event is not None:
        lines += _of_event(index, violation.event, violation.platform)
    return lines


def _of_place(index: Index, violation: Violation) -> Iterator[str]:
    place = violation.place
    assert place is not None
    entry = index.published_at.get(place)
    if entry is not None and entry.event_id is None:
        yield f"published  #{entry.n} {entry.at} {entry.kind}, key {entry.key}, sha256 {entry.value_sha256}"
    for record in index.facts.metrics_dead:
        if origin(record) == place:
            kind = record.headers.get("ii-error-kind")
            yield f"dead letter {where(record.coordinates)} of {where(place)}: {kind}"


def _of_event(index: Index, event: UUID, platform: str | None) -> Iterator[str]:
    for entry in index.facts.published:
        if entry.event_id == str(event):
            place = "not confirmed" if entry.place is None else f"at {where(entry.place)}"
            yield f"published  #{entry.n} {entry.at} {entry.kind}, {entry.encoding}, {place}, company {entry.company}"
    for row in index.facts.events:
        if row.id == event:
            place = "HTTP" if row.coordinates is None else where(row.coordinates)
            yield f"event row  {row.disposition}{f' ({row.reason})' if row.reason else ''} from {place}"
    for delivery in index.facts.deliveries:
        if delivery.event_id != event or platform not in (None, delivery.platform):
            continue
        yield (
            f"delivery   {delivery.platform} {delivery.id} seq {delivery.seq}: {delivery.end}"
            f"{f' ({delivery.error_code})' if delivery.error_code else ''}, key {delivery.idempotency_key}"
        )
        for attempt in index.attempts((event, delivery.platform)):
            yield (
                f"  attempt {attempt.attempt} {attempt.started_at.isoformat(timespec='milliseconds')} "
                f"{attempt.outcome} (HTTP {attempt.http_status}{', counted' if attempt.counted else ''}"
                f"{f', {attempt.error_code}' if attempt.error_code else ''})"
            )
    for (seen, where_to), requests in index.requests.items():
        if seen != event or platform not in (None, where_to):
            continue
        for receipt, part in requests:
            effect = "effect" if receipt.effect and part is not None and part.taken else "no effect"
            fault = f", fault {receipt.fault}" if receipt.fault else ""
            answer = f"answered {receipt.status}" if receipt.status else "not answered"
            yield f"  receipt {where_to} {receipt.n} {receipt.at} {effect}, {answer}{fault}, key {receipt.key}"
