"""Published → accepted at 200 events/s, 50 companies: from the time in the event, taken just before it is sent to the
broker, to the sink's answer, 5 ms after the request. Beside the baseline's."""

import asyncio
import random
import time

from benchmarks.outcome import Figure, Outcome, percentile
from benchmarks.stand import Installation, Stand, installation, stand

RATE = 200
COMPANIES = 50
_SETTLING = 5.0


async def measure(*, quick: bool) -> Outcome:
    seconds, rounds = (6.0, 2) if quick else (20.0, 3)
    async with stand() as place:
        await _pair(place, 2.0)
        pairs = [await _pair(place, seconds) for _ in range(rounds)]
    return Outcome(
        name="latency",
        figures=[
            Figure(
                what="p50",
                values=[percentile(ours, 0.5) for _, ours in pairs],
                unit="ms",
                mark=12.0,
                reached_when="at most",
                peers="Outpost 29, Bento 1.5",
            ),
            Figure(
                what="p99",
                values=[percentile(ours, 0.99) for _, ours in pairs],
                unit="ms",
                mark=25.0,
                reached_when="at most",
                peers="Outpost 54, Bento 3",
            ),
            Figure(what="baseline's p50", values=[percentile(bare, 0.5) for bare, _ in pairs], unit="ms"),
            Figure(what="baseline's p99", values=[percentile(bare, 0.99) for bare, _ in pairs], unit="ms"),
        ],
        notes=["the sink's 5 ms are in all of them"],
    )


async def _pair(place: Stand, seconds: float) -> tuple[list[float], list[float]]:
    async with installation(place, company_count=COMPANIES) as at:
        loop = await at.baseline()
        bare = await _latencies(at, seconds)
        await loop.stop(5.0)
    async with installation(place, company_count=COMPANIES) as at:
        await at.worker()
        return bare, await _latencies(at, seconds)


async def _latencies(at: Installation, seconds: float) -> list[float]:
    """Milliseconds, of what was published after the first seconds, in which connections and statements are new."""
    sink = at.stand.sink
    await sink.reset()
    dice = random.Random("latency")  # noqa: S311 no secret
    total = round(RATE * (seconds + _SETTLING))
    started = time.monotonic()
    sending: set[asyncio.Task[None]] = set()
    for number in range(total):
        await asyncio.sleep(max(0.0, started + number / RATE - time.monotonic()))
        record = at.events.record(at.topics.metrics, dice.randrange(COMPANIES), timed=True)
        sending.add(asyncio.create_task(at.publisher.publish([record])))
    await asyncio.gather(*sending)
    await sink.accepted(total)
    requests = await sink.requests()
    return [took / 1000 for took in requests.took[round(RATE * _SETTLING) :]]
