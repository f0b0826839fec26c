"""Twin of the fast memory, for one process."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from guards.contract import Sighting


class MemorySeenBefore:
    """`guards.contract.SeenBefore` in a dictionary. `available` False: out of reach, as a test may want it."""

    def __init__(self) -> None:
        self.available = True
        self._sightings: dict[UUID, Sighting] = {}

    async def lookup(self, event_ids: Sequence[UUID]) -> Mapping[UUID, Sighting]:
        if not self.available:
            return {}
        return {event_id: self._sightings[event_id] for event_id in event_ids if event_id in self._sightings}

    async def remember(self, sightings: Mapping[UUID, Sighting]) -> None:
        if self.available:
            self._sightings.update(sightings)

    async def ping(self) -> bool:
        return self.available

    def forget_everything(self) -> None:
        self._sightings.clear()

    async def close(self) -> None:
        return None
