"""`python -m proving.run`: one run under conditions of your choice, and whether the equations hold."""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import redis.asyncio
from rich.console import Console

from proving.checker.report import as_json, show
from proving.checker.verdict import Verdict, same_end
from proving.stand import WORKER, Conditions, NotAtRest, Stand, own_servers, say_on_stderr, scratch

_EXAMPLES = """examples:
  python -m proving.run                                         2,000 events, no faults
  python -m proving.run --events 5000 --companies 50 --faults some
  python -m proving.run --events 5000 --faults many --kills 3   SIGKILL three times in full flow
  python -m proving.run --workers 2 --personality counts --kills 2
  python -m proving.run --flush-redis                           FLUSHALL in mid-run, compared with a run without (E11)
  python -m proving.run --keep /tmp/proof                       receipts, publisher's log and worker logs stay there
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every equation holds. 1: not, or it did not come to rest. 2: usage."""
    options = _parser().parse_args(arguments)
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        options.keep = options.keep.resolve()
    return asyncio.run(_main(options))


async def _main(options: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        verdict = await _runs(options)
    except NotAtRest as why:
        print(f"not at rest: {why}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 1
    if options.json:
        print(json.dumps(as_json(verdict)))
    else:
        show(verdict, Console(soft_wrap=True))
    return 0 if verdict.holds else 1


async def _runs(options: argparse.Namespace) -> Verdict:
    async with scratch(options.keep) as directory:
        say_on_stderr("starting Apache Kafka, PostgreSQL and Valkey …")
        if not options.flush_redis:
            async with own_servers(directory) as servers:
                return await _run(
                    options, Stand(servers, _conditions(options), directory, say=say_on_stderr), flush=False
                )
        verdicts = []
        for name, flush in (("plain", False), ("flushed", True)):
            say_on_stderr(f"the run {'with FLUSHALL in its middle' if flush else 'to compare with'}:")
            (directory / name).mkdir(exist_ok=True)
            async with own_servers(directory / name) as servers:
                stand = Stand(servers, _conditions(options), directory / name, say=say_on_stderr)
                verdicts.append(await _run(options, stand, flush=flush))
        return same_end(verdicts[1], verdicts[0])


async def _run(options: argparse.Namespace, stand: Stand, *, flush: bool) -> Verdict:
    names = [f"worker{number}" for number in range(1, options.workers + 1)]
    async with stand:
        workers = {name: await stand.start_worker(name, command=options.worker.split()) for name in names}
        started = time.monotonic()
        publisher = await stand.start_publisher()
        steps = options.kills + flush
        for step in range(1, steps + 1):
            await stand.until_records(step * options.events // (steps + 1), within=options.timeout)
            if flush and step == 1:
                async with redis.asyncio.Redis.from_url(stand.servers.redis_url) as client:
                    await client.flushall()
                say_on_stderr(f"{time.monotonic() - started:5.1f} s  FLUSHALL")
                continue
            name = names[step % len(names)]
            workers[name].kill()
            await workers[name].wait()
            say_on_stderr(f"{time.monotonic() - started:5.1f} s  killed {name}")
            workers[name] = await stand.start_worker(name, command=options.worker.split())
        if await publisher.wait() != 0:
            raise NotAtRest(await publisher.epitaph())
        await stand.rest(within=options.timeout)
        took = time.monotonic() - started
        say_on_stderr(f"{took:5.1f} s  at rest; reading topics, tables and receipts …")
        return await stand.verdict()


def _conditions(options: argparse.Namespace) -> Conditions:
    return Conditions(
        events=options.events,
        companies=options.companies,
        seed=options.seed,
        faults=options.faults,
        personality=options.personality,
        answer_ms=options.answer_ms,
        rate=options.rate,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proving.run",
        description="Publishes events to Kafka, lets workers deliver them to a witness, and checks the equations.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add, usual = parser.add_argument, Conditions()
    add("--events", type=int, default=usual.events, metavar="N", help=f"default: {usual.events}")
    add("--companies", type=int, default=usual.companies, metavar="M", help=f"default: {usual.companies}")
    add("--seed", type=int, default=usual.seed, help="same seed: same events, same faults (default: 1)")
    add("--faults", choices=("none", "some", "many"), default=usual.faults, help="the platforms' (default: none)")
    add(
        "--personality", choices=("keys", "counts"), default="keys", help="the platforms honour keys, or count requests"
    )
    add("--answer-ms", type=float, default=usual.answer_ms, metavar="MS", help="the platforms' (default: 5)")
    add("--rate", type=float, default=0.0, metavar="R", help="records a second; 0: as fast as it goes (default)")
    add("--workers", type=int, default=1, metavar="W", help="worker processes (default: 1)")
    add(
        "--worker",
        default=" ".join(WORKER),
        metavar="COMMAND",
        help="what follows `python -m` (default: the product's)",
    )
    add("--kills", type=int, default=0, metavar="K", help="SIGKILL a worker so often, spread over the run")
    add("--flush-redis", action="store_true", help="run twice, once with FLUSHALL, and compare (E11)")
    add("--timeout", type=float, default=300.0, metavar="SECONDS", help="until it has to be at rest (default: 300)")
    add("--keep", type=Path, metavar="DIRECTORY", help="where everything stays; default: nothing does")
    add("--json", action="store_true", help="one JSON object on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
