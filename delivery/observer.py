"""What the heart tells whoever watches: values, one method. Metrics, spans and log lines hang there, not here."""

from typing import Protocol
from uuid import UUID

import msgspec

from connectors.contract import Outcome
from delivery_log.contract import SweepReason


class EventConsumed(msgspec.Struct, frozen=True):
    """So many records of one batch. `result`: accepted, unrouted, redelivered, duplicate, tombstone, or the kind of
    what could not be read."""

    result: str
    count: int = 1


class RecordSkipped(msgspec.Struct, frozen=True):
    """A delivery request that led to no attempt; `verdict` is the ledger's, in lower case."""

    platform: str
    delivery_id: UUID | None
    verdict: str


class AttemptMade(msgspec.Struct, frozen=True, kw_only=True):
    """One request and what came of it. `decision`: delivered, later, dead; halved: it goes
    on in a smaller batch. `waited`: seconds from publication of the
    event's first record to the answer, where known."""

    platform: str
    delivery_id: UUID
    event_id: UUID
    company_id: UUID
    attempt: int
    outcome: Outcome
    duration: float
    counted: bool
    decision: str
    delay: float
    idempotency_key: UUID
    traceparent: str
    applied: bool
    waited: float | None


class RequestMade(msgspec.Struct, frozen=True):
    """A request to a platform that takes several deliveries in one, and how many were in it."""

    platform: str
    deliveries: int


class DeadLettered(msgspec.Struct, frozen=True):
    platform: str | None
    """None: a record of impact.metrics that was no event."""
    error: str
    given_up: bool = False
    """A delivery ended by it without another attempt, which would have told of its end."""


class Swept(msgspec.Struct, frozen=True):
    platform: str
    delivery_id: UUID
    reason: SweepReason


class QuotaWaited(msgspec.Struct, frozen=True):
    """A request was granted after its turn had come: it waited so many seconds for the quota."""

    platform: str
    seconds: float


class RetriesForwarded(msgspec.Struct, frozen=True):
    """Records of a retry topic are back on the platform's topic, confirmed; how many seconds after each was due."""

    platform: str
    late: tuple[float, ...]


class Trouble(msgspec.Struct, frozen=True):
    """Something the heart waits out (a server away) or survived (a defect). `where` is a bounded word; `detail` has
    no content and no secret."""

    where: str
    detail: str


Happening = (
    EventConsumed
    | RecordSkipped
    | AttemptMade
    | RequestMade
    | DeadLettered
    | Swept
    | QuotaWaited
    | RetriesForwarded
    | Trouble
)


class Observer(Protocol):
    def notice(self, happening: Happening) -> None:
        """Quick, and never raises."""
        ...


class NullObserver:
    def notice(self, happening: Happening) -> None:
        return None
