"""What the publisher does with a producer that makes it wait, without a broker."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError, UnknownTopicOrPartitionError

from delivery.ports import OutgoingRecord, PublishFailed, RecordTooLarge
from streams.publisher import KafkaPublisher

pytestmark = pytest.mark.fast


class Producer:
    """Confirms at once what it takes. A missing topic is waited for until `appear`, or until `give_up`."""

    def __init__(self) -> None:
        self.taken: defaultdict[str, list[bytes]] = defaultdict(list)
        self.missing: dict[str, asyncio.Event] = {}
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.gone = False

    def miss(self, topic: str) -> None:
        self.missing[topic] = asyncio.Event()

    def appear(self, topic: str) -> None:
        self.missing.pop(topic).set()

    def give_up(self, topic: str) -> None:
        self.missing[topic].set()

    async def send(self, topic: str, *, value: bytes, key: bytes | None, headers: Any) -> asyncio.Future[None]:
        if topic in self.missing:
            self.asked.put_nowait(topic)
            await self.missing[topic].wait()
            if topic in self.missing:
                raise UnknownTopicOrPartitionError
        if value == b"large":
            raise MessageSizeTooLargeError
        self.taken[topic].append(value)
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        confirmed.set_result(None)
        return confirmed


def records(topic: str, *values: bytes) -> list[OutgoingRecord]:
    return [OutgoingRecord(topic, b"key", value, []) for value in values]


def publishing(publisher: KafkaPublisher, *groups: Sequence[OutgoingRecord]) -> asyncio.Task[None]:
    return asyncio.create_task(publisher.publish([record for group in groups for record in group]))


async def test_nobody_waits_for_a_missing_topic_who_has_no_record_for_it() -> None:
    producer = Producer()
    publisher = KafkaPublisher(producer)
    producer.miss("missing")
    waiting = publishing(publisher, records("missing", b"1"), records("there", b"1"))
    assert await producer.asked.get() == "missing"
    async with asyncio.timeout(5):
        await publisher.publish(records("there", b"2"))
    assert producer.taken["there"] == [b"1", b"2"]  # the call's own record for it did not wait either
    assert not waiting.done()
    producer.appear("missing")
    await waiting
    assert producer.taken["missing"] == [b"1"]


async def test_calls_keep_their_order_through_a_wait_for_their_topic() -> None:
    producer = Producer()
    publisher = KafkaPublisher(producer)
    producer.miss("missing")
    calls = [publishing(publisher, records("missing", *values)) for values in ((b"1", b"2"), (b"3",), (b"4", b"5"))]
    await producer.asked.get()
    producer.appear("missing")
    await asyncio.gather(*calls)
    assert producer.taken["missing"] == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_topic_that_stays_missing_fails_its_call_and_nothing_of_it_goes_out_of_order() -> None:
    producer = Producer()
    publisher = KafkaPublisher(producer)
    producer.miss("missing")
    waiting = publishing(publisher, records("missing", b"1", b"2"), records("there", b"1"))
    await producer.asked.get()
    producer.give_up("missing")
    with pytest.raises(PublishFailed, match="UnknownTopicOrPartitionError"):
        await waiting
    assert producer.taken == {"there": [b"1"]}


async def test_what_is_too_large_of_several_topics_is_named_and_the_rest_confirmed() -> None:
    producer = Producer()
    publisher = KafkaPublisher(producer)
    large = [*records("a", b"large"), *records("b", b"large")]
    with pytest.raises(RecordTooLarge) as caught:
        await publisher.publish([*records("a", b"1"), *large, *records("b", b"2")])
    assert list(caught.value.records) == large
    assert producer.taken == {"a": [b"1"], "b": [b"2"]}
