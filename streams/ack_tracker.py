"""Acks strictly in offset order for each partition, whatever order the work ends in.

Faust's own bookkeeping commits past a gap (facts: acking 5 and 6 of a fresh group commits 7), so it must never see one:
a message is handed to `ack` only when every message before it has been.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Message = TypeVar("Message")
Partition = tuple[str, int]


class _Slot(Generic[Message]):
    __slots__ = ("done", "message", "offset", "timestamp")

    def __init__(self, offset: int, timestamp: float, message: Message) -> None:
        self.offset = offset
        self.timestamp = timestamp
        self.message = message
        self.done = False


class AckTracker(Generic[Message]):
    """`open` each message as it is read, `done` when its outcome is durable.

    A partition that was revoked is forgotten: its records come again, to whoever reads it next. A late `done` of the
    old reading then speaks of the new one, rightly, since a durable outcome belongs to the record.
    """

    def __init__(self, ack: Callable[[Message], None]) -> None:
        self._ack = ack
        self._slots: dict[Partition, deque[_Slot[Message]]] = {}
        self._by_offset: dict[tuple[str, int, int], _Slot[Message]] = {}

    def open(self, topic: str, partition: int, offset: int, timestamp: float, message: Message) -> None:
        known = self._by_offset.get((topic, partition, offset))
        if known is not None:
            # Read again without a revocation: one slot, or the older would wait for ever.
            known.message = message
            return
        slot = _Slot(offset, timestamp, message)
        self._by_offset[topic, partition, offset] = slot
        self._slots.setdefault((topic, partition), deque()).append(slot)

    def done(self, topic: str, partition: int, offset: int) -> None:
        slot = self._by_offset.get((topic, partition, offset))
        if slot is None:
            return
        slot.done = True
        slots = self._slots[topic, partition]
        while slots and slots[0].done:
            head = slots.popleft()
            del self._by_offset[topic, partition, head.offset]
            self._ack(head.message)

    def revoke(self, partitions: Iterable[Partition]) -> None:
        for topic, partition in partitions:
            for slot in self._slots.pop((topic, partition), ()):
                self._by_offset.pop((topic, partition, slot.offset), None)

    def oldest(self, topic: str, partition: int) -> float | None:
        """Timestamp of the oldest record whose outcome is still to come; None where there is none."""
        slots = self._slots.get((topic, partition))
        return slots[0].timestamp if slots else None

    def first(self, topic: str, partition: int) -> int | None:
        """Offset of that record."""
        slots = self._slots.get((topic, partition))
        return slots[0].offset if slots else None

    def __len__(self) -> int:
        """Records read and not acked."""
        return len(self._by_offset)
