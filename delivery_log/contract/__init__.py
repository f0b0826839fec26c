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

from delivery_log.contract.arrivals import (
    Arrival,
    Origin,
    Recorded,
    Recording,
    Request,
)
from delivery_log.contract.attempts import (
    AlreadyDone,
    AttemptOutcome,
    Blocked,
    Busy,
    Cancelled,
    Changed,
    Claim,
    Finished,
    Go,
    Leased,
    Limited,
    Mismatch,
    NotYet,
    Owner,
    Parked,
    Result,
    Sealed,
    Stale,
    Unknown,
    Unrepeatable,
    Verdict,
)
from delivery_log.contract.batches import (
    BatchVerdict,
    Dissolved,
    Resend,
    SealedClaim,
    SealedMember,
)
from delivery_log.contract.engine import (
    DeliveryLedger,
)
from delivery_log.contract.errors import (
    LedgerUnavailable,
)
from delivery_log.contract.inspection import (
    AttemptRow,
    Backlog,
    DeliveryFilter,
    DeliveryRow,
    Inspection,
    Page,
    StatusRow,
    Tally,
)
from delivery_log.contract.platforms import (
    PROBE_SECONDS,
    CompanyPlatform,
    CompanyRegistry,
    HeldNow,
    Hold,
    HoldReason,
    PlatformControl,
    PlatformLog,
    RequestLog,
)
from delivery_log.contract.statuses import (
    StatusEvent,
    StatusLog,
)
from delivery_log.contract.sweeping import (
    Progress,
    ReadUpTo,
    SweepReason,
    Swept,
)

__all__ = [
    "PROBE_SECONDS",
    "AlreadyDone",
    "Arrival",
    "AttemptOutcome",
    "AttemptRow",
    "Backlog",
    "BatchVerdict",
    "Blocked",
    "Busy",
    "Cancelled",
    "Changed",
    "Claim",
    "CompanyPlatform",
    "CompanyRegistry",
    "DeliveryFilter",
    "DeliveryLedger",
    "DeliveryRow",
    "Dissolved",
    "Finished",
    "Go",
    "HeldNow",
    "Hold",
    "HoldReason",
    "Inspection",
    "Leased",
    "LedgerUnavailable",
    "Limited",
    "Mismatch",
    "NotYet",
    "Origin",
    "Owner",
    "Page",
    "Parked",
    "PlatformControl",
    "PlatformLog",
    "Progress",
    "ReadUpTo",
    "Recorded",
    "Recording",
    "Request",
    "RequestLog",
    "Resend",
    "Result",
    "Sealed",
    "SealedClaim",
    "SealedMember",
    "Stale",
    "StatusEvent",
    "StatusLog",
    "StatusRow",
    "SweepReason",
    "Swept",
    "Tally",
    "Unknown",
    "Unrepeatable",
    "Verdict",
]
