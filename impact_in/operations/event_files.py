"""Files of events: JSON lines, an Avro object container file, or one Avro single-object record; told apart by their
first bytes."""

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import fastavro
import msgspec

from schemas import ImpactMetricEvent, Unreadable, decode
from schemas.avro import SINGLE_OBJECT_MARKER
from schemas.reading import MAX_RECORD_BYTES, decode_json

CONTAINER_MAGIC = b"Obj\x01"
_UTF8_MARK = b"\xef\xbb\xbf"


class Entry(msgspec.Struct, frozen=True):
    """`line`: number of the line, or in a container of the record, from 1. `event`, or why there is none."""

    line: int
    event: ImpactMetricEvent | None
    reason: str = ""


def read_events(stream: BinaryIO) -> Iterator[Entry]:
    """Every event and everything that is none, one after another; holds one of them in memory."""
    head = b""
    while len(head) < len(CONTAINER_MAGIC) and (more := stream.read(len(CONTAINER_MAGIC) - len(head))):
        head += more
    whole: BinaryIO = io.BufferedReader(_Joined(head, stream))
    if head == CONTAINER_MAGIC:
        yield from _container(whole)
    elif head.startswith((SINGLE_OBJECT_MARKER, b"\0")):
        yield _entry(1, decode(whole.read(MAX_RECORD_BYTES + 1)))
    else:
        yield from _lines(whole)


class _Joined(io.RawIOBase):
    """What was read to look at it, and then the rest."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        # From a pipe what is there now, not as much as was asked for: a line should not wait for the next ones.
        self._read = getattr(rest, "read1", rest.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._head[: len(buffer)] or self._read(len(buffer))
        self._head = self._head[len(chunk) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _lines(stream: BinaryIO) -> Iterator[Entry]:
    number = 0
    while line := stream.readline(MAX_RECORD_BYTES + 2):
        number += 1
        whole = line.endswith(b"\n")
        while not whole and (rest := stream.readline(MAX_RECORD_BYTES)):  # too long, and to be named once
            whole = rest.endswith(b"\n")
        if number == 1:
            line = line.removeprefix(_UTF8_MARK)
        line = line.strip(b" \t\r\n")
        if not line:
            continue
        if len(line) > MAX_RECORD_BYTES:
            yield Entry(number, None, f"the line has more than {MAX_RECORD_BYTES} bytes")
        else:
            yield _entry(number, decode_json(line))


def _container(stream: BinaryIO) -> Iterator[Entry]:
    number = 0
    try:
        for record in fastavro.reader(stream):
            number += 1
            # Through JSON: then a file with other types, or with a field more, is judged by the same rules as a line.
            yield _entry(number, _from_record(record))
    except Exception as error:  # fastavro raises whatever its C code met; there is no next record to go on with
        yield Entry(number + 1, None, f"the Avro file cannot be read further ({type(error).__name__})")


def _from_record(record: Any) -> ImpactMetricEvent | Unreadable:
    return decode_json(msgspec.json.encode(record))


def _entry(line: int, read: ImpactMetricEvent | Unreadable) -> Entry:
    return Entry(line, None, read.detail) if isinstance(read, Unreadable) else Entry(line, read)
