"""Retry topics: each record waits until it is due, then goes back to the platform's topic.

One delay a topic, so the head of a partition is always the first one due. A plain aiokafka consumer, because Faust's
`pause_partitions` drops what was fetched (facts, must 4).

Three things at once, none of which waits for another: records are read ahead, long before they are due; what is due is
published, many publications in the air; what was confirmed is committed, in order. A crash between confirmation and
commit publishes twice, and the second record meets a row that has moved on.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiokafka
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError
from mode import Service

from delivery.observer import Observer, Trouble
from delivery.ports import OutgoingRecord, PublishFailed
from delivery.publication import Publication
from schemas import headers
from streams.connection import KafkaConnection
from streams.reading import (
    CLOCK_SLACK,
    METADATA_MAX_AGE,
    behind,
    bounded_age,
    ended_parts,
    exhausted_for,
    knows_coordinator,
    out_of_group,
)
from streams.retry_shelf import Departure, RetryShelf, Waiting
from streams.tolerant_records import install

_POLL_SECONDS = 0.5
_POLL_RECORDS = 500
# Read ahead: a partition's fetch may have to wait for the others' long poll, and no due record should wait for that.
_AHEAD = 2_000
_BYTES_AHEAD = 16 * 1024 * 1024
_FETCH_BYTES = 256 * 1024
_AT_ONCE = 500
_IN_AIR = 8
_TRY_AGAIN_AFTER = 0.5
_LAST_CONFIRMATIONS = 5.0

install()


class RetryWaiter(Service):
    """The waiter of one platform's retry topics."""

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
        forwarded: Callable[[Sequence[float]], None] = lambda late: None,
        **options: Any,
    ) -> None:
        """`forwarded(late)`: these records are back, so many seconds after each was due."""
        super().__init__(**options)
        self._on_forwarded = forwarded
        self._topics = topics
        self._destination = destination
        self._publication = publication
        self._observer = observer
        self._shelf = RetryShelf(most=_AHEAD, most_bytes=_BYTES_AHEAD)
        self._air: deque[tuple[Departure, asyncio.Task[None]]] = deque()
        # Something to publish may have come; something to confirm has.
        self._stirred = asyncio.Event()
        self._departed = asyncio.Event()
        self.joined = False
        self._turns = self._departures = 0
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
            metadata_max_age_ms=METADATA_MAX_AGE,
            max_poll_records=_POLL_RECORDS,
            max_partition_fetch_bytes=_FETCH_BYTES,
        )

    async def on_start(self) -> None:
        self._consumer.subscribe(list(self._topics), listener=_Listener(self))
        await self._consumer.start()

    async def on_stop(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_CONFIRMATIONS):
                while self._air:
                    await self._conclude()
        for _, task in self._air:
            task.cancel()
        await self._consumer.stop()

    @Service.task
    async def _read(self) -> None:
        while not self.should_stop:
            self._turns += 1
            try:
                await self._fetch()
            except ConsumerStoppedError:
                if self.should_stop:
                    return
                raise

    @Service.task
    async def _forward(self) -> None:
        while not self.should_stop:
            self._departures += 1
            self._stirred.clear()
            now = time.time()
            departure = self._shelf.take_due(now, _AT_ONCE) if len(self._air) < _IN_AIR else None
            if departure is not None:
                # One task after another takes its turn at the publisher: their records keep the order of the tasks.
                records = [self._forwarded(record) for record in departure.records]
                self._air.append((departure, asyncio.create_task(self._publication.publish_once(records))))
                self._departed.set()
                continue
            due = self._shelf.next_due()
            # With the air full, a confirmation stirs.
            wait = _POLL_SECONDS if due is None or len(self._air) >= _IN_AIR else min(due - now, _POLL_SECONDS)
            with contextlib.suppress(TimeoutError):
                # A timer counts whole milliseconds, and may be early by one.
                await asyncio.wait_for(self._stirred.wait(), wait + 0.001)

    @Service.task
    async def _confirm(self) -> None:
        while not self.should_stop:
            self._departed.clear()
            if self._air:
                await self._conclude()
            else:
                await self._departed.wait()

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
        found: dict[str, object] = {
            "its retry waiter does not turn": self._turns,
            "its retry waiter does not look for what is due": self._departures,
        }
        if out_of_group(self._consumer):
            found["its retry waiter is out of its group"] = ()
        return found

    def forget(self) -> None:
        """What was held of revoked partitions is their next owner's; what is in the air comes twice."""
        self._shelf.forget()

    def progress(self) -> dict[tuple[str, int], float]:
        """(topic, partition) → age in seconds of what it has read up to."""
        now, answer = time.time(), {}
        for partition in self._consumer.assignment():
            oldest = self._shelf.oldest(partition)
            if oldest is not None:
                answer[partition.topic, partition.partition] = bounded_age(now - oldest + CLOCK_SLACK)
                continue
            age = exhausted_for(self._consumer, partition)
            if age is not None:
                answer[partition.topic, partition.partition] = age
        return answer

    def lag(self) -> dict[str, int]:
        """Topic → records that have not gone back, of the partitions that are ours."""
        answer = dict.fromkeys(self._topics, 0)
        for partition in self._consumer.assignment():
            answer[partition.topic] += behind(self._consumer, partition, self._shelf.first(partition))
        return answer

    @property
    def holds(self) -> int:
        """Records fetched that have not gone: they wait for their time, or for the broker's confirmation."""
        return len(self._shelf)

    async def _fetch(self) -> None:
        fetched = await self._consumer.getmany(timeout_ms=round(_POLL_SECONDS * 1000))
        for partition, records in fetched.items():
            if partition in self._consumer.assignment():
                self._shelf.put(partition, map(self._to_wait, records))
        self._stirred.set()
        self._pause_and_resume()

    def _pause_and_resume(self) -> None:
        """aiokafka drops what it has fetched of a paused partition and not handed over, and fetches it anew later."""
        paused = self._consumer.paused()
        for partition in self._consumer.assignment():
            if partition in paused:
                if self._shelf.roomy(partition):
                    self._consumer.resume(partition)
            elif self._shelf.full(partition):
                self._consumer.pause(partition)

    async def _conclude(self) -> None:
        """Waits for the oldest publication, then commits it with all that are confirmed behind it."""
        _, first = self._air[0]
        await asyncio.wait([first])
        gone: list[Departure] = []
        failure: str | None = None
        while self._air and self._air[0][1].done() and failure is None:
            failure = self._failure(self._air[0][1])
            if failure is None:
                gone.append(self._air.popleft()[0])
        offsets = self._shelf.confirmed(gone)
        if gone:
            now = time.time()
            self._on_forwarded([now - due for departure in gone for due in departure.due])
        self._stirred.set()
        if offsets:
            await self._commit(offsets)
        if failure is not None:
            await self._start_over(failure)

    @staticmethod
    def _failure(task: "asyncio.Task[None]") -> str | None:
        try:
            task.result()
        except PublishFailed as error:
            return str(error)
        return None

    async def _start_over(self, failure: str) -> None:
        """A publication failed: all after it come again too, so that none overtakes it for good."""
        self._observer.notice(Trouble("retry_publish", failure))
        await asyncio.sleep(_TRY_AGAIN_AFTER)
        # What departs in the meantime is among them: nothing is taken back while it may still arrive.
        while tasks := [task for _, task in self._air if not task.done()]:
            await asyncio.wait(tasks)
        self._air.clear()
        self._shelf.take_back()
        self._stirred.set()

    async def _commit(self, offsets: Mapping[Any, int]) -> None:
        ours = self._consumer.assignment()
        try:
            await self._consumer.commit(
                {partition: offset for partition, offset in offsets.items() if partition in ours}
            )
        except (CommitFailedError, IllegalStateError):
            return  # a rebalance came between: the next owner publishes them once more
        except KafkaError as error:
            self._observer.notice(Trouble("retry_commit", type(error).__name__))

    def _to_wait(self, record: Any) -> Waiting:
        return Waiting(
            offset=record.offset,
            due=self._due(record),
            timestamp=record.timestamp / 1000,
            size=len(record.value or b"") + sum(len(value or b"") for _, value in record.headers),
            record=record,
        )

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
