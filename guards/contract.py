"""What the fast memory promises, for the author of another backend.

It is read before the ledger is asked and written after the ledger has committed, so that it never knows more than the
ledger does. It may forget everything at any moment, lose a write, or be out of reach: work gets slower, never wrong.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

import msgspec


class Sighting(msgspec.Struct, frozen=True):
    """An event that the ledger has: its content, and the record on Kafka that it came with."""

    content_hash: str
    topic: str | None
    partition: int | None
    offset: int | None


class SeenBefore(Protocol):
    """Events that the ledger is known to have."""

    async def lookup(self, event_ids: Sequence[UUID]) -> Mapping[UUID, Sighting]:
        """Those that are remembered. Empty where the memory is out of reach: never an exception."""
        ...

    async def remember(self, sightings: Mapping[UUID, Sighting]) -> None:
        """For 24 hours. Only what the ledger has committed. Never an exception."""
        ...

    async def ping(self) -> bool:
        """Whether the memory can be reached."""
        ...

    async def close(self) -> None: ...
