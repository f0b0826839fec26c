"""The deliver role alone, requests waiting ÷ the baseline in the same run."""

import msgspec

from benchmarks.flow import Run, faults, measured
from benchmarks.outcome import Figure, Outcome
from benchmarks.stand import PLATFORM, Stand, installation, stand


async def measure(*, quick: bool) -> Outcome:
    events, rounds = (5_000, 2) if quick else (20_000, 3)
    async with stand() as place:
        ceiling = await place.ceiling()
        await _pair(place, events // 4)
        pairs = [await _pair(place, events) for _ in range(rounds)]
    return Outcome(
        name="deliver_only",
        figures=[
            Figure(
                what="÷ baseline",
                values=[ours.speed / bare.speed for bare, ours in pairs],
                mark=0.60,
                peers="our prototype 0.80",
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
    async with installation(place) as at:
        await at.publish(events)
        loop = await at.baseline()
        bare = await measured(at, "baseline", loop.pid, events)
        await loop.stop(5.0)
        await place.sink.reset()
        ingest = await at.worker("ingest")
        await at.requested(events)
        await ingest.stop(15.0)
        worker = await at.worker(f"deliver:{PLATFORM}", ready=False)
        ours = await measured(at, "deliver role", worker.pid, events)
        await at.settled(events)
        return bare, ours
