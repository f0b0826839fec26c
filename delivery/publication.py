"""Publishing delivery requests: confirmed by the broker first, then told to the ledger, lazily and in one statement."""

import asyncio
import math
from collections.abc import Sequence
from uuid import UUID

from delivery.observer import Observer, Trouble
from delivery.patience import patiently
from delivery.ports import OutgoingRecord, Publisher, RecordTooLarge
from delivery.records import without_value
from delivery_log.contract import DeliveryLedger, LedgerUnavailable


class Publication:
    """The heart's way to the broker.

    What was confirmed is written back a moment later (`run`): most requests have been begun by then and need no write
    at all. Losing that costs one superfluous publication by the sweeper, which the hop makes harmless.
    """

    def __init__(
        self, publisher: Publisher, ledger: DeliveryLedger, observer: Observer, *, interval: float = 1.0
    ) -> None:
        self._publisher = publisher
        self._ledger = ledger
        self._observer = observer
        self._interval = interval
        self._confirmed: dict[UUID, int] = {}
        self._in_air: dict[object, float] = {}
        self._oldest_untold = math.inf
        self._last_lag = 0.0

    @property
    def lag(self) -> float:
        """Seconds from a request's publication to the ledger's knowledge of it: of the slowest now, or lately. A row
        that is unconfirmed for less is on its way, however long that takes under load."""
        since = min(self._oldest_untold, *self._in_air.values(), math.inf)
        return max(asyncio.get_running_loop().time() - since, self._last_lag)

    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Returns when the broker has confirmed them all, however long that takes.

        What a topic will never take is not waited for: a dead letter goes without its value; a request stays
        unconfirmed, for the sweeper to try again and an operator to see.
        """
        if not records:
            return
        started, this = asyncio.get_running_loop().time(), object()
        self._in_air[this] = started
        try:
            await self._publish(records)
        finally:
            del self._in_air[this]
        self._oldest_untold = min(self._oldest_untold, started)

    async def _publish(self, records: Sequence[OutgoingRecord]) -> None:
        refused: set[int] = set()
        try:
            await patiently(lambda: self._publisher.publish(records), self._observer, "publish")
        except RecordTooLarge as error:
            self._observer.notice(Trouble("publish_too_large", str(error)))
            cut = [without_value(record) for record in error.records if record.may_be_cut]
            refused = {id(record) for record in error.records if not record.may_be_cut}
            if cut:
                await patiently(lambda: self._publisher.publish(cut), self._observer, "publish")
        for record in records:
            if record.confirms is not None and id(record) not in refused:
                self.note(*record.confirms)

    async def publish_once(self, records: Sequence[OutgoingRecord]) -> None:
        """One try, for who keeps the records and begins anew himself: requests that confirm nothing. Raises
        PublishFailed; what the topic will never take is said, and is the sweeper's."""
        try:
            await self._publisher.publish(records)
        except RecordTooLarge as error:
            self._observer.notice(Trouble("publish_too_large", str(error)))

    def note(self, delivery_id: UUID, hop: int) -> None:
        """This hop's record is confirmed."""
        self._confirmed[delivery_id] = hop

    async def flush(self) -> None:
        """Raises LedgerUnavailable; the notes are kept then."""
        confirmed, self._confirmed = self._confirmed, {}
        since, self._oldest_untold = self._oldest_untold, math.inf
        if confirmed:
            try:
                await self._ledger.confirm_published(list(confirmed.items()))
            except LedgerUnavailable:
                self._confirmed = confirmed | self._confirmed
                self._oldest_untold = since
                raise
        self._last_lag = max(asyncio.get_running_loop().time() - since, 0.0)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.flush()
            except LedgerUnavailable as error:
                self._observer.notice(Trouble("confirm_published", str(error)))
