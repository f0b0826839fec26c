"""The producer: `delivery.ports.Publisher` on aiokafka."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Self

import aiokafka
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import murmur2

from delivery.ports import OutgoingRecord, PublishFailed, RecordTooLarge
from streams.connection import KafkaConnection

# A dead letter carries the record as it came, whatever its size was.
LARGEST_RECORD = 16 * 1024 * 1024


@lru_cache(maxsize=10_000)
def _hash(key: bytes) -> int:
    """Kafka's own: companies come again and again, and in Python it takes longer to work out than to look up."""
    return int(murmur2(key)) & 0x7FFFFFFF


def _partition(key: bytes | None, partitions: list[int], available: list[int]) -> int:
    """As every Kafka client chooses it."""
    if key is None:
        return random.choice(available or partitions)  # noqa: S311
    return partitions[_hash(key) % len(partitions)]


class _Enqueued(NamedTuple):
    """A topic's records of one call: those on their way, those too large, and what kept the rest back."""

    confirmations: list[tuple[OutgoingRecord, asyncio.Future[Any]]]
    refused: list[OutgoingRecord]
    failure: BaseException | None


class KafkaPublisher:
    """One producer. Confirmed means: by all in-sync replicas. aiokafka has one request in the air a partition, so that
    its own retries keep the order; a topic's lock keeps the order of calls while a call waits for room, or for a topic
    that is missing. Nobody waits for a topic that he has no record for."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._enqueueing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @classmethod
    async def open(cls, connection: KafkaConnection, *, client_id: str = "impact-in") -> Self:
        """Raises PublishFailed where no broker can be reached."""
        producer = aiokafka.AIOKafkaProducer(
            **connection.for_aiokafka(),
            client_id=client_id,
            acks="all",
            compression_type="lz4",
            linger_ms=0,
            partitioner=_partition,
            request_timeout_ms=30_000,
            max_request_size=LARGEST_RECORD,
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise PublishFailed(f"no broker can be reached ({type(error).__name__})") from error
        return cls(producer)

    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        refused = await self._send(records)
        if refused:
            # The broker refuses a batch whole, for the sake of one record in it: ask for each alone.
            too_large = [record for record in refused if await self._send([record])]
            if too_large:
                raise RecordTooLarge(too_large)

    async def _send(self, records: Sequence[OutgoingRecord]) -> list[OutgoingRecord]:
        """Those that were refused for their size; all others are confirmed. Raises PublishFailed."""
        of_topic: dict[str, list[OutgoingRecord]] = {}
        for record in records:
            of_topic.setdefault(record.topic, []).append(record)
        if len(of_topic) == 1:
            enqueued = [await self._enqueue(records)]
        else:
            enqueued = await asyncio.gather(*(self._enqueue(some) for some in of_topic.values()))
        confirmations = [one for each in enqueued for one in each.confirmations]
        refused = [record for each in enqueued for record in each.refused]
        failure = next((each.failure for each in enqueued if each.failure is not None), None)
        results = await asyncio.gather(*(future for _, future in confirmations), return_exceptions=True)
        for (record, _), result in zip(confirmations, results, strict=True):
            if isinstance(result, MessageSizeTooLargeError):
                refused.append(record)
            elif isinstance(result, BaseException):
                failure = failure or result
        if failure is not None:
            raise PublishFailed(f"the broker did not confirm ({type(failure).__name__})") from failure
        return refused

    async def _enqueue(self, records: Sequence[OutgoingRecord]) -> _Enqueued:
        """Records of one topic."""
        enqueued = _Enqueued([], [], None)
        async with self._enqueueing[records[0].topic]:
            for record in records:
                try:
                    future = await self._producer.send(
                        record.topic, value=record.value, key=record.key, headers=record.headers
                    )
                except MessageSizeTooLargeError:
                    enqueued.refused.append(record)
                except (KafkaError, OSError) as error:
                    return enqueued._replace(failure=error)
                else:
                    enqueued.confirmations.append((record, future))
        return enqueued

    async def close(self) -> None:
        """Flushes what is under way, for at most ten seconds."""
        try:
            await asyncio.wait_for(self._producer.stop(), 10.0)
        except TimeoutError:
            return
