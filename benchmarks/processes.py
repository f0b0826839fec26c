"""The whole way with `--processes 2`: deliveries/s ÷ one process in the same run, and what the cores were busy with."""

import asyncio
import os
import time
from pathlib import Path

import msgspec

from benchmarks.flow import Run, faults
from benchmarks.outcome import Figure, Outcome
from benchmarks.stand import Stand, cpu_seconds, installation, stand


class Busy(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and CPU seconds in it by what they were spent on: from its first request at the sink to its last."""

    run: Run
    seconds: float
    cpu: dict[str, float]


async def measure(*, quick: bool) -> Outcome:
    events, rounds = (5_000, 2) if quick else (20_000, 3)
    pairs: list[tuple[Busy, Busy]] = []
    async with stand() as place:
        await _flow(place, events // 4, 1)  # the broker's compiler and everybody's caches
        for _ in range(rounds):
            pairs.append((await _flow(place, events, 1), await _flow(place, events, 2)))
    cores = os.cpu_count() or 1
    return Outcome(
        name="processes",
        figures=[
            Figure(what="two processes ÷ one", values=[two.run.speed / one.run.speed for one, two in pairs]),
            Figure(what="deliveries by one", values=[one.run.speed for one, _ in pairs], unit="/s"),
            Figure(what="deliveries by two", values=[two.run.speed for _, two in pairs], unit="/s"),
            *(
                Figure(
                    what=f"{what}'s part of {cores} cores, {name}",
                    values=[100 * pair[which].cpu[what] / (cores * pair[which].seconds) for pair in pairs],
                    unit="%",
                )
                for which, name in enumerate(("one process", "two processes"))
                for what in pairs[0][which].cpu
            ),
        ],
        runs=[msgspec.to_builtins(busy) for pair in pairs for busy in pair],
        faults=[fault for pair in pairs for busy in pair for fault in faults(busy.run, ordered=True)],
    )


async def _flow(place: Stand, events: int, processes: int) -> Busy:
    async with installation(place) as at:
        # Ready first: a second member that joins in full flow is a rebalance, and that is another matter.
        worker = await at.worker(processes=processes)
        publishing = asyncio.create_task(at.publish(events))
        watched = {"the worker": worker.pid, **place.server_pids}
        until = time.monotonic() + 60
        seen = 0
        while seen == 0 and time.monotonic() < until:
            seen, _ = await place.sink.count()
            await asyncio.sleep(0.02)
        before, started = {what: _tree_seconds(pid) for what, pid in watched.items()}, time.monotonic()
        await place.sink.accepted(events)
        await publishing
        cpu = {what: _tree_seconds(pid) - before[what] for what, pid in watched.items()}
        seconds = time.monotonic() - started
        await at.settled(events)
        stats = await place.sink.stats()
        return Busy(
            run=Run(
                what=f"{processes} processes",
                events=events,
                speed=events / max(stats.last - stats.first, 1e-9),
                cpu_ms=cpu["the worker"] / max(events - seen, 1) * 1000,
                stats=stats,
            ),
            seconds=seconds,
            cpu=cpu,
        )


def _tree_seconds(pid: int) -> float:
    """CPU of a process and all that come from it and live: a worker's processes, PostgreSQL's backends."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(parent, []).append(int(stat.parent.name))
    total, open_ones = 0.0, [pid]
    while open_ones:
        one = open_ones.pop()
        open_ones += children.get(one, [])
        try:
            total += cpu_seconds(one)
        except OSError:
            continue
    return total
