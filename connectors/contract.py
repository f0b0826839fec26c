"""What a platform must be able to do, for the author of the next one.

A connector turns an event into a request and the platform's answer into an outcome. It decides nothing: what
follows from an outcome (retry, dead letter, hold) is the heart's business, in one place. It keeps no state that
matters: two workers, or one that restarts, must come to the same request.

Rules that an author has to keep:

- `body` is pure: the same event, organization and generation give the same bytes, today and after a restart. No
  clock, no chance, no counter. The ledger compares hashes, and the platform compares bodies under one key.
- `send` never raises for what a platform or a network did: that is an outcome. An exception that does escape is
  taken as `Uncertain`, because nobody can know whether bytes had left.
- `Accepted` is said only of an answer that was read whole and understood. When in doubt say `Uncertain`: the
  delivery is then sent again under the same `Idempotency-Key`.
- An outcome carries no secret and no content of the event: it is written to tables, topics and logs.
- The request carries `Idempotency-Key` and `traceparent`, has one limit for its whole time, follows no redirect.

Source of all formats: the contract, sections 4 and 5.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from schemas.event import ImpactMetricEvent

Ordering = Literal["keyed", "additive"]


class Shipment(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery as a connector sees it: what to send, for whom, and under which key."""

    delivery_id: UUID
    event: ImpactMetricEvent
    organization_id: str
    generation: int
    body: bytes
    idempotency_key: UUID
    traceparent: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What every outcome may tell of the platform's answer. `error_message` is at most 1 KiB, free of content."""

    http_status: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    transaction_id: str | None = None


class Accepted(Answer, frozen=True, kw_only=True):
    """The platform has it (2xx, understood), or had it already."""


class Refused(Answer, frozen=True, kw_only=True):
    """Never as it stands: a final 4xx, or 2xx with `"success": false`. `whole`: said of several shipments together, so
    that one of them may be to blame."""

    whole: bool = False


class Throttled(Answer, frozen=True, kw_only=True):
    """429: too much at once. `after`: seconds to wait, where the platform said so (0 to 3600)."""

    after: float | None = None


class Unavailable(Answer, frozen=True, kw_only=True):
    """Nothing was sent (refused connection, DNS, TLS), or the platform answered 408, 425 or 5xx whole.

    `fate_known` is False for 5xx and 408: the platform may have applied the effect before it failed.
    """

    after: float | None = None
    fate_known: bool = False


class CredentialsRejected(Answer, frozen=True, kw_only=True):
    """401, after one refresh of the token where there is one."""


class Forbidden(Answer, frozen=True, kw_only=True):
    """403: these credentials may not act for this organization."""


class Uncertain(Answer, frozen=True, kw_only=True):
    """Sent, and no complete answer that can be understood: it may have had its effect."""


Outcome = Accepted | Refused | Throttled | Unavailable | CredentialsRejected | Forbidden | Uncertain


class PlatformStatus(StrEnum):
    """What a platform's webhook says of a delivery."""

    RECEIVED = "received"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook's body, understood. `status` is None for what changes nothing (Benevity's `delivery.retry`).

    `transaction_id` may be None for Workday, which then names an `activity_id` (an activity's or enrolment's).
    """

    event_type: str
    status: PlatformStatus | None
    transaction_id: str | None
    activity_id: str | None = None
    organization_id: str | None = None
    error_message: str | None = None
    occurred_at: datetime


class SignatureRejected(Exception):
    """A webhook that did not prove where it came from. `reason` is a bounded word for the log and the metric."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WebhookBodyError(ValueError):
    """A well-signed webhook whose body does not fit; the message names the field and quotes nothing."""


class Webhook(Protocol):
    """The way back: who sent this, and what does it say?"""

    def verify(self, headers: Sequence[tuple[str, str]], raw: bytes, secrets: Sequence[bytes], now: float) -> None:
        """Returns where the signature over the raw bytes is right under one of the keys and its time, if it has
        one, is within 300 s of `now` (unix seconds). Raises SignatureRejected otherwise, and nothing else."""
        ...

    def parse(self, raw: bytes) -> StatusReport:
        """Raises WebhookBodyError where the body is not the contract's."""
        ...


class RateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Requests allowed in any second, minute and day; None: any number."""

    per_second: int | None = None
    per_minute: int | None = None
    per_day: int | None = None


class Connector(Protocol):
    """One platform."""

    name: str
    """Lower case, as in topics, tables and routes: `benevity`."""

    ordering: Ordering
    """`keyed`: a company's records one after another. `additive`: amounts add up, order does not matter."""

    batch_size: int
    """How many shipments `send` takes in one request; 1 for a platform without batches."""

    limits: RateLimits
    """What the platform takes, in requests, for each quota scope."""

    webhook: Webhook

    def quota_scope(self, organization_id: str) -> str:
        """Whom the platform counts requests for: the organization, or `""`, our whole account."""
        ...

    def understands(self, event: ImpactMetricEvent) -> bool:
        """Whether anything of this event has a place at the platform. False: no delivery is made."""
        ...

    def body(self, event: ImpactMetricEvent, organization_id: str, generation: int) -> bytes:
        """The request body (JSON, UTF-8) of one delivery. Pure, see above. Amounts are exact decimals."""
        ...

    async def send(self, shipments: Sequence[Shipment], idempotency_key: UUID) -> list[Outcome]:
        """One request with 1 to `batch_size` shipments; one outcome each, in their order."""
        ...

    async def close(self) -> None:
        """Gives back connections. Idempotent."""
        ...


Connectors = Mapping[str, Connector]
