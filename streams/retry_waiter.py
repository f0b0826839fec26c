"""Retry topics: each record waits until it is due, then goes back to the platform's topic.

One delay a topic, so the head of a partition is always the first one due. A plain aiokafka consumer, because Faust's
`pause_partitions` drops what was fetched (facts, must 4). Order of steps: publish back, confirm, commit; a crash
between publishes twice, and the second record meets a row that has moved on.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import aiokafka
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from mode import Service

from delivery.observer import Observer, Trouble
from delivery.ports import OutgoingRecord
from delivery.publication import Publication
from schemas import headers
from streams.connection import KafkaConnection
from streams.reading import CLOCK_SLACK, bounded_age, ended_parts, exhausted_for, knows_coordinator, out_of_group
from streams.tolerant_records import install

_POLL_SECONDS = 0.5
_POLL_RECORDS = 500

install()


class RetryWaiter(Service):
    """The waiter of one platform's retry topics. `observe_lateness(seconds)` is told each record's."""

    def __init__(
        self,
        *,
        connection: KafkaConnection,
        group: str,
        instance: str | None,
        topics: Mapping[str, float],
        destination: str,
        publication: Publication,
        observer: Observer,
        session_timeout: float,
        fetch_wait: float,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._topics = topics
        self._destination = destination
        self._publication = publication
        self._observer = observer
        self._held: dict[Any, deque[Any]] = {}
        self.joined = False
        self._turns = 0
        self._consumer = aiokafka.AIOKafkaConsumer(
            **connection.for_aiokafka(),
            client_id=group,
            group_id=group,
            group_instance_id=instance,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=round(session_timeout * 1000),
            heartbeat_interval_ms=round(session_timeout * 100),
            # The waiter polls all the time; only its session may end its membership.
            max_poll_interval_ms=1_000_000_000,
            fetch_max_wait_ms=round(fetch_wait * 1000),
            max_poll_records=_POLL_RECORDS,
        )

    async def on_start(self) -> None:
        self._consumer.subscribe(list(self._topics), listener=_Listener(self))
        await self._consumer.start()

    async def on_stop(self) -> None:
        await self._consumer.stop()

    @Service.task
    async def _wait_and_forward(self) -> None:
        while not self.should_stop:
            self._turns += 1
            await self._fetch()
            await self._forward_due()

    @property
    def ready(self) -> bool:
        """Whether the group was joined, and the waiter still waits."""
        return self.joined and not self.crashed

    async def ended(self) -> BaseException | None:
        """Returns when the waiter has crashed, with the reason where it is told."""
        await self._crashed.wait()
        reason: BaseException | None = self._crash_reason
        return reason

    def dead(self) -> str | None:
        """What of the consumer has ended although nobody stopped it."""
        if not self.joined:
            return None
        ended = ended_parts(self._consumer)
        return None if ended is None else f"retry waiter: {ended}"

    def stalls(self) -> dict[str, object]:
        """As `Role.stalls`. A commit waits for as long as no broker answers."""
        if not self.joined or not knows_coordinator(self._consumer):
            return {}
        found: dict[str, object] = {"its retry waiter does not turn": self._turns}
        if out_of_group(self._consumer):
            found["its retry waiter is out of its group"] = ()
        return found

    def forget(self) -> None:
        """What was held of revoked partitions is their next owner's."""
        self._held.clear()

    def progress(self) -> dict[tuple[str, int], float]:
        """(topic, partition) → age in seconds of what it has read up to."""
        now, answer = time.time(), {}
        for partition in self._consumer.assignment():
            held = self._held.get(partition)
            if held:
                answer[partition.topic, partition.partition] = bounded_age(now - held[0].timestamp / 1000 + CLOCK_SLACK)
                continue
            age = exhausted_for(self._consumer, partition)
            if age is not None:
                answer[partition.topic, partition.partition] = age
        return answer

    @property
    def holds(self) -> int:
        """Records fetched that wait for their time."""
        return sum(len(held) for held in self._held.values())

    async def _fetch(self) -> None:
        now = time.time()
        next_due = min((self._due(held[0]) for held in self._held.values() if held), default=now + _POLL_SECONDS)
        timeout = min(max(next_due - now, 0.0), _POLL_SECONDS)
        fetched = await self._consumer.getmany(timeout_ms=round(timeout * 1000))
        for partition, records in fetched.items():
            if partition in self._consumer.assignment():
                self._held.setdefault(partition, deque()).extend(records)
                # One fetch is held at most: the next is asked for when this one has gone.
                self._consumer.pause(partition)

    async def _forward_due(self) -> None:
        now = time.time()
        due: dict[Any, list[Any]] = {}
        for partition, held in self._held.items():
            records = due.setdefault(partition, [])
            for record in held:
                if self._due(record) > now:
                    break
                records.append(record)
        records = [record for records in due.values() for record in records]
        if records:
            await self._publication.publish([self._forwarded(record) for record in records])
            await self._commit({partition: done for partition, done in due.items() if done})
        for partition in [partition for partition, held in self._held.items() if not held]:
            del self._held[partition]
            if partition in self._consumer.assignment():
                self._consumer.resume(partition)

    async def _commit(self, done: Mapping[Any, Sequence[Any]]) -> None:
        for partition, records in done.items():
            held = self._held.get(partition)
            for record in records:
                if held and held[0].offset == record.offset:
                    held.popleft()
        offsets = {
            partition: records[-1].offset + 1
            for partition, records in done.items()
            if partition in self._consumer.assignment()
        }
        try:
            if offsets:
                await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            return  # a rebalance came between: the next owner publishes them once more
        except KafkaError as error:
            self._observer.notice(Trouble("retry_commit", type(error).__name__))

    def _due(self, record: Any) -> float:
        """Unix seconds. The topic's delay from its publication where no header says so."""
        published = record.timestamp / 1000
        delay = self._topics[record.topic]
        moment = headers.read_time(headers.read_headers(record.headers).get(headers.NOT_BEFORE))
        due = published + delay if moment is None else moment.timestamp()
        # Headers are not trusted: no record waits longer than its topic's delay.
        return float(min(due, published + delay + 1.0))

    def _forwarded(self, record: Any) -> OutgoingRecord:
        return OutgoingRecord(self._destination, record.key, record.value or b"", list(record.headers))


class _Listener(aiokafka.abc.ConsumerRebalanceListener):
    def __init__(self, waiter: RetryWaiter) -> None:
        self._waiter = waiter

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self._waiter.forget()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self._waiter.joined = True
