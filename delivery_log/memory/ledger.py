"""Twin of the delivery ledger (being written)."""


class MemoryLedger:
    pass
