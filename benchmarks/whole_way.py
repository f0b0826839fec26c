"""The whole way, `impact.metrics` → platform: deliveries/s of one worker process ÷ the baseline's in the same run."""

import msgspec

from benchmarks.flow import Run, faults, measured
from benchmarks.outcome import Figure, Outcome
from benchmarks.stand import Stand, installation, stand

PEERS = "Outpost 0.14, Convoy 0.02, Bento with a lossy dedupe 0.56, our prototype 0.60, stock Faust 0.19"


async def measure(*, quick: bool) -> Outcome:
    events, rounds = (5_000, 2) if quick else (20_000, 3)
    pairs: list[tuple[Run, Run]] = []
    async with stand() as place:
        ceiling = await place.ceiling()
        await _pair(place, events // 4)  # the broker's compiler and everybody's caches
        for _ in range(rounds):
            pairs.append(await _pair(place, events))
    return Outcome(
        name="whole_way",
        figures=[
            Figure(
                what="÷ baseline",
                values=[ours.speed / bare.speed for bare, ours in pairs],
                mark=0.45,
                peers=PEERS,
            ),
            Figure(what="baseline's CPU ÷ ours", values=[bare.cpu_ms / ours.cpu_ms for bare, ours in pairs]),
            Figure(what="deliveries", values=[ours.speed for _, ours in pairs], unit="/s"),
            Figure(what="worker's CPU a delivery", values=[ours.cpu_ms for _, ours in pairs], unit="ms"),
            Figure(what="baseline", values=[bare.speed for bare, _ in pairs], unit="/s"),
            Figure(what="baseline's CPU a delivery", values=[bare.cpu_ms for bare, _ in pairs], unit="ms"),
            Figure(what="the sink's ceiling", values=[ceiling], unit="/s"),
        ],
        runs=[msgspec.to_builtins(run) for pair in pairs for run in pair],
        faults=[fault for _, ours in pairs for fault in faults(ours, ordered=True)],
    )


async def _pair(place: Stand, events: int) -> tuple[Run, Run]:
    """Baseline and worker on the same records, one after the other."""
    async with installation(place) as at:
        await at.publish(events)
        loop = await at.baseline()
        bare = await measured(at, "baseline", loop.pid, events)
        await loop.stop(5.0)
        await place.sink.reset()
        worker = await at.worker(ready=False)
        ours = await measured(at, "whole way", worker.pid, events)
        await at.settled(events)
        return bare, ours
