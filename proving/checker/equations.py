"""The equations of the guarantees, each a function of the facts that names what breaks it. Sets, not counters.

Where they are weaker than a reader may think: E3 lets a dead delivery have an effect where an attempt of it has an
unknown fate; E4 asks for the same content of a single record only after a request that may have had its effect; E6
allows a request more for each refusal of the credentials.
"""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import msgspec

from impact_in.ledger_check.equations import origin
from proving.checker.expected import Index, Target, amounts, sha256_of
from proving.checker.facts import Coordinates, Facts, Receipt, seconds


class Violation(msgspec.Struct, frozen=True):
    """What breaks an equation, and whose history explains it: an event, a platform of it, or a place on a topic."""

    equation: str
    what: str
    event: UUID | None = None
    platform: str | None = None
    place: Coordinates | None = None


def e1(index: Index) -> Iterator[Violation]:
    """Every record below the committed offset has exactly one visible outcome, and it is the one that it must have."""
    facts = index.facts
    committed = {(p.topic, p.partition): p.committed for p in facts.positions}
    row_at = {row.coordinates: row for row in facts.events if row.coordinates is not None}
    row_of = {row.id: row for row in facts.events}
    dead = {origin(record) for record in facts.metrics_dead}
    there = {record.coordinates for record in facts.metrics}
    for record in facts.metrics:
        place = record.coordinates
        entry = index.published_at.get(place)
        event = None if entry is None or entry.event_id is None else UUID(entry.event_id)
        if entry is None:
            yield Violation("E1", f"{where(place)} holds a record that nobody published", place=place)
            continue
        if entry.value_sha256 != sha256_of(record.value):
            yield Violation("E1", f"{where(place)} holds other bytes than were published", event, place=place)
        if place[2] >= committed.get((place[0], place[1]), 0):
            continue
        must = index.becomes(place)
        elsewhere = event is not None and event in row_of and row_of[event].coordinates != place
        outcomes = [
            name
            for name, found in (
                ("row", place in row_at),
                ("dead letter", place in dead),
                ("duplicate", elsewhere and must == "duplicate"),
                ("tombstone", record.value is None),
            )
            if found
        ]
        if outcomes != [must]:
            found = " and ".join(outcomes) or "nothing"
            yield Violation("E1", f"{where(place)} must become a {must}, and became {found}", event, place=place)
        elif must == "row" and row_at[place].id != event:
            yield Violation("E1", f"{where(place)} became the row of {row_at[place].id}", event, place=place)
    for entry in facts.published:
        if entry.place is not None and entry.place not in there:
            yield Violation("E1", f"{where(entry.place)} was confirmed, and is not on the topic", place=entry.place)


def e2(index: Index) -> Iterator[Violation]:
    """Every expected (event, platform) is finished: delivered, dead, rejected or cancelled; and there is no other."""
    found = Counter((row.event_id, row.platform) for row in index.facts.deliveries)
    for event, platform in index.targets.keys() - found.keys():
        yield Violation("E2", f"{name(index, event)} has no delivery to {platform}", event, platform)
    for event, platform in found.keys() - index.targets.keys():
        yield Violation("E2", f"{name(index, event)} has a delivery to {platform} nobody asked for", event, platform)
    for (event, platform), count in found.items():
        if count > 1:
            yield Violation("E2", f"{name(index, event)} has {count} deliveries to {platform}", event, platform)
    for row in index.facts.deliveries:
        if row.status in ("pending", "retrying"):
            what = f"{name(index, row.event_id)} is still {row.status} for {row.platform}"
            yield Violation("E2", what, row.event_id, row.platform)


