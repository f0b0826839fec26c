"""One run in full flow: something takes N records, and the sink sees when the first and the last request came."""

import asyncio
import time

import msgspec

from benchmarks.sink import Stats
from benchmarks.stand import Installation, cpu_seconds


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """`speed`: deliveries/s from the first to the last request at the sink; start-up is not in it.

    `cpu`: the process's CPU milliseconds a delivery in that time.
    """

    what: str
    events: int
    speed: float
    cpu_ms: float
    stats: Stats


async def measured(place: Installation, what: str, pid: int, events: int) -> Run:
    """Waits for all events at the sink; the process must have been started just now."""
    sink = place.stand.sink
    begun = cpu_seconds(pid)
    first_count = 0
    until = time.monotonic() + 60
    while first_count == 0 and time.monotonic() < until:
        first_count, _ = await sink.count()
        begun = cpu_seconds(pid)
        await asyncio.sleep(0.02)
    await sink.accepted(events)
    spent = cpu_seconds(pid) - begun
    stats = await sink.stats()
    seconds = max(stats.last - stats.first, 1e-9)
    return Run(
        what=what,
        events=events,
        speed=events / seconds,
        cpu_ms=spent / max(events - first_count, 1) * 1000,
        stats=stats,
    )


def faults(run: Run, *, ordered: bool) -> list[str]:
    """What a run must not show."""
    found = []
    if run.stats.effects != run.events:
        found.append(f"{run.events - run.stats.effects} lost")
    if run.stats.doubled or run.stats.requests != run.stats.keys:
        found.append(f"{run.stats.doubled} doubled, {run.stats.requests - run.stats.keys} requests repeated")
    if ordered and run.stats.out_of_order:
        found.append(f"{run.stats.out_of_order} out of order")
    return found
