"""Ids that anyone can work out (contract, section 6; design, section 4): nobody has to ask the ledger for them."""

from functools import lru_cache
from uuid import NAMESPACE_URL, UUID, uuid5

NAMESPACE = uuid5(NAMESPACE_URL, "impact-in")


@lru_cache(maxsize=10_000)
def delivery_id(event_id: UUID, platform: str) -> UUID:
    return uuid5(NAMESPACE, f"{event_id}:{platform}")


def idempotency_key(delivery: UUID, generation: int) -> UUID:
    """The same at every retry of a generation; a replay whose fate is known gets another."""
    return uuid5(delivery, str(generation))
