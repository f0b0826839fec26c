"""What the ledger promises, for the author of another backend.

The ledger is the one place that decides whether a delivery may go, and the one memory of what became of it. Each
method is one statement: it happens whole or not at all, it may be repeated after a lost reply (a token makes the
repetition answer alike), and what it answered is durable. Two callers never both get `Go` for one delivery.

Answers come in the order of the questions. Times are the ledger's own clock: callers get durations in seconds, never
a time to compare with their own.

Errors: `LedgerUnavailable` when the ledger cannot be reached or cannot write; nothing has happened then, or it will
be found to have happened when the call is repeated. No other exception of a driver leaves a backend.

Terms: a *hop* is the number of the one live record of a delivery; whatever decides that a record shall exist raises
it in the same statement, so that doubled records are `Stale`. A *generation* names content and idempotency key; only
a replay raises it. `docs/flow.md` draws the way.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

import msgspec


class LedgerUnavailable(Exception):
    """The ledger is out of reach or read-only; the message names neither address nor secret."""


# ---------------------------------------------------------------- values


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery request as it is to be published: all that a record on `impact.deliveries.{platform}` carries."""

    delivery_id: UUID
    event_id: UUID
    company_id: UUID
    platform: str
    hop: int
    body: bytes
    """The event's canonical Avro body."""
    traceparent: str
    attempt: int = 0
    replays: int = 0
    origin: "Origin | None" = None


class Origin(msgspec.Struct, frozen=True):
    """Where on Kafka the event came in; nowhere for one that came by HTTP."""

    topic: str
    partition: int
    offset: int


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """A readable event with its way in."""

    event_id: UUID
    company_id: UUID
    content_hash: str
    body: bytes
    traceparent: str
    platforms: tuple[str, ...]
    """Those that may get it: enabled here, asked for by the event, and with a place for one of its metrics."""
    origin: Origin | None = None


Recording = Literal["accepted", "unrouted", "redelivered", "duplicate", "conflict"]
"""What an arrival is: new; new without a platform; the same record read again; the same event elsewhere; the same
id with other content."""


class Recorded(msgspec.Struct, frozen=True):
    """`requests` are to be published before the arrival is acked: of a new event all, of a known one the unfinished."""

    recording: Recording
    requests: tuple[Request, ...] = ()
    reason: str | None = None


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


Verdict = Go | Unknown | Mismatch | AlreadyDone | Cancelled | Stale | Leased | NotYet | Blocked | Changed | Unrepeatable

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


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What the row says now. `applied` False: another attempt, an operator or an acceptance had the last word."""

    applied: bool
    status: str
    outcome: str | None
    hop: int
    woken: tuple[Request, ...] = ()
    """Siblings that this outcome unblocks, in order, to be published."""


class Parked(msgspec.Struct, frozen=True):
    """A record that shall not wait in memory. `delay`: seconds until its time; 0: an elder's end is enough."""

    delivery_id: UUID
    hop: int
    delay: float = 0.0


class Busy(msgspec.Struct, frozen=True):
    """Somebody else has the row locked; nothing was written of this result. Finish it again in a moment."""


SweepReason = Literal["lease_ended", "unpublished", "woken", "missing", "unannounced"]


class Swept(msgspec.Struct, frozen=True):
    """`unannounced`: a dead delivery whose dead letter no broker has confirmed; `error_…` say why it is dead."""

    request: Request
    reason: SweepReason
    error_code: str | None = None
    error_message: str | None = None
    last_outcome: str | None = None
    """Of its last attempt."""


class ReadUpTo(msgspec.Struct, frozen=True, kw_only=True):
    """Records of this platform that waited `delay` seconds in a retry topic (0: none) and were published more than
    `age` seconds ago have been worked off."""

    platform: str
    delay: float
    age: float


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One partition's reading, `age` seconds ago by the ledger's clock: nothing older is still waiting in it."""

    topic: str
    partition: int
    age: float


HoldReason = Literal["paused", "breaker", "credentials", "forbidden", "throttled"]


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker holds, and since how many seconds. `id` stays the same while the hold lasts."""

    id: UUID
    platform: str
    organization_id: str | None
    """None: the whole platform."""
    reason: HoldReason
    age: float


class HeldNow(msgspec.Struct, frozen=True, kw_only=True):
    """A hold that some worker has renewed lately."""

    platform: str
    organization_id: str | None
    reason: HoldReason
    owner: str
    age: float


