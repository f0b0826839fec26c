"""A platform's records as the reader hands them over: worked on in memory, or, where their company has its share of it,
put aside into the ledger."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from delivery.dispatcher import KeyedDispatcher
from delivery.ports import IncomingRecord

# Records of a platform that wait in memory, or are in work; the engine bounds those in flight.
IN_MEMORY = 2_000
_PARKING = 500


class Engine(Protocol):
    """Of `delivery.engine.DeliveryEngine`, what records go through."""

    async def deliver(self, record: IncomingRecord) -> None: ...

    async def park(self, record: IncomingRecord) -> None: ...


class Intake:
    """`done(record)`: the record may be acked. What a defect hits is told to `on_defect`, and done as well: its row is
    in the ledger, unfinished, and the sweeper publishes it again; holding the ack back would only stop the partition
    behind it."""

    def __init__(
        self,
        engine: Engine,
        *,
        ordered: bool,
        done: Callable[[IncomingRecord], None],
        on_defect: Callable[[Exception], None],
        in_memory: int = IN_MEMORY,
    ) -> None:
        self._ordered = ordered
        self._done = done
        self._on_defect = on_defect
        # A company has a quarter at most, so that others get their turn.
        self._working: KeyedDispatcher[IncomingRecord] = KeyedDispatcher(
            self._through(engine.deliver), self._defect, in_flight=in_memory, waiting=in_memory, share=in_memory // 4
        )
        # Many at once, for one statement: parked one after another, a backlog would be read at a ledger's round trip
        # each. Order is the ledger's to keep.
        self._parking: KeyedDispatcher[IncomingRecord] = KeyedDispatcher(
            self._through(engine.park), self._defect, in_flight=_PARKING, waiting=_PARKING
        )

    async def accept(self, record: IncomingRecord) -> None:
        """Returns once there is room for it."""
        if not await self._working.submit(record.key if self._ordered else None, record):
            await self._parking.submit(None, record)

    async def drain(self, seconds: float) -> None:
        """Waits for what is under way, for at most so many seconds; what is left was not acked, and comes again."""
        await asyncio.gather(self._working.drain(seconds), self._parking.drain(seconds))
        await asyncio.gather(self._working.close(), self._parking.close())

    def _through(self, way: Callable[[IncomingRecord], Awaitable[None]]) -> Callable[[IncomingRecord], Awaitable[None]]:
        async def handle(record: IncomingRecord) -> None:
            await way(record)
            self._done(record)

        return handle

    def _defect(self, record: IncomingRecord, error: Exception) -> None:
        self._on_defect(error)
        self._done(record)
