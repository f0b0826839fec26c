"""Deliberate bugs, each switched on in one process by replacing a method from outside. Each says which equation has to
turn red, and under which fault: a checker that does not see it is worth nothing."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid4, uuid5

import msgspec

from connectors.registry import REGISTRY
from delivery.ingest import IngestPipeline
from delivery_log.contract import Finished, Go
from delivery_log.postgres.ledger import PostgresLedger
from streams.ack_tracker import AckTracker

DROPPED_EVERY = 1_000
SLOW_EVERY, SLOW_SECONDS = 40, 5.0


def drop() -> None:
    """One event in 1,000 is acked and forgotten. E1 (an offset below the committed one without an outcome) and E2 (an
    expected delivery is missing), without any fault, on 1,000 events and more."""
    put, seen = IngestPipeline.put, [0]

    async def mutant(self: Any, record: Any) -> None:
        seen[0] += 1
        if seen[0] % DROPPED_EVERY == 0:
            self._done([record])
        else:
            await put(self, record)

    _replace(IngestPipeline, "put", mutant)


def ack_early() -> None:
    """Each record is acked as it is read, before its outcome is durable. E1 and E2 after a SIGKILL while ingest has
    records in hand (the ledger is locked meanwhile, with the events published beforehand)."""
    opened = AckTracker.open

    def mutant(self: Any, topic: str, partition: int, offset: int, timestamp: float, message: Any) -> None:
        opened(self, topic, partition, offset, timestamp, message)
        self.done(topic, partition, offset)

    _replace(AckTracker, "open", mutant)


def ack_out_of_order() -> None:
    """A record that is done is acked at once, whatever stands before it: Faust commits past a gap. E1 and E2 after a
    SIGKILL while a record is slower than those behind it.

    Ingest works off its batches in order, so no record is slow by itself: every fortieth is made to wait. That alone
    loses nothing; the acks out of order do.
    """
    put, seen, slow = IngestPipeline.put, [0], set[asyncio.Task[None]]()

    async def late(pipeline: Any, record: Any) -> None:
        await asyncio.sleep(SLOW_SECONDS)
        await put(pipeline, record)

    async def mutant(self: Any, record: Any) -> None:
        seen[0] += 1
        if seen[0] % SLOW_EVERY:
            await put(self, record)
        else:
            slow.add(asyncio.create_task(late(self, record)))

    def at_once(self: Any, topic: str, partition: int, offset: int) -> None:
        slot = self._by_offset.pop((topic, partition, offset), None)
        if slot is not None:
            self._slots[topic, partition].remove(slot)
            self._ack(slot.message)

    _replace(AckTracker, "done", at_once)
    _replace(IngestPipeline, "put", mutant)


def send_twice() -> None:
    """Every tenth request is sent a second time, under another key. E3 (an effect under a key that no delivery has;
    sums too large) and E6 (more requests than attempts), without any fault."""
    sent = [0]
    for platform in REGISTRY.values():
        connector: Any = platform.connector
        _replace(connector, "send", _sending_twice(connector.send, sent))


def _sending_twice(send: Any, sent: list[int]) -> Any:
    async def mutant(self: Any, shipments: Sequence[Any], idempotency_key: UUID) -> Any:
        outcomes = await send(self, shipments, idempotency_key)
        sent[0] += 1
        if sent[0] % 10 == 0:
            other = uuid4()
            again = [msgspec.structs.replace(shipment, idempotency_key=other) for shipment in shipments]
            await send(self, again, other)
        return outcomes

    return mutant


def no_fence() -> None:
    """begin always answers Go, and finish writes nothing of who holds the lease. E6 (more requests than attempts begun)
    as soon as a record is doubled, and the order of keyed platforms where an elder sibling waits for its retry: with
    platform faults, two workers, or a SIGKILL."""
    begin, finish = PostgresLedger.begin, PostgresLedger.finish

    async def always_go(self: Any, claims: Sequence[Any], **options: Any) -> Any:
        verdicts = await begin(self, claims, **options)
        return [
            verdict if isinstance(verdict, Go) or hasattr(verdict, "organization_id") else _go(claim)
            for claim, verdict in zip(claims, verdicts, strict=True)
        ]

    async def always_applied(self: Any, results: Sequence[Any], **options: Any) -> Any:
        answers = await finish(self, results, **options)
        return [
            msgspec.structs.replace(answer, applied=True) if isinstance(answer, Finished) else answer
            for answer in answers
        ]

    _replace(PostgresLedger, "begin", always_go)
    _replace(PostgresLedger, "finish", always_applied)


def _go(claim: Any) -> Go:
    return Go(
        attempt=1,
        counted=0,
        idempotency_key=uuid5(claim.delivery_id, str(claim.generation)),
        replays=0,
        failing_for=None,
        to_deadline=None,
        uncertain=False,
    )


def _replace(owner: Any, name: str, mutant: Any) -> None:
    setattr(owner, name, mutant)


MUTANTS: dict[str, Callable[[], None]] = {
    "drop": drop,
    "ack-early": ack_early,
    "ack-out-of-order": ack_out_of_order,
    "send-twice": send_twice,
    "no-fence": no_fence,
}