class PlatformControl(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator set for a platform. A limit: requests; 0 is none, None is as the platform has it."""

    paused: bool = False
    per_second: int | None = None
    per_minute: int | None = None
    per_day: int | None = None


class CompanyPlatform(msgspec.Struct, frozen=True, kw_only=True):
    """Where a company's numbers go on one platform."""

    company_id: UUID
    platform: str
    organization_id: str
    enabled: bool = True


# ---------------------------------------------------------------- contracts


class DeliveryLedger(Protocol):
    """Events in, deliveries out: what the heart needs."""

    async def identity(self) -> str:
        """A name that no other ledger has; part of the name of every fast memory of it."""
        ...

    async def next_epoch(self) -> int:
        """A number above every one given before."""
        ...

    async def record_events(self, arrivals: Sequence[Arrival]) -> list[Recorded]:
        """Writes events, and the deliveries that their companies' platforms ask for, or finds them written.

        Of several arrivals with one event id the first that was ever recorded wins. An event already there gets no new
        deliveries. The order of new deliveries of a company is the order of the arrivals: keep one call in the air a
        partition.
        """
        ...

    async def confirm_published(self, records: Sequence[tuple[UUID, int]]) -> None:
        """A broker has confirmed these (delivery id, hop), on whichever topic the hop belongs to."""
        ...

    async def begin(
        self,
        claims: Sequence[Claim],
        *,
        owner: Owner,
        lease: float,
        ordered: bool,
        key_memory: float,
        token: UUID | None = None,
    ) -> list[Verdict]:
        """Leases what may go, under a new attempt number. Seconds.

        First match decides: Unknown, Mismatch, AlreadyDone, Cancelled, Stale, Leased, NotYet, Blocked (only where
        `ordered`), Changed, Unrepeatable, Go. A lease of the same owner name and a smaller epoch is taken over. An
        attempt that never got an outcome is written down as `unknown_outcome`. No two claims for one delivery a call.
        A row that somebody has locked is `Leased` for a moment. `token`: the same at a repetition of the same call.
        """
        ...

    async def finish(
        self,
        results: Sequence[Result],
        *,
        owner: Owner,
        deadline: float,
        ordered: bool,
        token: UUID | None = None,
    ) -> list[Finished | Busy]:
        """Writes outcomes and attempts, and gives the leases back.

        Accepted is written whichever attempt it belongs to, and nothing undoes it; anything else only where the
        attempt is the last one and the lease is the owner's. The first counted failure starts the deadline (seconds).
        `later` and `dead` raise the hop: a record shall exist, on a retry topic or the dead-letter topic. `token`: the
        same at a repetition of the same call.
        """
        ...

    async def park(self, waiting: Sequence[Parked]) -> None:
        """These rows wait in the ledger from now on, their records may be acked: an elder sibling's end wakes them, or
        the sweeper when their time has come. Only a row of that hop, unfinished and not leased."""
        ...

    async def release_leases(self, owner: Owner) -> int:
        """Ends the leases of this owner's earlier processes; how many there were."""
        ...

    async def report_progress(self, progress: Sequence[Progress]) -> None: ...

    async def read_progress(self, topics: Sequence[str], *, within: float) -> dict[tuple[str, int], float]:
        """(topic, partition) → age in seconds now, of what was reported in the last `within` seconds."""
        ...

    async def sweep(
        self, read_up_to: Sequence[ReadUpTo], *, ordered: Sequence[str], grace: float, limit: int
    ) -> list[Swept]:
        """Raises the hop of rows that no longer move, and returns them to be published.

        Unfinished, due, and: its lease over (`lease_ended`), unconfirmed for `grace` seconds (`unpublished`), its elder
        gone (`woken`), or its record worked off without a trace, or put where nobody reads (`missing`). Dead, and its
        dead letter unconfirmed for `grace` seconds (`unannounced`). Only platforms named in `read_up_to`.
        """
        ...


class PlatformLog(Protocol):
    """What operators set for platforms, and what workers hold: both read each second."""

    async def controls(self) -> dict[str, PlatformControl]:
        """By platform; absent where nothing was ever set."""
        ...

    async def set_control(self, platform: str, changes: Mapping[str, bool | int | None]) -> None:
        """Some of `PlatformControl`'s fields, by name; None goes back to what the platform has."""
        ...

    async def report_holds(self, holds: Sequence[Hold], *, owner: str) -> None:
        """These are held now. While they last, deadlines of their deliveries stand still (`DeliveryLedger.begin`)."""
        ...

    async def touched(self, platform: str, organizations: Sequence[str], *, within: float) -> list[str]:
        """Those that an operator has set in the last `within` seconds, whether or not anything changed by it."""
        ...

    async def held_now(self, *, within: float = 5.0) -> list[HeldNow]:
        """What was reported in the last `within` seconds."""
        ...


class RequestLog(Protocol):
    """What was sent, as a quota counts it."""

    async def recent_requests(
        self, platform: str, organizations: Sequence[str] | None, *, within: float
    ) -> dict[str, list[float]]:
        """Ages in seconds of the requests of the last `within` seconds, those under way included; by organization, or
        by `""`, our whole account, where `organizations` is None. A batch is one request. The organization is the
        delivery's of today. Ages above ten minutes may be too small by five, never too large."""
        ...


class CompanyRegistry(Protocol):
    async def set_company_platforms(self, entries: Sequence[CompanyPlatform]) -> None:
        """Creates or changes them. Deliveries not yet attempted with an uncertain fate go to the new organization."""
        ...

    async def company_platforms(self, company_id: UUID | None = None) -> list[CompanyPlatform]: ...


class StatusEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A verified webhook. `id` is made of platform and content, so that the same webhook counts once."""

    id: UUID
    platform: str
    event_type: str
    transaction_id: str | None
    activity_id: str | None
    platform_status: Literal["received", "confirmed", "rejected"] | None
    payload: str
    """The body as JSON text, as it came."""
    error_message: str | None
    occurred_at: datetime
    traceparent: str | None = None


class StatusLog(Protocol):
    """Webhooks in, platform statuses out: what the gateway needs."""

    async def record_status_events(self, events: Sequence[StatusEvent]) -> list[bool]:
        """Stores them; durable when it returns. True: new. False: already there.

        Raises ValueError, and has stored none of them, where a text or payload is one that the ledger cannot hold
        (`delivery_log.storable`).
        """
        ...

    async def link_status_events(self, limit: int) -> int:
        """Joins stored events with the finished deliveries whose current transaction they name, and moves
        `platform_status`. Until a delivery has an outcome its statuses wait: what they then say is of that outcome.

        The status is a function of all of a delivery's events, whatever order they came in: `received` only where
        there is nothing else; of `confirmed` and `rejected` the later `occurred_at`, a tie rejects, both seen is
        flagged; for Workday any rejected activity rejects. `rejected` makes the delivery `failed` (outcome `rejected`);
        a later confirmation makes it `delivered` again. Returns how many events were linked.
        """
        ...


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    attempt: int
    started_at: datetime
    duration_ms: float | None
    http_status: int | None
    outcome: str
    counted: bool
    error_code: str | None
    error_message: str | None
    transaction_id: str | None


class StatusRow(msgspec.Struct, frozen=True, kw_only=True):
    event_type: str
    platform_status: str | None
    transaction_id: str | None
    error_message: str | None
    occurred_at: datetime
    received_at: datetime


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as people and the API see it (contract, section 6 and 7)."""

    id: UUID
    event_id: UUID
    company_id: UUID
    platform: str
    organization_id: str
    payload_hash: str | None
    status: str
    outcome: str | None
    mocked: bool
    retries: int
    replays: int
    error_code: str | None
    error_message: str | None
    transaction_id: str | None
    idempotency_key: str | None
    platform_status: str | None
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime
    updated_at: datetime
    trace_id: str | None
    attempts: tuple[AttemptRow, ...] = ()
    status_events: tuple[StatusRow, ...] = ()


class DeliveryFilter(msgspec.Struct, frozen=True, kw_only=True):
    company_id: UUID | None = None
    platform: str | None = None
    status: str | None = None
    error_code: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    items: tuple[DeliveryRow, ...]
    next_cursor: str | None


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How many deliveries of a platform are in a state."""

    platform: str
    status: str
    outcome: str | None
    platform_status: str | None
    count: int


class Inspection(Protocol):
    """Looking, changing nothing."""

    async def deliveries(self, where: DeliveryFilter, *, cursor: str | None, limit: int) -> Page:
        """Newest first; `since` is included, `until` is not. Raises ValueError on a cursor that is none of ours."""
        ...

    async def delivery(self, delivery_id: UUID) -> DeliveryRow | None:
        """With attempts and status events."""
        ...

    async def tallies(self) -> list[Tally]: ...

    async def ping(self) -> None:
        """Raises LedgerUnavailable where it would refuse to write."""
        ...
