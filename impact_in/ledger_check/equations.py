"""The equations, each a function that names what breaks it. Sets, not counters."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from uuid import UUID

import msgspec

from impact_in.ledger_check.facts import Coordinates, DeliveryFact, EventFact, GroupPosition, StoredRecord
from schemas import ImpactMetricEvent, content_hash, decode, headers
from schemas.event import to_avro


class Violation(msgspec.Struct, frozen=True):
    """One record, row or key that breaks an equation."""

    equation: str
    what: str


def e1_every_committed_record_has_one_visible_outcome(
    records: Iterable[StoredRecord],
    positions: Iterable[GroupPosition],
    events: Mapping[UUID, EventFact],
    dead: Iterable[StoredRecord],
) -> list[Violation]:
    """Below the committed offset: an event row's coordinates, an origin in the dead-letter topic, a value whose id has
    a row from other coordinates with the same hash, or null; exactly one of these."""
    committed = {(position.topic, position.partition): position.committed for position in positions}
    coordinates = {event.coordinates for event in events.values()}
    origins = {origin(record) for record in dead}
    violations = []
    for record in records:
        if record.offset >= committed.get((record.topic, record.partition), 0):
            continue
        outcomes = [
            record.coordinates in coordinates,
            record.coordinates in origins,
            _is_duplicate(record, events),
            record.value is None,
        ]
        if sum(outcomes) != 1:
            violations.append(Violation("E1", f"{_place(record.coordinates)} has {sum(outcomes)} outcomes"))
    return violations


def e2_every_expected_delivery_is_finished(
    expected: Iterable[tuple[UUID, str]], deliveries: Sequence[DeliveryFact]
) -> list[Violation]:
    """Expected (event, platform) = delivered + dead + rejected + cancelled; nothing pending or retrying."""
    wanted = set(expected)
    found = Counter((delivery.event_id, delivery.platform) for delivery in deliveries)
    violations = [
        Violation("E2", f"{event} has no delivery to {platform}") for event, platform in wanted - found.keys()
    ]
    violations += [
        Violation("E2", f"{event} has a delivery to {p} nobody asked for") for event, p in found.keys() - wanted
    ]
    violations += [Violation("E2", f"{key} has {count} deliveries") for key, count in found.items() if count > 1]
    for delivery in deliveries:
        finished = delivery.outcome is not None or delivery.status == "failed"
        if not finished or delivery.status in ("pending", "retrying"):
            violations.append(Violation("E2", f"delivery {delivery.id} is {delivery.status}"))
    return violations


def e3_effects_are_what_was_delivered(
    platform: str,
    deliveries: Iterable[DeliveryFact],
    effects: Mapping[str, int],
    sums: Mapping[str, Decimal],
    expected_sums: Mapping[str, Decimal],
) -> list[Violation]:
    """Delivered and not mocked ⊆ keys with an effect ⊆ those, the rejected, and the dead with an unknown outcome; one
    effect a key; amounts sum exactly. `effects`: key → how often the platform applied it. `expected_sums`: of the
    events whose keys have an effect."""
    mine = [delivery for delivery in deliveries if delivery.platform == platform]
    delivered = {d.idempotency_key for d in mine if d.status == "delivered" and not d.mocked}
    may_have = delivered | {d.idempotency_key for d in mine if d.outcome == "rejected" or d.replays}
    may_have |= {d.idempotency_key for d in mine if d.outcome == "dead" and d.uncertain}
    with_effect = {key for key, count in effects.items() if count}
    violations = [
        Violation("E3", f"{platform} has no effect of delivered key {key}") for key in delivered - with_effect
    ]
    violations += [Violation("E3", f"{platform} has an effect of key {key}") for key in with_effect - may_have]
    violations += [Violation("E3", f"{platform} applied key {key} {n} times") for key, n in effects.items() if n > 1]
    for name in sums.keys() | expected_sums.keys():
        there, here = sums.get(name, Decimal(0)), expected_sums.get(name, Decimal(0))
        if there != here:
            violations.append(Violation("E3", f"{platform} has {there} of {name}, and {here} was sent"))
    return violations


def e5_dead_letters_are_what_could_not_be_done(
    deliveries: Iterable[DeliveryFact],
    dead_deliveries: Mapping[str, Sequence[StoredRecord]],
    metrics: Iterable[StoredRecord],
    dead_metrics: Sequence[StoredRecord],
) -> list[Violation]:
    """Dead letters = distinct origins less the replayed; the poison's bytes are those that were published."""
    violations = []
    rows = list(deliveries)
    for platform, records in dead_deliveries.items():
        there = {record.headers.get(headers.DELIVERY_ID) for record in records}
        dead = {str(row.id) for row in rows if row.platform == platform and row.outcome == "dead"}
        replayed = {str(row.id) for row in rows if row.platform == platform and row.replays}
        violations += [Violation("E5", f"dead delivery {row} is not in the dead letters") for row in dead - there]
        violations += [
            Violation("E5", f"dead letter of {row}, which is not dead") for row in there - dead - replayed - {None}
        ]
    published = {record.coordinates: record.value for record in metrics}
    for record in dead_metrics:
        place = origin(record)
        if place not in published:
            violations.append(Violation("E5", f"dead letter without an origin at offset {record.offset}"))
        elif published[place] != record.value:
            violations.append(Violation("E5", f"dead letter of {_place(place)} has other bytes"))
    return violations


def e9_everything_is_committed(positions: Iterable[GroupPosition]) -> list[Violation]:
    """Committed offset = end offset on every partition, retry topics too."""
    return [
        Violation("E9", f"{p.group} is at {p.committed} of {p.end} in {p.topic}[{p.partition}]")
        for p in positions
        if p.committed != p.end
    ]


def origin(record: StoredRecord) -> Coordinates | None:
    """Where a dead letter's record stood."""
    try:
        return (
            record.headers[headers.ORIGINAL_TOPIC],
            int(record.headers[headers.ORIGINAL_PARTITION]),
            int(record.headers[headers.ORIGINAL_OFFSET]),
        )
    except (KeyError, ValueError):
        return None


def _is_duplicate(record: StoredRecord, events: Mapping[UUID, EventFact]) -> bool:
    event = decode(record.value) if record.value else None
    if not isinstance(event, ImpactMetricEvent):
        return False
    known = events.get(event.event_id)
    same = known is not None and known.content_hash == content_hash(to_avro(event))
    return same and known is not None and known.coordinates != record.coordinates


def _place(coordinates: Coordinates | None) -> str:
    return "nowhere" if coordinates is None else f"{coordinates[0]}[{coordinates[1]}]@{coordinates[2]}"
