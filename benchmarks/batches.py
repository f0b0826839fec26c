"""Batches of 100, events/s ÷ the same worker with a batch size of 1: Goodera's deliver role, requests waiting."""

import msgspec

from benchmarks.flow import Run, faults, measured
from benchmarks.outcome import Figure, Outcome
from benchmarks.stand import Stand, installation, stand

PLATFORM = "goodera"
SIZE = 100


async def measure(*, quick: bool) -> Outcome:
    events, rounds = (5_000, 2) if quick else (20_000, 3)
    async with stand() as place:
        await _run(place, SIZE, events // 4)
        pairs = [(await _run(place, 1, events), await _run(place, SIZE, events)) for _ in range(rounds)]
    return Outcome(
        name="batches",
        figures=[
            Figure(what="÷ unbatched", values=[many.speed / one.speed for one, many in pairs], mark=2.0),
            Figure(what="in batches", values=[many.speed for _, many in pairs], unit="events/s"),
            Figure(what="one a request", values=[one.speed for one, _ in pairs], unit="events/s"),
            Figure(what="events a request", values=[many.events / many.stats.requests for _, many in pairs]),
            Figure(what="CPU an event, in batches", values=[many.cpu_ms for _, many in pairs], unit="ms"),
            Figure(what="CPU an event, one a request", values=[one.cpu_ms for one, _ in pairs], unit="ms"),
        ],
        runs=[msgspec.to_builtins(run) for pair in pairs for run in pair],
        faults=[fault for pair in pairs for run in pair for fault in faults(run, ordered=False)],
    )


async def _run(place: Stand, size: int, events: int) -> Run:
    async with installation(place, platform=PLATFORM) as at:
        await at.publish(events)
        ingest = await at.worker("ingest")
        await at.requested(events)
        await ingest.stop(15.0)
        program = ("benchmarks.sized_worker", str(size))
        worker = await at.worker(f"deliver:{PLATFORM}", ready=False, program=program)
        run = await measured(at, f"batches of {size}", worker.pid, events)
        await at.settled(events)
        return run
