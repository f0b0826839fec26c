"""impact.metrics → the ledger → delivery requests.

Order of steps, and the crash that each survives: rows are committed before a request is published (a crash between
leaves unfinished rows, and the record, unacked, is read again and publishes them as they stand); requests are confirmed
before the record is acked; the fast memory is written last, so that it never knows more than the ledger.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import msgspec

from connectors.contract import Connector
from delivery.observer import DeadLettered, EventConsumed, Observer
from delivery.patience import patiently
from delivery.ports import IncomingRecord, OutgoingRecord
from delivery.publication import Publication
from delivery.recent_events import RecentEvents
from delivery.records import request_record, unreadable_record
from delivery_log.contract import Arrival, DeliveryLedger, Origin, Recorded
from guards.contract import SeenBefore, Sighting
from schemas import ImpactMetricEvent, Topics, Unreadable, UnreadableKind, avro, content_hash, decode, headers
from schemas.event import to_avro
from schemas.trace import new_traceparent, valid_traceparent

_CONFLICT = Unreadable(UnreadableKind.ID_CONFLICT, "another event with this event_id, and other content, came first")


class Readable(msgspec.Struct, frozen=True):
    """A record that is an event."""

    record: IncomingRecord
    event: ImpactMetricEvent
    arrival: Arrival


class Judged(msgspec.Struct, frozen=True):
    """What is to be published before these records may be acked, and what may be remembered afterwards."""

    outgoing: list[OutgoingRecord]
    sightings: dict[UUID, Sighting]
    results: Counter[str]


class Ingest:
    """`judge` then `conclude`, in micro-batches. Keep one `judge` in the air: the ledger's order of a company is the
    order of these calls. `conclude` of one batch may overlap with `judge` of the next, in order."""

    def __init__(
        self,
        *,
        ledger: DeliveryLedger,
        seen: SeenBefore,
        publication: Publication,
        topics: Topics,
        connectors: Mapping[str, Connector],
        observer: Observer,
        read: Callable[[bytes], ImpactMetricEvent | Unreadable] = decode,
        recent: RecentEvents | None = None,
    ) -> None:
        self._ledger = ledger
        self._seen = seen
        self._publication = publication
        self._topics = topics
        self._connectors = connectors
        self._observer = observer
        self._read = read
        self._recent = recent

    async def judge(self, records: Sequence[IncomingRecord]) -> Judged:
        """Decides what each record is, and commits it to the ledger. Waits while the ledger is away."""
        judged = Judged([], {}, Counter())
        readable: list[Readable] = []
        for record in records:
            found = self._read_record(record)
            if found is None:
                judged.results["tombstone"] += 1
            elif isinstance(found, Unreadable):
                self._reject(record, found, judged)
            else:
                readable.append(found)
        unknown = await self._drop_remembered(readable, judged)
        if unknown:
            arrivals = [item.arrival for item in unknown]
            recorded = await patiently(lambda: self._ledger.record_events(arrivals), self._observer, "record_events")
            for item, answer in zip(unknown, recorded, strict=True):
                self._take(item, answer, judged)
        for result, count in judged.results.items():
            self._observer.notice(EventConsumed(result, count))
        return judged

    async def conclude(self, judged: Judged) -> None:
        """Publishes; returns when the broker has confirmed, and the records may be acked."""
        await self._publication.publish(judged.outgoing)
        await self._seen.remember(judged.sightings)

    def _read_record(self, record: IncomingRecord) -> Readable | Unreadable | None:
        """None: a tombstone, which asks for nothing."""
        if record.value is None:
            return None
        try:
            event = self._read(record.value)
            return event if isinstance(event, Unreadable) else Readable(record, event, self._arrival(record, event))
        except Exception as error:  # a defect of ours must not lose the record: it is kept as it came
            return Unreadable(UnreadableKind.INTERNAL_ERROR, f"reading the record failed: {type(error).__name__}")

    def _reject(self, record: IncomingRecord, unreadable: Unreadable, judged: Judged) -> None:
        judged.outgoing.append(unreadable_record(record, unreadable, self._topics.metrics_dlt))
        judged.results[unreadable.kind] += 1
        self._observer.notice(DeadLettered(None, unreadable.kind))

    def _arrival(self, record: IncomingRecord, event: ImpactMetricEvent) -> Arrival:
        body = to_avro(event)
        found = headers.read_headers(record.headers) if record.headers else {}
        return Arrival(
            event_id=event.event_id,
            company_id=event.company_id,
            content_hash=content_hash(body),
            body=body,
            traceparent=valid_traceparent(found.get(headers.TRACEPARENT)) or new_traceparent(),
            platforms=tuple(
                name
                for name, connector in self._connectors.items()
                if (event.platforms is None or name in event.platforms) and connector.understands(event)
            ),
            origin=Origin(record.topic, record.partition, record.offset),
        )

    async def _drop_remembered(self, readable: list[Readable], judged: Judged) -> list[Readable]:
        """What the fast memory knows for a duplicate is done; everything else asks the ledger."""
        sightings = await self._seen.lookup([item.arrival.event_id for item in readable])
        unknown = []
        for item in readable:
            sighting = sightings.get(item.arrival.event_id)
            elsewhere = sighting is not None and (sighting.topic, sighting.partition, sighting.offset) != (
                item.record.topic,
                item.record.partition,
                item.record.offset,
            )
            if sighting is not None and elsewhere and sighting.content_hash == item.arrival.content_hash:
                judged.results["duplicate"] += 1
            else:
                unknown.append(item)
        return unknown

    def _take(self, item: Readable, recorded: Recorded, judged: Judged) -> None:
        if recorded.recording == "conflict":
            self._reject(item.record, _CONFLICT, judged)
            return
        judged.results[recorded.recording] += 1
        for request in recorded.requests:
            judged.outgoing.append(request_record(request, self._topics, original_timestamp=item.record.timestamp))
        if self._recent is not None and recorded.recording == "accepted":
            value = avro.encode_single_object(item.arrival.body)
            self._recent.keep(value, item.event, [request.platform for request in recorded.requests])
        if recorded.recording in ("accepted", "unrouted"):
            judged.sightings[item.arrival.event_id] = Sighting(
                item.arrival.content_hash, item.record.topic, item.record.partition, item.record.offset
            )


class IngestPipeline:
    """Drives `Ingest`: one judge in the air, conclusions in order behind it, at most `ahead` of them.

    `done` is called with the records of a batch, in order, when they may be acked.
    """

    def __init__(
        self, ingest: Ingest, done: Callable[[Sequence[IncomingRecord]], None], *, largest: int = 500, ahead: int = 4
    ) -> None:
        self._ingest = ingest
        self._done = done
        self._largest = largest
        self._slots = asyncio.Semaphore(ahead)
        self._queue: asyncio.Queue[IncomingRecord] = asyncio.Queue(maxsize=4 * largest)

    async def put(self, record: IncomingRecord) -> None:
        """Waits while the queue is full."""
        await self._queue.put(record)

    async def run(self) -> None:
        """Until cancelled. An exception here is a defect, and ends the worker: nothing was acked."""
        try:
            async with asyncio.TaskGroup() as conclusions:
                await self._judge_all(conclusions)
        except ExceptionGroup as defects:
            raise defects.exceptions[0] from None

    async def _judge_all(self, conclusions: asyncio.TaskGroup) -> None:
        before: asyncio.Task[None] | None = None
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self._largest and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            judged = await self._ingest.judge(batch)
            await self._slots.acquire()
            before = conclusions.create_task(self._conclude(batch, judged, before))

    async def _conclude(
        self, batch: Sequence[IncomingRecord], judged: Judged, before: "asyncio.Task[None] | None"
    ) -> None:
        try:
            # Publishing begins before the batch before is through: the producer keeps the order of the calls.
            await self._ingest.conclude(judged)
            if before is not None:
                await before
            self._done(batch)
        finally:
            self._slots.release()
