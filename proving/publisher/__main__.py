"""`python -m proving.publisher`: publishes, and writes down each record with the place that the broker confirmed."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import aiokafka
import msgspec
from aiokafka.errors import KafkaError

from proving.publisher.encoding import as_avro, as_json
from proving.publisher.events import Intended, Mixture, companies, intended
from proving.publisher.journal import entry

_IN_FLIGHT = 500
_PLATFORMS = ("benevity", "goodera", "workday")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the broker confirmed every record. 1: it did not confirm some; the log says which. 2: usage."""
    return asyncio.run(_publish(_parser().parse_args(arguments)))


async def _publish(options: argparse.Namespace) -> int:
    mixture = Mixture(
        duplicates=options.duplicates, conflicts=options.conflicts, poison=options.poison,
        tombstones=options.tombstones, limited=options.limited,
    )  # fmt: skip
    ids = companies(options.seed, options.companies)
    platforms = options.platform or _PLATFORMS
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=options.bootstrap, enable_idempotence=True, linger_ms=2, request_timeout_ms=30_000
    )
    await producer.start()
    unconfirmed = count = 0
    started = time.monotonic()
    try:
        with options.log.open("ab") as log:
            waiting: list[tuple[int, Intended, bytes | None, str | None, Any]] = []
            for number, what in enumerate(intended(options.seed, options.events, ids, mixture, platforms), 1):
                value, encoding = _value(number, what)
                topic = f"{options.topic_prefix}metrics"
                future = await producer.send(topic, value=value, key=str(what.company_id).encode())
                waiting.append((number, what, value, encoding, future))
                count = number
                due = started + number / options.rate if options.rate else 0.0
                if len(waiting) >= _IN_FLIGHT or due > time.monotonic():
                    unconfirmed += await _confirm(log, topic, waiting)
                    waiting = []
                if options.rate:
                    await asyncio.sleep(max(due - time.monotonic(), 0))
            unconfirmed += await _confirm(log, f"{options.topic_prefix}metrics", waiting)
    finally:
        await producer.stop()
    print(json.dumps({"published": count, "unconfirmed": unconfirmed}), flush=True)
    return 1 if unconfirmed else 0


def _value(number: int, what: Intended) -> tuple[bytes | None, str | None]:
    """Every third event as JSON; a duplicate so has the other encoding now and then, and is the same event still."""
    if what.event is None:
        return what.raw, None
    return (as_json(what.event), "json") if number % 3 == 0 else (as_avro(what.event), "avro")


async def _confirm(
    log: BinaryIO, topic: str, waiting: Sequence[tuple[int, Intended, bytes | None, str | None, Any]]
) -> int:
    lost = 0
    for number, what, value, encoding, future in waiting:
        try:
            confirmed = await future
        except KafkaError as error:
            print(f"record {number} was not confirmed: {type(error).__name__}", file=sys.stderr)
            confirmed, lost = None, lost + 1
        log.write(msgspec.json.encode(entry(number, topic, what, value, encoding, confirmed)) + b"\n")
    log.flush()
    return lost


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proving.publisher",
        description="Publishes metric events and writes a log of what the broker confirmed.",
        epilog="Example: python -m proving.publisher --bootstrap 127.0.0.1:9092 --events 1000 --log published.jsonl",
        allow_abbrev=False,
    )
    usual = Mixture()
    add = parser.add_argument
    add("--bootstrap", required=True, metavar="SERVERS", help="Kafka's bootstrap servers")
    add("--topic-prefix", default="impact.", help="before `metrics` (default: impact.)")
    add("--events", type=int, required=True, metavar="N", help="distinct events")
    add("--companies", type=int, default=50, metavar="M", help="default: 50")
    add("--seed", type=int, default=1, help="the same seed publishes the same (default: 1)")
    add("--rate", type=float, default=0.0, metavar="R", help="records a second; 0: as fast as it goes (default)")
    add("--log", type=Path, required=True, metavar="FILE", help="JSON lines, appended")
    add("--platform", action="append", help="platforms that a limited event may ask for; repeat (default: all three)")
    for name in ("duplicates", "conflicts", "poison", "tombstones", "limited"):
        add(
            f"--{name}",
            type=float,
            default=getattr(usual, name),
            metavar="SHARE",
            help=f"default: {getattr(usual, name)}",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
