"""One attempt: the claim, the verdict on it, and what it ended with."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from delivery_log.contract.arrivals import Request


class Owner(msgspec.Struct, frozen=True):
    """Who holds a lease: a static member name, and the number of that process's start."""

    name: str
    epoch: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A record that wants to go, and what its worker believes of it."""

    delivery_id: UUID
    hop: int
    content_hash: str
    organization_id: str
    generation: int
    payload_hash: str
    payload_sample: str
    """JSON text: the body's shape, keys and types without values, at most 1 KiB."""
    batch_id: UUID | None = None
    """A new batch that it may go in: with the others of the call that name it."""


class Go(msgspec.Struct, frozen=True, kw_only=True):
    """Leased: send now, as this attempt. Durations are seconds."""

    attempt: int
    counted: int
    """Attempts counted before this one."""
    idempotency_key: UUID
    replays: int
    failing_for: float | None
    """Since the first counted failure; None before it."""
    to_deadline: float | None
    """Until the deadline, negative after it; None before the first counted failure. It stands still while the
    platform or the organization is held."""
    uncertain: bool
    """An earlier attempt may have had its effect."""
    batch_id: UUID | None = None
    """Sealed in it: it goes in one request with all others of this id, in the order of their ids."""


class Unknown(msgspec.Struct, frozen=True):
    """No such row."""


class Mismatch(msgspec.Struct, frozen=True):
    """The record's event is not the one that the row was made for."""


class AlreadyDone(msgspec.Struct, frozen=True):
    """Delivered, dead or rejected already."""


class Cancelled(msgspec.Struct, frozen=True):
    """An operator ended it: outcome `cancelled`, or `failed` without an outcome (the runbook's bulk cancel)."""


class Stale(msgspec.Struct, frozen=True):
    """The record's hop is not the row's: another record lives."""


class Leased(msgspec.Struct, frozen=True):
    """Somebody is at it, for this many seconds at most."""

    remaining: float


class Sealed(msgspec.Struct, frozen=True):
    """A member of a batch that has to go again as it was: load it and begin it whole (`begin_sealed`)."""

    batch_id: UUID


class NotYet(msgspec.Struct, frozen=True):
    """Its time comes in this many seconds. Where that is more than one, the row waits in the ledger: ack the record."""

    remaining: float


class Blocked(msgspec.Struct, frozen=True):
    """An elder sibling is unfinished; the row waits in the ledger and is woken by the elder's end."""


class Changed(msgspec.Struct, frozen=True):
    """The worker's belief is old: build the body anew from these and claim again."""

    organization_id: str
    generation: int


class Unrepeatable(msgspec.Struct, frozen=True):
    """An earlier attempt may have had its effect, and this one could not be told from a second delivery: the content
    is another now, or the platform has forgotten the key. Only an operator sends it again."""

    reason: Literal["content_changed", "key_forgotten"]
    attempts: int
    counted: int


class Limited(msgspec.Struct, frozen=True):
    """It goes with at most so many in a request, itself among them: a larger batch with it was refused as a whole, or
    (1) it may have had its effect alone, under its own key."""

    most: int


Verdict = (
    Go
    | Unknown
    | Mismatch
    | AlreadyDone
    | Cancelled
    | Stale
    | Leased
    | Sealed
    | NotYet
    | Blocked
    | Changed
    | Unrepeatable
    | Limited
)

AttemptOutcome = Literal[
    "accepted",
    "refused",
    "throttled",
    "unavailable",
    "credentials_rejected",
    "forbidden",
    "uncertain",
    "unknown_outcome",
]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt ended with, and what its worker decided. `attempt` 0: none was made (an `Unrepeatable`)."""

    delivery_id: UUID
    attempt: int
    outcome: AttemptOutcome
    counted: bool
    then: Literal["delivered", "later", "dead"]
    delay: float = 0.0
    """Seconds until the next attempt, where `then` is `later`."""
    fate_known: bool = True
    """False where the platform may have applied the effect although this attempt failed."""
    started_at: datetime | None = None
    duration_ms: float | None = None
    http_status: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    transaction_id: str | None = None
    mocked: bool = False
    batch_id: UUID | None = None
    """The batch that was sent: its results are written together or not at all."""
    leaves: bool = False
    """The row leaves its batch. Only where no unfinished member stays in it: a batch never changes."""
    batch_limit: int | None = None
    """The row goes with at most so many from now on."""
    settles: bool = False
    """This answer tells the fate of the earlier attempts too."""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What the row says now. `applied` False: another attempt, an operator or an acceptance had the last word."""

    applied: bool
    status: str
    outcome: str | None
    hop: int
    woken: tuple[Request, ...] = ()
    """Siblings that this outcome unblocks, in order, to be published."""


class Parked(msgspec.Struct, frozen=True):
    """A record that shall not wait in memory. `delay`: seconds until its time; 0: an elder's end is enough.
    `organization_id`: the forbidden organization behind which it waits, `""` for none."""

    delivery_id: UUID
    hop: int
    delay: float = 0.0
    organization_id: str = ""


class Busy(msgspec.Struct, frozen=True):
    """Somebody else has the row locked; nothing was written of this result. Finish it again in a moment."""
