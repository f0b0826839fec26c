"""Events on their way in, and the delivery requests that they lead to."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec


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
    first_failed_at: datetime | None = None
    """Its first counted failure, for people to read: no clock to compare with."""


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
