"""What a backend raises."""


class LedgerUnavailable(Exception):
    """The ledger is out of reach or read-only; the message names neither address nor secret."""
