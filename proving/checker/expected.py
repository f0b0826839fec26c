"""What should have become of what was published: worked out from the publisher's log by a table of the contract.

It shares no code with the connectors, whose bodies it judges.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import cached_property
from hashlib import sha256
from typing import Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from proving.checker.facts import Attempt, Coordinates, Delivery, Facts, Part, Published, Receipt

Becomes = Literal["row", "duplicate", "dead letter", "tombstone"]
Target = tuple[UUID, str]
"""An event, for one platform."""

_OURS = uuid5(NAMESPACE_URL, "impact-in")
_ONE = Decimal(1)
# platform → metric → (the witness's name for it, factor); contract, section 4.
_AMOUNTS: dict[str, dict[str, tuple[str, Decimal]]] = {
    "benevity": {
        "volunteer_hours": ("volunteer_hours", _ONE),
        "participants": ("participant_count", _ONE),
        "volunteers": ("program_participation", _ONE),
        "integration_score": ("outcome_score/integration", _ONE),
    },
    "goodera": {
        "volunteer_hours": ("volunteer_hours", _ONE),
        "participants": ("program_reach", _ONE),
        "volunteers": ("volunteer_engagement", _ONE),
        "sessions": ("session_count", _ONE),
        "integration_score": ("integration_outcome", Decimal(100)),
    },
    "workday": {
        "volunteer_hours": ("volunteer/volunteerHours", _ONE),
        "volunteers": ("volunteer/participantCount", _ONE),
        "sessions": ("mentorship/volunteerHours", Decimal("1.5")),
        "participants": ("enrollmentCount", _ONE),
    },
}
# Workday's `volunteers` have a place only beside hours.
_UNDERSTOOD = {name: frozenset(table) for name, table in _AMOUNTS.items()}
_UNDERSTOOD["workday"] -= {"volunteers"}


def delivery_id(event: UUID, platform: str) -> UUID:
    """Contract, section 6."""
    return uuid5(_OURS, f"{event}:{platform}")


def first_key(event: UUID, platform: str) -> str:
    """The `Idempotency-Key` of a delivery that nobody replayed and no batch carries (design, section 4)."""
    return str(uuid5(delivery_id(event, platform), "0"))


def batch_key(batch: UUID) -> str:
    return str(uuid5(batch, "0"))


def amounts(platform: str, metrics: Iterable[tuple[str, str]]) -> dict[str, Decimal]:
    """What a platform is to receive of an event, by the witness's names; without zeros."""
    found: Counter[str] = Counter()
    total: dict[str, Decimal] = defaultdict(Decimal)
    for metric, value in metrics:
        if metric in _AMOUNTS[platform]:
            name, factor = _AMOUNTS[platform][metric]
            total[name] += Decimal(value) * factor
            found[name] += 1
    return {name: value for name, value in total.items() if value}


