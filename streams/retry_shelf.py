"""What a retry waiter holds: records in the order of their partition, the first of them perhaps on their way back.

No Kafka here, only the bookkeeping: what is due, what is in the air, what may be committed, whether there is room.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Waiting(NamedTuple):
    """A record as it was fetched. `due` and `timestamp` in seconds since 1970, `size` in bytes."""

    offset: int
    due: float
    timestamp: float
    size: int
    record: object


class Departure(NamedTuple):
    """Records that were taken together, and how many of each partition: one publication, then one commit."""

    records: list[object]
    counts: dict[object, int]
    generation: int
    due: list[float]
    """Of each record, in seconds since 1970."""


class RetryShelf:
    """Bounded by `most` records a partition and `most_bytes` in all; a single fetch may go beyond, since what was
    fetched cannot be given back."""

    def __init__(self, *, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: dict[object, deque[Waiting]] = {}
        self._in_air: dict[object, int] = {}
        self._bytes = 0
        self._generation = 0

    def put(self, partition: object, records: Iterable[Waiting]) -> None:
        for one in records:
            self._waiting.setdefault(partition, deque()).append(one)
            self._bytes += one.size

    def next_due(self) -> float | None:
        """When the first record that is not in the air is due; None where there is none."""
        heads = (self._head(partition) for partition in self._waiting)
        return min((head.due for head in heads if head is not None), default=None)

    def take_due(self, now: float, at_most: int) -> Departure | None:
        """What is due, the longest due first, each partition's in its order. In the air from now on."""
        heads = [
            (head.due, number, partition)
            for number, partition in enumerate(self._waiting)
            if (head := self._head(partition)) is not None and head.due <= now
        ]
        heapq.heapify(heads)
        records: list[object] = []
        due: list[float] = []
        counts: dict[object, int] = {}
        while heads and len(records) < at_most:
            _, number, partition = heapq.heappop(heads)
            head = self._head(partition)
            assert head is not None
            records.append(head.record)
            due.append(head.due)
            counts[partition] = counts.get(partition, 0) + 1
            self._in_air[partition] = self._in_air.get(partition, 0) + 1
            following = self._head(partition)
            if following is not None and following.due <= now:
                heapq.heappush(heads, (following.due, number, partition))
        return Departure(records, counts, self._generation, due) if records else None

    def confirmed(self, departures: Iterable[Departure]) -> Mapping[object, int]:
        """Gone: the oldest ones in the air. Answers the offset to commit of each partition."""
        offsets: dict[object, int] = {}
        for departure in departures:
            if departure.generation != self._generation:
                continue  # revoked since: the next owner reads them again
            for partition, count in departure.counts.items():
                waiting = self._waiting[partition]
                for _ in range(count):
                    one = waiting.popleft()
                    self._bytes -= one.size
                    offsets[partition] = one.offset + 1
                self._in_air[partition] -= count
                if not waiting:
                    del self._waiting[partition], self._in_air[partition]
        return offsets

    def take_back(self) -> None:
        """Nothing is in the air any more: what was not confirmed is due again, in its order."""
        self._in_air.clear()

    def forget(self) -> None:
        """Every partition was revoked."""
        self._generation += 1
        self._waiting.clear()
        self._in_air.clear()
        self._bytes = 0

    def full(self, partition: object) -> bool:
        """No more of this partition should be fetched."""
        return self._bytes >= self._most_bytes or len(self._waiting.get(partition, ())) >= self._most

    def roomy(self, partition: object) -> bool:
        """There is room for a good deal more. Between full and roomy: leave it as it is."""
        waiting = self._waiting.get(partition)
        return not waiting or (self._bytes < self._most_bytes // 2 and len(waiting) <= self._most // 2)

    def oldest(self, partition: object) -> float | None:
        """Timestamp of the oldest record that has not gone."""
        waiting = self._waiting.get(partition)
        return waiting[0].timestamp if waiting else None

    def first(self, partition: object) -> int | None:
        """Offset of the first record that has not gone."""
        waiting = self._waiting.get(partition)
        return waiting[0].offset if waiting else None

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting.values())

    def _head(self, partition: object) -> Waiting | None:
        waiting, ahead = self._waiting[partition], self._in_air.get(partition, 0)
        return waiting[ahead] if ahead < len(waiting) else None
