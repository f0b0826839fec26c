"""`make faults`: every row of the fault table against the product, on Apache Kafka, PostgreSQL and Valkey.

    python -m proving.faults [-k WORDS] [--seed N] [--write] [--keep DIRECTORY]

Exit status 1 where a row is red or its fault did not fire. `--write` puts each row's line into the table of
docs/guarantees.md as soon as it is known.
"""

import argparse
import asyncio
import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from proving.ground import Ground, NoGround
from proving.row import NotRun, Row
from proving.rows import ROWS
from proving.table import Finding, in_terminal, written
from proving.tight_disk import CannotMount
from proving.trial import Trial, Unmet


async def _try(row: Row, ground: Ground, seed: int, keep: Path | None) -> Finding:
    began = time.monotonic()
    found = Finding(row=row, verdict="red", evidence="", recovery=None, seconds=0.0)
    trial = Trial(ground, row.conditions, seed)
    try:
        async with asyncio.timeout(row.timeout), trial:
            try:
                await row.run(trial)
                await trial.verdict()
            finally:
                found = msgspec.structs.replace(found, evidence="; ".join(trial.evidence))
            recovery = await trial.recovery()
        verdict = "green" if trial.evidence else "red"
        why = "" if trial.evidence else "the fault did not fire"
        found = msgspec.structs.replace(found, verdict=verdict, why=why, recovery=recovery)
    except NotRun as error:
        found = msgspec.structs.replace(found, verdict="not run", why=str(error))
    except Unmet as error:
        found = msgspec.structs.replace(found, why=str(error))
    except TimeoutError:
        found = msgspec.structs.replace(found, why=f"not through within {row.timeout:g} s")
    except Exception as error:  # one row's trouble must not end the others
        found = msgspec.structs.replace(found, why=f"{type(error).__name__}: {error}")
    if found.verdict == "red" and keep is not None and trial.logs.exists():
        shutil.copytree(trial.logs, keep / row.name.replace(" ", "_").replace("/", "_"), dirs_exist_ok=True)
    return msgspec.structs.replace(found, seconds=time.monotonic() - began)


async def _on(ground: Ground, row: Row, seed: int, keep: Path | None) -> Finding:
    try:
        if not row.conditions.tight_disk:
            return await _try(row, ground, seed, keep)
        async with ground.tight_disk():
            return await _try(row, ground, seed, keep)
    except CannotMount as error:
        return Finding(row=row, verdict="not run", evidence="", recovery=None, seconds=0.0, why=f"no tmpfs: {error}")
    finally:
        await ground.mend()


async def run(rows: Sequence[Row], seed: int, keep: Path | None, *, write: bool = False) -> list[Finding]:
    """`write`: the page after each row, so that a run that is cut short leaves what it found."""
    found: list[Finding] = []
    async with Ground() as ground:
        for number, row in enumerate(rows, 1):
            print(f"{number:>2}/{len(rows)}  {row.name} …", end=" ", flush=True)
            finding = await _on(ground, row, seed, keep)
            print(f"{finding.verdict} ({finding.seconds:.0f} s) {finding.why}", flush=True)
            found.append(finding)
            if write:
                written(found, ROWS)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m proving.faults", allow_abbrev=False)
    parser.add_argument("-k", default="", metavar="WORDS", help="only rows in whose name all these words are")
    parser.add_argument("--seed", type=int, default=1, help="of events and platform faults")
    parser.add_argument("--write", action="store_true", help="put the table into docs/guarantees.md")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="gets the logs of red rows")
    options = parser.parse_args()
    words = options.k.lower().split()
    rows = [row for row in ROWS if all(word in row.name.lower() for word in words)]
    if not rows:
        parser.error(f"-k {options.k}: no row has that in its name")
    # The harness's own clients say at length what is done to them here.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    began = time.monotonic()
    try:
        found = asyncio.run(run(rows, options.seed, options.keep, write=options.write))
    except NoGround as error:
        print(f"make faults: {error}", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    seconds = time.monotonic() - began
    print(in_terminal(found, seconds))
    return int(any(finding.verdict == "red" for finding in found))


if __name__ == "__main__":
    sys.exit(main())
