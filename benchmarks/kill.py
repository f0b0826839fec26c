"""SIGKILL in full flow, restarted at once under the same IMPACT_IN_INSTANCE: how long is nothing delivered, and what is
lost, repeated, doubled?"""

import asyncio
import time

import msgspec

from benchmarks.outcome import Figure, Outcome
from benchmarks.stand import Stand, installation, stand

IN_FLIGHT = 100


async def measure(*, quick: bool) -> Outcome:
    events, rounds = (4_000, 2) if quick else (20_000, 3)
    runs = []
    for _ in range(rounds):
        # A broker each: a static member stays in its group after it has stopped, with the topics of the run before.
        async with stand() as place:
            runs.append(await _kill(place, events))
    found = []
    for run in runs:
        for what in ("lost", "doubled", "out_of_order"):
            if run[what]:
                found.append(f"{run[what]:.0f} {what.replace('_', ' ')}")
    return Outcome(
        name="kill",
        figures=[
            Figure(
                what="first delivery after the kill",
                values=[run["silence"] for run in runs],
                unit="s",
                mark=3.0,
                reached_when="at most",
                peers="Outpost 5 to 7, Bento 43",
            ),
            Figure(
                what="requests repeated",
                values=[run["repeated"] for run in runs],
                mark=float(IN_FLIGHT),
                reached_when="at most",
                strict=True,
            ),
            Figure(
                what="lost",
                values=[run["lost"] for run in runs],
                mark=0.0,
                reached_when="at most",
                strict=True,
                peers="Bento 2 to 22",
            ),
            Figure(
                what="doubled", values=[run["doubled"] for run in runs], mark=0.0, reached_when="at most", strict=True
            ),
            Figure(
                what="from the new process's start to its readiness", values=[run["start"] for run in runs], unit="s"
            ),
        ],
        runs=list(runs),
        faults=found,
    )


async def _kill(place: Stand, events: int) -> dict[str, float]:
    async with installation(place, IMPACT_IN_INSTANCE="bench") as at:
        await at.publish(events)
        worker = await at.worker(ready=False)
        await place.sink.accepted(events // 3, every=0.02)
        worker.kill()
        await worker.wait()
        killed_at = time.monotonic()
        await at.worker()
        ready_at = time.monotonic()
        await place.sink.accepted(events)
        await asyncio.sleep(2.0)
        requests, stats = await place.sink.requests(), await place.sink.stats()
        tally = await at.tally()
    after = [arrival for arrival in requests.arrival if arrival > killed_at]
    return {
        "silence": after[0] - killed_at,
        "start": ready_at - killed_at,
        "lost": float(events - stats.effects),
        "unfinished": float(events - tally.get("delivered", 0)),
        "repeated": float(stats.requests - stats.keys),
        "doubled": float(stats.doubled),
        "out_of_order": float(stats.out_of_order),
        **{f"stats_{name}": float(value) for name, value in msgspec.to_builtins(stats).items()},
    }
