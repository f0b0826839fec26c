"""What the heart needs of a broker: records in, records out."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from schemas.headers import WireHeaders


class IncomingRecord(msgspec.Struct, frozen=True):
    """A record as it came, unread. `timestamp`: seconds since 1970, the producer's or the broker's."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class OutgoingRecord(msgspec.Struct, frozen=True):
    topic: str
    key: bytes | None
    value: bytes
    headers: WireHeaders
    confirms: tuple[UUID, int] | None = None
    """The delivery and hop whose record this is: the ledger is told once the broker has it."""
    may_be_cut: bool = False
    """A dead letter: where its topic will not take it, it goes without its value."""


class PublishFailed(Exception):
    """The broker did not confirm; some of the records may have arrived all the same."""


class RecordTooLarge(Exception):
    """The broker will never take these; all others of the call are confirmed."""

    def __init__(self, records: Sequence[OutgoingRecord]) -> None:
        super().__init__(f"{len(records)} too large for {records[0].topic}; raise its max.message.bytes")
        self.records = tuple(records)


class Publisher(Protocol):
    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Returns when the broker has confirmed every record (acks of all in-sync replicas).

        Records of one key reach their topic in the order of the calls. Raises PublishFailed, RecordTooLarge.
        """
        ...
