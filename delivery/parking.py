"""What a company has over its share of memory waits in the ledger, and comes back as there is room.

Where order does not matter no elder's end wakes it: whoever parked it does. Which companies have rows there is known
here only; after a restart the sweeper finds their eldest.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from delivery.micro_batch import MicroBatcher
from delivery.observer import Observer
from delivery.patience import patiently
from delivery.publication import Publication
from delivery.records import DeliveryRequest, request_record
from delivery_log.contract import Changed, DeliveryLedger, Parked
from schemas import Topics

_COME_BACK_WITHIN = 10.0


class Parking:
    """One additive platform's."""

    def __init__(
        self, platform: str, ledger: DeliveryLedger, publication: Publication, topics: Topics, observer: Observer
    ) -> None:
        self._platform = platform
        self._ledger = ledger
        self._publication = publication
        self._topics = topics
        self._observer = observer
        self._batcher: MicroBatcher[Parked, Changed | None] = MicroBatcher(
            self._park_all, key=lambda one: one.delivery_id
        )
        self._parked: set[UUID] = set()
        self._asking: set[UUID] = set()
        # company → how many were woken and have not come back yet, and when
        self._on_their_way: dict[UUID, tuple[int, float]] = {}

    async def park(self, request: DeliveryRequest, delay: float = 0.0, organization: str = "") -> Changed | None:
        """Its record may be acked then. `delay`: seconds until its time, behind a forbidden organization; 0: it waits
        for room. `Changed`: it was not parked, its organization is another by now."""
        changed = await self._batcher.submit(Parked(request.delivery_id, request.hop, delay, organization))
        if delay == 0:
            self._parked.add(request.event.company_id)
        return changed

    def came_back(self, company: UUID) -> None:
        """A record of the company came in."""
        number, since = self._on_their_way.get(company, (0, 0.0))
        if number > 1:
            self._on_their_way[company] = (number - 1, since)
        elif number:
            del self._on_their_way[company]

    def may_wake(self, company: UUID, held: int, share: int) -> bool:
        """Whether half of the company's share is free, and something of it waits in the ledger."""
        if company not in self._parked or company in self._asking:
            return False
        number, since = self._on_their_way.get(company, (0, 0.0))
        late = asyncio.get_running_loop().time() - since > _COME_BACK_WITHIN
        return held + (0 if late else number) <= share // 2

    async def wake(self, company: UUID, most: int) -> None:
        """Publishes so many of the company's eldest."""
        self._asking.add(company)
        # Before the question: what is parked meanwhile is known again.
        self._parked.discard(company)
        try:
            requests = await patiently(
                lambda: self._ledger.wake_parked(self._platform, {company: most}), self._observer, "wake_parked"
            )
            if len(requests) >= most:
                self._parked.add(company)
            self._on_their_way[company] = (len(requests), asyncio.get_running_loop().time())
            if not requests:
                del self._on_their_way[company]
            await self._publication.publish([request_record(request, self._topics) for request in requests])
        finally:
            self._asking.discard(company)

    async def _park_all(self, waiting: Sequence[Parked]) -> Sequence[Changed | None]:
        return await patiently(lambda: self._ledger.park(waiting), self._observer, "park")
