"""python -m benchmarks.run [--quick] [--full-memory] [--no-document] [name…]

Runs them one after another, each on servers of its own; status 1 where a fault was seen (lost, doubled, out of order,
early). A mark that is not reached is said, and no failure: machines differ.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable

from rich.console import Console

from benchmarks import (
    batches,
    deliver_only,
    kill,
    latency,
    memory,
    processes,
    quota,
    retry_lateness,
    sick_company,
    whole_way,
)
from benchmarks.machine import describe
from benchmarks.outcome import Outcome
from benchmarks.results import Result, save, show, write_document

MEASURES: dict[str, Callable[..., Awaitable[Outcome]]] = {
    "whole_way": whole_way.measure,
    "processes": processes.measure,
    "deliver_only": deliver_only.measure,
    "batches": batches.measure,
    "quota": quota.measure,
    "latency": latency.measure,
    "sick_company": sick_company.measure,
    "retry_lateness": retry_lateness.measure,
    "kill": kill.measure,
    "memory": memory.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(MEASURES)}; all where none is named")
    parser.add_argument("--quick", action="store_true", help="fewer events and runs: to see that it works")
    parser.add_argument("--full-memory", action="store_true", help="a million events in `memory`")
    parser.add_argument("--no-document", action="store_true", help="leave the table in docs/benchmarks.md alone")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in MEASURES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(MEASURES)}")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    results: list[Result] = []
    broken = False
    for name in options.names or list(MEASURES):
        Console(stderr=True).print(f"[dim]{name} …")
        more = {"full": True} if name == "memory" and options.full_memory else {}
        machine = describe()
        try:
            outcome = asyncio.run(_measure(name, options.quick, more))
        except Exception as error:  # the others are worth measuring all the same
            Console(stderr=True).print(f"[red]{name}: {type(error).__name__}: {error}")
            broken = True
            continue
        results.append(save(outcome, machine, quick=options.quick))
        show(results[-1:])
    if len(results) > 1:
        show(results)
    if results and not options.no_document:
        write_document(list(MEASURES))
    return 1 if broken or any(result.outcome.faults for result in results) else 0


async def _measure(name: str, quick: bool, more: dict[str, bool]) -> Outcome:
    return await MEASURES[name](quick=quick, **more)


if __name__ == "__main__":
    sys.exit(main())
