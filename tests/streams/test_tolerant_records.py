"""A header's name that is no UTF-8 costs nobody a record."""

import aiokafka.consumer.fetcher
import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords

from streams.tolerant_records import TolerantRecords, install

pytestmark = pytest.mark.fast


class Name(str):
    """A header's name as some producers write it."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe" if self == "odd" else super().encode(encoding, errors)


def batch(*names: str, compression: int = 0) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=10_000,
    )
    for offset, name in enumerate(names):
        headers = [(Name(name), b"value"), ("second", None)]
        builder.append(offset, timestamp=1_000 + offset, key=b"k", value=b"v%d" % offset, headers=headers)
    return bytes(builder.build())


def read(raw: bytes) -> list[list[tuple[bytes, list[tuple[str, bytes | None]]]]]:
    records = TolerantRecords(raw)
    found = []
    while records.has_next():
        found.append([(record.value, list(record.headers)) for record in records.next_batch()])
    return found


def test_aiokafka_itself_still_fails_on_it() -> None:
    records = MemoryRecords(batch("odd"))
    with pytest.raises(UnicodeDecodeError):
        list(records.next_batch())


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4])
def test_every_record_of_the_batch_is_read_and_its_neighbours_too(compression: int) -> None:
    raw = batch("plain") + batch("plain", "odd", "plain", compression=compression) + batch("plain")
    first, second, third = read(raw)
    assert first == third == [(b"v0", [("plain", b"value"), ("second", None)])]
    assert [value for value, _ in second] == [b"v0", b"v1", b"v2"]
    assert second[1][1] == [("\ufffd\ufffd", b"value"), ("second", None)]
    assert second[2][1] == [("plain", b"value"), ("second", None)]


def test_batches_still_say_what_a_fetch_asks_them() -> None:
    records = TolerantRecords(batch("plain"))
    assert records.size_in_bytes() == len(batch("plain"))
    found = records.next_batch()
    assert found.validate_crc()
    assert (found.is_control_batch, found.next_offset) == (False, 1)
    assert records.next_batch() is None


def test_it_stands_in_front_of_every_consumer() -> None:
    install()
    assert aiokafka.consumer.fetcher.MemoryRecords is TolerantRecords
