"""A quota with a backlog: how much of what it allows is used, in full batches, and never more.

Goodera's 100 requests a minute with the time scaled 60 times: 100 a second, and so 10,000 events a second in batches of
100. `a tenth` is the same with 10 requests a second, which a worker that delivers fewer events than that can fill.
"""

from benchmarks.outcome import Figure, Outcome
from benchmarks.sink import Requests
from benchmarks.stand import Stand, installation, stand

PLATFORM = "goodera"
SIZE = 100
SCALED = 100


async def measure(*, quick: bool) -> Outcome:
    rounds = 1 if quick else 3
    async with stand() as place:
        await _run(place, SCALED, 5_000)
        scaled = [await _run(place, SCALED, 20_000) for _ in range(rounds)]
        tenth = [await _run(place, SCALED // 10, 10_000) for _ in range(rounds)]
    return Outcome(
        name="quota",
        figures=[
            Figure(
                what="events, of 100 requests/s with 100 each (a minute scaled to a second)",
                values=[_share(run, 20_000, SCALED) for run in scaled],
                unit="%",
                mark=95.0,
            ),
            Figure(
                what="a tenth: events, of 10 requests/s with 100 each",
                values=[_share(run, 10_000, SCALED // 10) for run in tenth],
                unit="%",
                mark=95.0,
            ),
            Figure(what="events a request", values=[20_000 / len(run.arrival) for run in scaled]),
            Figure(what="a tenth: events a request", values=[10_000 / len(run.arrival) for run in tenth]),
            Figure(
                what="most requests in a second, of those allowed",
                values=[
                    most / limit
                    for runs, limit in ((scaled, SCALED), (tenth, SCALED // 10))
                    for most in map(_most_in_a_second, runs)
                ],
            ),
        ],
        runs=[{"limit": limit, "arrival": run.arrival} for limit, runs in ((100, scaled), (10, tenth)) for run in runs],
    )


async def _run(place: Stand, per_second: int, events: int) -> Requests:
    limits = {"per_second": per_second, "per_minute": 0, "per_day": 0}
    async with installation(place, platform=PLATFORM, limits=limits) as at:
        await at.publish(events)
        ingest = await at.worker("ingest")
        await at.requested(events)
        await ingest.stop(15.0)
        await at.worker(f"deliver:{PLATFORM}", ready=False)
        await place.sink.accepted(events)
        await at.settled(events)
        return await place.sink.requests()


def _share(run: Requests, events: int, per_second: int) -> float:
    """Of the events that the quota allows from the first request to the last. A window may be used up at its
    beginning, and the last one is not over: it counts as one."""
    seconds = run.arrival[-1] - run.arrival[0]
    return events / (per_second * SIZE * (int(seconds) + 1)) * 100


def _most_in_a_second(run: Requests) -> int:
    """In any second, as the platform sees it."""
    first = most = 0
    for last, at in enumerate(run.arrival):
        while at - run.arrival[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most
