"""The ledger in memory: the same promises, for tests of ours and of users. Ships in the product on purpose."""

from delivery_log.memory.ledger import MemoryLedger
from delivery_log.memory.state import MemoryState

__all__ = ["MemoryLedger", "MemoryState"]
