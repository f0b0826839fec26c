"""A broker in memory, as rough as the contract allows: at least once, doubled, lost, late, away.

One partition a topic. A consumer reads from what was committed; whoever starts a new one is given again what was not.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from delivery.ports import IncomingRecord, OutgoingRecord, PublishFailed, RecordTooLarge
from schemas import headers
from tests.delivery.virtual_time import utc


@dataclass
class Stored:
    record: IncomingRecord
    lost: bool = False


@dataclass
class Broker:
    """`delivery.ports.Publisher`, and what tests look at and tamper with."""

    topics: dict[str, list[Stored]] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)
    refusals: int = 0
    """So many of the next publications fail, before or after the records have arrived."""
    arrive_all_the_same: bool = False
    largest: dict[str, int] = field(default_factory=dict)
    doubling: float = 0.0
    """How probable it is that a record arrives twice."""
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    calls: list[list[OutgoingRecord]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        self.calls.append(list(records))
        await asyncio.sleep(0)
        if self.refusals > 0 and not self.arrive_all_the_same:
            self.refusals -= 1
            raise PublishFailed("away")
        too_large = [
            record
            for record in records
            if len(record.value) + len(record.key or b"") > self.largest.get(record.topic, 10**9)
        ]
        for record in records:
            if record not in too_large:
                for _ in range(1 + (self.chance.random() < self.doubling)):
                    self.put(record.topic, record.key, record.value, record.headers)
        await asyncio.sleep(0)
        if too_large:
            raise RecordTooLarge(too_large)
        if self.refusals > 0:
            self.refusals -= 1
            raise PublishFailed("no answer")

    def put(
        self, topic: str, key: bytes | None, value: bytes | None, wire: Sequence[tuple[str, bytes]] = ()
    ) -> IncomingRecord:
        log = self.topics.setdefault(topic, [])
        record = IncomingRecord(topic, 0, len(log), utc().timestamp(), key, value, tuple(wire))
        log.append(Stored(record))
        self._changed.set()
        return record

    def records(self, topic: str) -> list[IncomingRecord]:
        return [stored.record for stored in self.topics.get(topic, [])]

    def headers(self, topic: str) -> list[dict[str, str]]:
        return [headers.read_headers(record.headers) for record in self.records(topic)]

    async def changed(self) -> None:
        """Returns when something is put after this call."""
        self._changed.clear()
        await self._changed.wait()

    def wake(self) -> None:
        """Consumers look again."""
        self._changed.set()

    # ---- tampering

    def double(self, topic: str, index: int) -> None:
        record = self.topics[topic][index].record
        self.put(topic, record.key, record.value, record.headers)

    def lose(self, topic: str, index: int) -> None:
        self.topics[topic][index].lost = True

    # ---- consuming

    def unread_since(self, topic: str) -> float | None:
        """When the eldest record that is not acked was put there; None where there is none."""
        for stored in self.topics.get(topic, [])[self.committed.get(topic, 0) :]:
            if not stored.lost:
                return stored.record.timestamp
        return None


class Consumer:
    """One reader of a topic, from what is committed on; commits up to the first record that is not acked."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker = broker
        self.topic = topic
        self._position = broker.committed.get(topic, 0)
        self._acked: set[int] = set()
        self.closed = False

    async def next(self) -> IncomingRecord:
        while True:
            log = self._broker.topics.get(self.topic, [])
            while self._position < len(log):
                stored = log[self._position]
                self._position += 1
                if not stored.lost:
                    return stored.record
                self.ack(stored.record)
            await self._broker.changed()

    def ack(self, record: IncomingRecord) -> None:
        """No effect once another reader has taken the topic over."""
        if self.closed:
            return
        self._acked.add(record.offset)
        committed = self._broker.committed.get(self.topic, 0)
        log = self._broker.topics.get(self.topic, [])
        while committed in self._acked or (committed < min(self._position, len(log)) and log[committed].lost):
            committed += 1
        self._broker.committed[self.topic] = committed


class RetryTopics:
    """The waiter: what is due goes back to where it came from."""

    def __init__(self, broker: Broker, destination: str, topics: dict[str, float]) -> None:
        self._broker = broker
        self._destination = destination
        self._topics = topics

    def forward_due(self, *, twice: bool = False) -> int:
        """`twice`: a crash came between publication and commit."""
        now, forwarded = utc().timestamp(), 0
        for topic, delay in self._topics.items():
            log = self._broker.topics.get(topic, [])
            position = self._broker.committed.get(topic, 0)
            while position < len(log) and (log[position].lost or log[position].record.timestamp + delay <= now):
                stored = log[position]
                if not stored.lost:
                    for _ in range(1 + twice):
                        record = stored.record
                        self._broker.put(self._destination, record.key, record.value, record.headers)
                    forwarded += 1
                position += 1
            self._broker.committed[topic] = position
        return forwarded
