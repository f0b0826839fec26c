"""A record on its way to the broker, and its line in the publisher's log once it is there."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiokafka
import msgspec
from aiokafka.errors import KafkaError

from proving.publisher.encoding import as_avro, as_json
from proving.publisher.events import Intended
from proving.publisher.journal import entry


class Sent(NamedTuple):
    """`confirmation` is awaited for the broker's metadata of the record."""

    number: int
    topic: str
    what: Intended
    value: bytes | None
    encoding: str | None
    confirmation: Any


async def send(producer: aiokafka.AIOKafkaProducer, topic: str, number: int, what: Intended) -> Sent:
    value, encoding = _value(number, what)
    confirmation = await producer.send(topic, value=value, key=str(what.company_id).encode())
    return Sent(number, topic, what, value, encoding, confirmation)


async def confirm(log: Path, waiting: Sequence[Sent]) -> int:
    """Appends a line for each record; how many the broker did not confirm."""
    lost = 0
    with log.open("ab") as file:
        for sent in waiting:
            try:
                confirmed = await sent.confirmation
            except KafkaError as error:
                print(f"record {sent.number} was not confirmed: {type(error).__name__}", file=sys.stderr)
                confirmed, lost = None, lost + 1
            line = entry(sent.number, sent.topic, sent.what, sent.value, sent.encoding, confirmed)
            file.write(msgspec.json.encode(line) + b"\n")
    return lost


def _value(number: int, what: Intended) -> tuple[bytes | None, str | None]:
    """Every third event as JSON; a duplicate so has the other encoding now and then, and is the same event still."""
    if what.event is None:
        return what.raw, None
    return (as_json(what.event), "json") if number % 3 == 0 else (as_avro(what.event), "avro")