class Index:
    """The facts with everything looked up once. Lookups give empty results, never errors."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    @cached_property
    def published_at(self) -> dict[Coordinates, Published]:
        """Place → log entry. One that nobody confirmed is found by its key and bytes among what the log lacks."""
        known = {entry.place: entry for entry in self.facts.published if entry.place is not None}
        lost: dict[tuple[str | None, str | None], list[Published]] = defaultdict(list)
        for entry in self.facts.published:
            if entry.place is None:
                lost[entry.key, entry.value_sha256].append(entry)
        for record in self.facts.metrics if lost else ():
            key = None if record.key is None else record.key.decode(errors="replace")
            if record.coordinates not in known and (same := lost.get((key, sha256_of(record.value)))):
                known[record.coordinates] = same[0]
        return known

    @cached_property
    def first(self) -> dict[UUID, tuple[Coordinates, Published]]:
        """Event → where it stands first, and what it says there. One company's records are all in one partition."""
        found: dict[UUID, tuple[Coordinates, Published]] = {}
        for place, entry in sorted(self.published_at.items(), key=lambda item: item[0]):
            if entry.event_id is not None:
                found.setdefault(UUID(entry.event_id), (place, entry))
        return found

    def becomes(self, place: Coordinates) -> Becomes | None:
        """What a record at this place has to become; None: nobody published it."""
        entry = self.published_at.get(place)
        if entry is None:
            return None
        if entry.kind == "tombstone":
            return "tombstone"
        if entry.event_id is None:
            return "dead letter"
        where, first = self.first[UUID(entry.event_id)]
        if where == place:
            return "row"
        return "duplicate" if entry.content_sha256 == first.content_sha256 else "dead letter"

    @cached_property
    def targets(self) -> dict[Target, str]:
        """Every (event, platform) that must be delivered → the organization there."""
        found: dict[Target, str] = {}
        for event, (_, entry) in self.first.items():
            for platform in self.facts.conditions.platforms:
                organization = self.facts.companies.get((UUID(entry.company), platform)) if entry.company else None
                asked = entry.platforms is None or platform in entry.platforms
                understood = any(name in _UNDERSTOOD[platform] for name, _ in entry.metrics)
                if organization is not None and asked and understood:
                    found[event, platform] = organization
        return found

    @cached_property
    def event_of_label(self) -> dict[str, UUID]:
        return {entry.label: event for event, (_, entry) in self.first.items() if entry.label is not None}

    @cached_property
    def row(self) -> dict[Target, Delivery]:
        return {(row.event_id, row.platform): row for row in self.facts.deliveries}

    @cached_property
    def _attempts(self) -> dict[UUID, list[Attempt]]:
        found: dict[UUID, list[Attempt]] = defaultdict(list)
        for attempt in self.facts.attempts:
            found[attempt.delivery_id].append(attempt)
        return found

    def attempts(self, target: Target) -> Sequence[Attempt]:
        row = self.row.get(target)
        return () if row is None else sorted(self._attempts.get(row.id, ()), key=lambda attempt: attempt.attempt)

    @cached_property
    def targets_of_key(self) -> dict[str, list[Target]]:
        """Key → whom it was used for: as the ledger says, and as anybody can compute."""
        found: dict[str, list[Target]] = defaultdict(list)
        of_delivery = {row.id: target for target, row in self.row.items()}
        for attempt in self.facts.attempts:
            key = batch_key(attempt.batch_id) if attempt.batch_id else attempt.idempotency_key
            target = of_delivery.get(attempt.delivery_id)
            if key is not None and target is not None and target not in found[key]:
                found[key].append(target)
        for target in self.targets.keys() | self.row.keys():
            key = first_key(*target)
            if not found[key]:
                found[key].append(target)
        return found

    @cached_property
    def requests(self) -> dict[Target, list[tuple[Receipt, Part | None]]]:
        """What the witness saw of each (event, platform), in its order: by what the body says; by the key where the
        witness did not read it. Targets that nobody asked for are among them."""
        found: dict[Target, list[tuple[Receipt, Part | None]]] = defaultdict(list)
        for receipt in self.facts.receipts:
            named = [(part, event) for part in receipt.parts if (event := self.event_of(part)) is not None]
            for part, event in named:
                found[event, receipt.platform].append((receipt, part))
            if not named:
                for target in self.targets_of_key.get(receipt.key, ()):
                    if target[1] == receipt.platform:
                        found[target].append((receipt, None))
        return found

    def event_of(self, part: Part) -> UUID | None:
        return next((self.event_of_label[ref] for ref in part.refs if ref in self.event_of_label), None)

    def effects(self, target: Target) -> list[tuple[Receipt, Part]]:
        seen = self.requests.get(target, ())
        return [(receipt, part) for receipt, part in seen if receipt.effect and part is not None and part.taken]


def sha256_of(value: bytes | None) -> str | None:
    return None if value is None else sha256(value).hexdigest()