def e3(index: Index) -> Iterator[Violation]:
    """The platforms have what was delivered, of the right company, once, to the last decimal, and nothing else."""
    for target, row in index.row.items():
        if row.outcome == "delivered" and not row.mocked and not index.effects(target):
            yield _of("E3", index, target, "is delivered, and had no effect at {platform}")
    for target in index.requests:
        effects = index.effects(target)
        if not effects:
            continue
        why_not = _why_no_effect(index, target)
        if why_not is not None:
            yield _of("E3", index, target, f"had an effect at {{platform}}, and {why_not}")
        yield from _contents(index, target)
    yield from _doubled(index)
    for receipt in index.facts.receipts:
        if receipt.effect and any(part.taken and index.event_of(part) is None for part in receipt.parts):
            yield Violation("E3", f"{request(receipt)} had an effect of an event that nobody published")


def _why_no_effect(index: Index, target: Target) -> str | None:
    row = index.row.get(target)
    if row is None:
        return "the ledger has no such delivery"
    if row.outcome in ("delivered", "rejected") or row.replays:
        return None
    if row.end in ("dead", "cancelled") and any(attempt.unsure for attempt in index.attempts(target)):
        return None
    return f"the ledger says {row.end}"


def _contents(index: Index, target: Target) -> Iterator[Violation]:
    event, platform = target
    entry = index.first[event][1]
    must, organization = amounts(platform, entry.metrics), index.targets.get(target)
    for receipt, part in index.effects(target):
        found: dict[str, Decimal] = {}
        for what, value in part.amounts:
            if value:
                found[what] = found.get(what, Decimal(0)) + value
        for what in sorted(must.keys() | found.keys()):
            one, other = found.get(what, Decimal(0)), must.get(what, Decimal(0))
            if one != other:
                yield _of("E3", index, target, f"has {one} of {what} at {{platform}}, and {other} was published")
        if organization is not None and part.organization != organization:
            what = f"went to {part.organization} at {{platform}}, and belongs to {organization} ({request(receipt)})"
            yield _of("E3", index, target, what)


def _doubled(index: Index) -> Iterator[Violation]:
    """One effect a key where keys are honoured; elsewhere one more for each attempt whose fate nobody knew."""
    honoured = index.facts.conditions.personality == "keys"
    for target in index.requests:
        effects = index.effects(target)
        row = index.row.get(target)
        allowed = 1 + (row.replays if row is not None else 0)
        if not honoured:
            allowed += sum(attempt.unsure for attempt in index.attempts(target))
        if len(effects) > allowed:
            numbers = ", ".join(str(receipt.n) for receipt, _ in effects)
            yield _of("E3", index, target, f"had {len(effects)} effects at {{platform}} (requests {numbers})")


def e4(index: Index) -> Iterator[Violation]:
    """No other content under a key whose earlier request may have had its effect, nor ever under a batch's; the ledger
    knows each content."""
    fixed: dict[tuple[str, str], str] = {}
    for receipt in index.facts.receipts:
        if not receipt.parts:
            continue  # turned away unread
        key = (receipt.platform, receipt.key)
        event, platform = next(iter(index.targets_of_key.get(receipt.key, ())), (None, receipt.platform))
        if fixed.get(key, receipt.body_sha256) != receipt.body_sha256:
            what = f"{request(receipt)} has other content than an earlier one of key {receipt.key}"
            yield Violation("E4", what, event, platform)
        if receipt.effect or not receipt.fate_is_clear or len(receipt.parts) > 1:
            fixed.setdefault(key, receipt.body_sha256)
    for target, seen in index.requests.items():
        hashes = {attempt.payload_hash for attempt in index.attempts(target)}
        for receipt, part in seen:
            if hashes and part is not None and len(receipt.parts) == 1 and receipt.body_sha256 not in hashes:
                yield _of("E4", index, target, f"was sent with content the ledger does not know ({request(receipt)})")
                break


