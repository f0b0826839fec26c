"""Companies in turn: one with thousands of records waiting takes no other's place in a batch."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """A queue of queues: each turn takes one item of the next key, that key's eldest first."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Hashable, deque[Item]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, key: Hashable, item: Item) -> None:
        self._queues.setdefault(key, deque()).append(item)
        self._length += 1

    def put_back(self, key: Hashable, item: Item) -> None:
        """Before all others: it had its turn, and comes again."""
        self._queues.setdefault(key, deque()).appendleft(item)
        self._queues.move_to_end(key, last=False)
        self._length += 1

    def take(self, most: int) -> list[Item]:
        """The next items, at most so many."""
        taken: list[Item] = []
        while self._queues and len(taken) < most:
            key, queue = self._queues.popitem(last=False)
            taken.append(queue.popleft())
            if queue:
                self._queues[key] = queue
        self._length -= len(taken)
        return taken
