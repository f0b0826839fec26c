"""Header names that are no UTF-8, which any producer may write: aiokafka's parser raises on them, in the fetch, before
anything of ours sees the record, and then again at every start. Here they are read with replacement characters.

Only where the fast parser has failed is the slow one used, for that batch alone. `install` puts this in front of every
consumer of the process; `tests/streams/test_faust_internals.py` watches what it relies on.
"""

import struct
from collections.abc import Iterator
from typing import Any

import aiokafka.consumer.fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LENGTH_AT, _OVERHEAD, _MAGIC_AT = 8, 12, 16


class _LenientBytes(bytearray):
    """Slices of it decode whatever they hold."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return _LenientBytes(part) if isinstance(part, bytearray) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, "replace")


class _Batch:
    """A batch as the fast parser made it, read whole when it is iterated."""

    def __init__(self, fast: Any, raw: bytes) -> None:
        self._fast = fast
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fast, name)

    def __next__(self) -> Any:  # control batches are looked into without iterating
        return next(self._fast)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._fast))
        except UnicodeDecodeError:
            return iter(list(_leniently(self._raw)))


def _leniently(raw: bytes) -> Any:
    batch = _DefaultRecordBatchPy(bytearray(raw))
    iter(batch)  # decompresses
    batch._buffer = _LenientBytes(batch._buffer)
    return batch


class TolerantRecords:
    """`aiokafka.record.memory_records.MemoryRecords`, as far as a fetch uses it."""

    def __init__(self, raw: bytes) -> None:
        self._fast = MemoryRecords(raw)
        self._raw = raw
        self._position = 0

    def size_in_bytes(self) -> int:
        size: int = self._fast.size_in_bytes()
        return size

    def has_next(self) -> bool:
        more: bool = self._fast.has_next()
        return more

    def next_batch(self) -> Any:
        batch = self._fast.next_batch()
        if batch is None:
            return None
        start = self._position
        (length,) = struct.unpack_from(">i", self._raw, start + _LENGTH_AT)
        self._position = start + _OVERHEAD + length
        if self._raw[start + _MAGIC_AT] < 2:
            return batch  # the old format has no headers
        return _Batch(batch, self._raw[start : self._position])


def install() -> None:
    """For every consumer made from now on. May be called again."""
    aiokafka.consumer.fetcher.MemoryRecords = TolerantRecords