def e5(index: Index) -> Iterator[Violation]:
    """Dead letters are what is dead, each there; what could not be read is there byte for byte, with nothing else."""
    facts = index.facts
    for platform, records in facts.deliveries_dead.items():
        there = {record.headers.get("ii-delivery-id") for record in records}
        rows = {str(row.id): row for row in facts.deliveries if row.platform == platform}
        for row in rows.values():
            if row.outcome == "dead" and str(row.id) not in there:
                yield _of("E5", index, (row.event_id, platform), "is dead for {platform}, and not in its dead letters")
        for identity in there:
            row_of_it = rows.get(str(identity))
            if row_of_it is None:
                yield Violation("E5", f"{platform} has a dead letter of {identity}, which is no delivery of it")
            elif row_of_it.outcome != "dead" and not row_of_it.replays:
                what = f"is in the dead letters of {{platform}}, and the ledger says {row_of_it.end}"
                yield _of("E5", index, (row_of_it.event_id, platform), what)
    bytes_at = {record.coordinates: record.value for record in facts.metrics}
    for record in facts.metrics_dead:
        place = origin(record)
        if place is None or place not in bytes_at:
            yield Violation("E5", f"{where(record.coordinates)} is a dead letter without an origin")
        elif bytes_at[place] != record.value:
            yield Violation("E5", f"the dead letter of {where(place)} has other bytes", place=place)


def e6(index: Index) -> Iterator[Violation]:
    """Attempts begun ≥ requests seen ≥ answers; none after the platform had it, but where nobody could know that."""
    conditions = index.facts.conditions
    last = conditions.last_delay or seconds(conditions.delays[-1])
    most = 1 + len(conditions.delays) + conditions.deadline / last
    for target in index.targets.keys() | index.row.keys() | index.requests.keys():
        attempts, seen = index.attempts(target), index.requests.get(target, [])
        refreshes = sum(receipt.status == 401 for receipt, _ in seen) if target[1] == "workday" else 0
        if len(seen) > len(attempts) + refreshes:
            yield _of(
                "E6", index, target, f"was requested {len(seen)} times at {{platform}} in {len(attempts)} attempts"
            )
        answers = sum(attempt.http_status is not None for attempt in attempts)
        if len(seen) < answers:
            yield _of("E6", index, target, f"has {answers} answers of {{platform}}, which saw {len(seen)} requests")
        counted = sum(attempt.counted for attempt in attempts)
        if counted > most:
            yield _of("E6", index, target, f"counted {counted} attempts at {{platform}}, more than {most:g}")
        yield from _needless(index, target)


def _needless(index: Index, target: Target) -> Iterator[Violation]:
    seen = index.requests.get(target, [])
    begun = next(
        (n for n, (receipt, part) in enumerate(seen) if receipt.effect and part is not None and part.taken), None
    )
    if begun is None:
        return
    row = index.row.get(target)
    if row is not None and row.replays:
        return
    again, unsure = len(seen) - begun - 1, sum(attempt.unsure for attempt in index.attempts(target))
    if again > unsure:
        what = f"was requested {again} times more after {{platform}} had it, with {unsure} attempts of unknown fate"
        yield _of("E6", index, target, what)


def e9(index: Index) -> Iterator[Violation]:
    """Committed offset = end offset on every partition, retry topics too."""
    for p in index.facts.positions:
        if p.committed != p.end:
            yield Violation("E9", f"{p.group} is at {p.committed} of {p.end} in {p.topic}[{p.partition}]")


def strict(facts: Facts) -> Iterator[Violation]:
    """What the platforms refused as against their contract: none of it may ever be sent."""
    for receipt in facts.receipts:
        if receipt.violation is not None:
            yield Violation("format", f"{request(receipt)}: {receipt.violation}", platform=receipt.platform)


def where(place: Coordinates) -> str:
    return f"{place[0]}[{place[1]}]@{place[2]}"


def request(receipt: Receipt) -> str:
    return f"{receipt.platform} request {receipt.n}"


def name(index: Index, event: UUID) -> str:
    found = index.first.get(event)
    return f"event {event}" + (f" ({found[1].label})" if found is not None else " (which nobody published)")


def _of(equation: str, index: Index, target: Target, what: str) -> Violation:
    event, platform = target
    return Violation(equation, f"{name(index, event)} {what.format(platform=platform)}", event, platform)
