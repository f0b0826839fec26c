"""`python -m proving.publisher`: publishes, and writes down each record with the place that the broker confirmed."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import aiokafka

from proving.publisher.events import Mixture, companies, intended
from proving.publisher.sending import Sent, confirm, send

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
        options.log.touch()
        waiting: list[Sent] = []
        for number, what in enumerate(intended(options.seed, options.events, ids, mixture, platforms), 1):
            waiting.append(await send(producer, f"{options.topic_prefix}metrics", number, what))
            count = number
            due = started + number / options.rate if options.rate else 0.0
            if len(waiting) >= _IN_FLIGHT or due > time.monotonic():
                unconfirmed += await confirm(options.log, waiting)
                waiting = []
            if options.rate:
                await asyncio.sleep(max(due - time.monotonic(), 0))
        unconfirmed += await confirm(options.log, waiting)
    finally:
        await producer.stop()
    print(json.dumps({"published": count, "unconfirmed": unconfirmed}), flush=True)
    return 1 if unconfirmed else 0


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
