"""The places where Faust's own consumer has to be helped. All reach into its internals: the version is pinned, and
`tests/streams/test_faust_internals.py` fails when what they rely on changes."""

import asyncio
from typing import Any

import faust
from aiokafka.errors import ConsumerStoppedError
from faust.events import Event
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport

from streams.tolerant_records import install

_PASS_EVERY = 100
# A role reads no further while records of so many bytes are in its hands: counts alone do not bound memory. What a
# record costs beside its value: the client's objects, Faust's and ours.
_BYTES_IN_HAND = 32 * 1024 * 1024
_BESIDE_ITS_VALUE = 3 * 1024

install()


class _ConsumerThread(AIOKafkaConsumerThread):
    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        consumer = super()._create_consumer(loop=loop)
        # Hard-coded by Faust to 1,500 ms. Apache Kafka answers a waiting fetch as soon as there is data; the embedded
        # broker does not, and there this wait is the latency.
        consumer._fetch_max_wait_ms = round(self.app.fetch_wait * 1000)
        return consumer


class _Consumer(Consumer):
    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetches, and hands each record to its channel.

        As Faust's own, except that a record costs no two tasks (`wait_first`, half of a worker's time): while the flow
        is active and the channel has room, its callback returns without waiting for anything. Only where it may wait
        is the flow's suspension watched beside it, so that a rebalance need not wait for a full channel.
        """
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await asyncio.sleep(0)
                if await self._hand_over_a_fetch():
                    self._note_what_was_handed_over()
        except ConsumerStoppedError:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def _hand_over_a_fetch(self) -> bool:
        """Whether all of it was handed over; a rebalance cuts it short."""
        passed = 0
        async for partition, message in self.getmany(timeout=1.0):
            passed += 1
            if passed % _PASS_EVERY == 0:
                await asyncio.sleep(0)
            while self.app.in_hand.full and self.flow_active:
                await self.wait_first(self.app.in_hand.room(), self.suspend_flow.wait())
            # Looked at again after each wait: what was fetched before a rebalance is not ours to hand over.
            if not self.flow_active or message.generation_id != self.app.consumer_generation_id:
                return False
            self.app.in_hand.add(message.value)
            await self._hand_over(partition, message)
        return bool(self.flow_active)

    def _note_what_was_handed_over(self) -> None:
        """Positions up to which nothing is on its way any more between the fetch and the channel."""
        consumer = self._thread._consumer
        states = consumer._subscription.subscription.assignment
        for partition in consumer.assignment():
            state = states.state_value(partition)
            if state is not None and state.has_valid_position:
                self.app.handed_over[partition] = state.position

    async def _hand_over(self, partition: Any, message: Any) -> None:
        read = self._read_offset[partition]
        if read is not None and message.offset < read:
            return  # read already
        if read and message.offset - read > 1:
            # Offsets that no record has: what a transaction or a compaction left.
            await self._add_gap(partition, read + 1, message.offset)
        queue = self._roomy_queue(partition)
        if queue is not None:
            # What the conductor's callback comes to for one reader that wants raw bytes, without its detours.
            message.incref()
            queue.force_put_nowait(Event(self.app, message.key, message.value, None, message))
        else:
            await self.wait_first(self.callback(message), self.suspend_flow.wait())
        self._read_offset[partition] = message.offset

    def _roomy_queue(self, partition: Any) -> Any:
        """The queue of the partition's one reader, where it is far from full; else None: the conductor decides."""
        channels = self.app.topics._tp_index.get(partition, ())
        if len(channels) == 1 and self.app.flow_control.is_active():
            for channel in channels:
                queue = channel.queue
                return queue if queue.qsize() < queue.pressure_high_size else None
        return None


class _Transport(Transport):
    Consumer = _Consumer


class InHand:
    """Bytes of records that were read and whose outcome is still to come."""

    def __init__(self, limit: int = _BYTES_IN_HAND) -> None:
        self._limit = limit
        self._bytes = 0
        self._room = asyncio.Event()

    @property
    def full(self) -> bool:
        return self._bytes >= self._limit

    async def room(self) -> None:
        self._room.clear()
        if self.full:
            await self._room.wait()

    def add(self, value: bytes | None) -> None:
        self._bytes += len(value or b"") + _BESIDE_ITS_VALUE

    def remove(self, value: bytes | None) -> None:
        self._remove(len(value or b"") + _BESIDE_ITS_VALUE)

    def clear(self) -> None:
        self._remove(self._bytes)

    def _remove(self, size: int) -> None:
        self._bytes = max(self._bytes - size, 0)
        if not self.full:
            self._room.set()


class StreamApp(faust.App):
    """`faust.App` with our consumer. `fetch_wait`: seconds a fetch waits for data."""

    def __init__(self, group: str, *, fetch_wait: float = 1.5, **options: Any) -> None:
        super().__init__(group, **options)
        self.fetch_wait = fetch_wait
        self.in_hand = InHand()
        self.handed_over: dict[Any, int] = {}

    def _on_rebalance_when_stopped(self) -> None:
        """Nothing. Faust closes the client here, perhaps under a commit, which then never ends and which the stop waits
        for. The consumer's own stop closes it, once it has committed."""

    def _create_directories(self) -> None:
        """None: there are no tables whose data Faust would keep, and the working directory may be read-only."""

    def _new_transport(self) -> Transport:
        return _Transport(self.conf.broker_consumer, self, loop=self.loop)
