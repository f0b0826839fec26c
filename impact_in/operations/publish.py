"""Publishing events as an upstream service does: keyed by company, a trace for each, confirmed by the broker."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import BinaryIO, Literal

import msgspec

from delivery.ports import OutgoingRecord, Publisher, PublishFailed, RecordTooLarge
from impact_in.operations.event_files import Entry, read_events
from schemas import ImpactMetricEvent, encode_single_object, headers
from schemas.event import to_avro
from schemas.reading import to_json_fields
from schemas.trace import new_traceparent

Encoding = Literal["avro", "json"]

_AT_ONCE = 200
_PACES_A_SECOND = 10
_CHUNKS_AHEAD = 8


class Invalid(msgspec.Struct, frozen=True):
    """A line (or record) that was not published, and why; the reason quotes none of it."""

    line: int
    reason: str


class PublishSummary(msgspec.Struct, frozen=True):
    published: int
    invalid: list[Invalid]
    seconds: float


class Progress(msgspec.Struct, frozen=True):
    """`position`: bytes of the file that were read, where the file knows."""

    published: int
    position: int | None
    invalid: Sequence[Invalid]
    """Found since the last report."""


class PublishInterrupted(PublishFailed):
    """The broker stopped confirming in the middle of a file."""


def record(topic: str, event: ImpactMetricEvent, encoding: Encoding) -> OutgoingRecord:
    """The event as a record, the beginning of a new trace."""
    value = encode_single_object(to_avro(event)) if encoding == "avro" else msgspec.json.encode(to_json_fields(event))
    return OutgoingRecord(
        topic, str(event.company_id).encode(), value, headers.write_headers({headers.TRACEPARENT: new_traceparent()})
    )


async def publish_file(
    stream: BinaryIO,
    publisher: Publisher,
    topic: str,
    *,
    encoding: Encoding = "avro",
    rate: float = 0.0,
    report: Callable[[Progress], None] = lambda progress: None,
) -> PublishSummary:
    """Publishes every good event of the file, in its order; what is none is named and stops nothing.

    `rate`: events a second, 0 is as fast as the broker confirms. Raises PublishInterrupted.
    """
    started = time.monotonic()
    published = 0
    invalid: list[Invalid] = []
    at_once = max(1, min(_AT_ONCE, int(rate / _PACES_A_SECOND))) if rate else _AT_ONCE
    chunks = _Chunks(stream, at_once)
    while (chunk := await chunks.next()) is not None:
        entries, position = chunk
        wrong = [Invalid(entry.line, entry.reason) for entry in entries if entry.event is None]
        records = [(entry.line, record(topic, entry.event, encoding)) for entry in entries if entry.event is not None]
        try:
            await publisher.publish([one for _, one in records])
        except RecordTooLarge as error:
            refused = {id(one) for one in error.records}
            wrong += [
                Invalid(line, "the broker refuses a record of this size") for line, one in records if id(one) in refused
            ]
            published -= len(refused)
        except PublishFailed as error:
            raise PublishInterrupted(
                f"{error}; {published} events are published, and to publish them once more is harmless"
            ) from error
        published += len(records)
        invalid += wrong
        report(Progress(published, position, wrong))
        if rate:
            await asyncio.sleep(max(0.0, started + published / rate - time.monotonic()))
    return PublishSummary(published, sorted(invalid, key=lambda one: one.line), time.monotonic() - started)


class _Chunks:
    """Reads ahead in a thread of its own, since a pipe may keep its reader waiting for as long as it likes.

    A daemon thread: where publishing ends before the file does, the process must not wait for the rest of it.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        # A terminal's or pipe's line is published when it comes, not when enough of them have come.
        self._size = size if stream.seekable() else 1
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[list[Entry], int | None] | BaseException | None] = asyncio.Queue()
        self._room = threading.Semaphore(_CHUNKS_AHEAD)
        threading.Thread(target=self._read, name="reading events", daemon=True).start()

    async def next(self) -> tuple[list[Entry], int | None] | None:
        """Entries and the position behind them; None at the end. Raises OSError where the file cannot be read."""
        chunk = await self._queue.get()
        self._room.release()
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def _read(self) -> None:
        end: BaseException | None = None
        try:
            entries: list[Entry] = []
            for entry in read_events(self._stream):
                entries.append(entry)
                if len(entries) >= self._size:
                    self._put((entries, self._position()))
                    entries = []
            if entries:
                self._put((entries, self._position()))
        except Exception as error:
            end = error
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._put(end)

    def _position(self) -> int | None:
        return self._stream.tell() if self._stream.seekable() else None

    def _put(self, chunk: tuple[list[Entry], int | None] | BaseException | None) -> None:
        self._room.acquire()
        self._loop.call_soon_threadsafe(self._queue.put_nowait, chunk)
