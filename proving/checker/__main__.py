"""`python -m proving.checker`: judges a run that is at rest. Exit status 0: every equation holds; 1: not; 2: usage."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence

from rich.console import Console

from proving.checker.facts import Conditions, seconds
from proving.checker.reading import Source, read_facts
from proving.checker.report import as_json, show
from proving.checker.verdict import judge


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    delays = tuple(options.retry_delays.split(","))
    source = Source(
        bootstrap=options.bootstrap,
        database_url=options.database_url,
        topic_prefix=options.topic_prefix,
        published=options.published,
        receipts=options.receipts,
        conditions=Conditions(
            platforms=tuple(options.platform or Conditions().platforms),
            personality=options.personality,
            delays=delays,
            last_delay=seconds(delays[-1]),
            deadline=seconds(options.deadline),
        ),
    )
    verdict = judge(asyncio.run(read_facts(source)))
    if options.json:
        print(json.dumps(as_json(verdict)))
    else:
        show(verdict, Console(soft_wrap=True))
    return 0 if verdict.holds else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proving.checker",
        description="Do E1 to E6, E9, order and formats hold, over what publisher, witness, Kafka and ledger say?",
        epilog="Example: python -m proving.checker --published published.jsonl --receipts receipts.jsonl "
        "--retry-delays 1s,2s,5s --deadline 60s",
        allow_abbrev=False,
    )
    add, usual = parser.add_argument, Conditions()
    env = os.environ
    add("--published", required=True, metavar="FILE", help="the publisher's log")
    add("--receipts", required=True, metavar="FILE", help="the witness's receipts")
    add("--bootstrap", default=env.get("KAFKA_BOOTSTRAP_SERVERS"), metavar="SERVERS", help="$KAFKA_BOOTSTRAP_SERVERS")
    add("--database-url", default=env.get("DATABASE_URL"), metavar="URL", help="default: $DATABASE_URL")
    add("--topic-prefix", default=env.get("IMPACT_IN_TOPIC_PREFIX", "impact."), help="default: impact.")
    add("--personality", choices=("keys", "counts"), default="keys", help="the witness's (default: keys)")
    add("--retry-delays", default="5s,1m,10m,1h", help="as the workers had them (default: 5s,1m,10m,1h)")
    add("--deadline", default="24h", help="as the workers had it (default: 24h)")
    add("--platform", action="append", choices=usual.platforms, help="enabled ones; repeat (default: all three)")
    add("--json", action="store_true", help="one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
