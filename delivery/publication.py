"""Publishing delivery requests: confirmed by the broker first, then told to the ledger, lazily and in one statement."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from delivery.observer import Observer, Trouble
from delivery.patience import patiently
from delivery.ports import OutgoingRecord, Publisher, RecordTooLarge
from delivery.records import without_value
from delivery_log.contract import DeliveryLedger, LedgerUnavailable


class Publication:
    """The heart's way to the broker.

    What was confirmed is written back a moment later (`note`, `run`): most requests have been begun by then and need no
    write at all. Losing a note costs one superfluous publication by the sweeper, which the hop makes harmless.
    """

    def __init__(
        self, publisher: Publisher, ledger: DeliveryLedger, observer: Observer, *, interval: float = 1.0
    ) -> None:
        self._publisher = publisher
        self._ledger = ledger
        self._observer = observer
        self._interval = interval
        self._confirmed: dict[UUID, int] = {}

    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Returns when the broker has confirmed them all, however long that takes."""
        if not records:
            return
        try:
            await patiently(lambda: self._publisher.publish(records), self._observer, "publish")
        except RecordTooLarge as error:
            # Waiting helps nobody: keep why and where from, and leave the bytes where they came from.
            self._observer.notice(Trouble("publish_too_large", str(error)))
            substitutes = [without_value(record) for record in error.records]
            await patiently(lambda: self._publisher.publish(substitutes), self._observer, "publish")

    def note(self, delivery_id: UUID, hop: int) -> None:
        """This hop's record is confirmed."""
        self._confirmed[delivery_id] = hop

    async def flush(self) -> None:
        """Raises LedgerUnavailable; the notes are kept then."""
        confirmed, self._confirmed = self._confirmed, {}
        if confirmed:
            try:
                await self._ledger.confirm_published(list(confirmed.items()))
            except LedgerUnavailable:
                self._confirmed = confirmed | self._confirmed
                raise

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.flush()
            except LedgerUnavailable as error:
                self._observer.notice(Trouble("confirm_published", str(error)))
