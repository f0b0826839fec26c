"""A quota with a backlog: how much of what it allows is used, in full batches, and never more.

Goodera's 100 requests a minute as they are, without scaling the time: 20,000 events are two minutes' worth, and the
second hundred requests may begin a minute after the first. Beside it 10 requests a second, where each window is short.
"""

from benchmarks.outcome import Figure, Outcome
from benchmarks.sink import Requests
from benchmarks.stand import Stand, installation, stand

PLATFORM = "goodera"
SIZE = 100
A_MINUTE, A_SECOND = 100, 10


async def measure(*, quick: bool) -> Outcome:
    rounds = 1 if quick else 3
    async with stand() as place:
        seconds = [await _run(place, 10_000, per_second=A_SECOND) for _ in range(rounds)]
        minutes = [await _run(place, 20_000, per_minute=A_MINUTE) for _ in range(rounds)]
    most = [_most_within(run, 60.0) for run in minutes]
    return Outcome(
        name="quota",
        figures=[
            Figure(
                what="events, of what 100 requests/min of 100 allow",
                values=[_share(run, 20_000, A_MINUTE, 60.0) for run in minutes],
                unit="%",
                mark=95.0,
            ),
            Figure(what="events a request", values=[20_000 / len(run.arrival) for run in minutes]),
            Figure(
                what="most requests in a minute",
                values=[float(number) for number in most],
                mark=float(A_MINUTE),
                reached_when="at most",
                strict=True,
            ),
            Figure(
                what="events, of what 10 requests/s of 100 allow",
                values=[_share(run, 10_000, A_SECOND, 1.0) for run in seconds],
                unit="%",
            ),
            Figure(what="most requests in a second", values=[float(_most_within(run, 1.0)) for run in seconds]),
        ],
        runs=[{"arrival": run.arrival} for run in (*minutes, *seconds)],
        faults=[f"{number} requests in a minute" for number in most if number > A_MINUTE],
    )


async def _run(place: Stand, events: int, **limits: int) -> Requests:
    wanted = {"per_second": 0, "per_minute": 0, "per_day": 0} | limits
    async with installation(place, platform=PLATFORM, limits=wanted) as at:
        await at.publish(events)
        ingest = await at.worker("ingest")
        await at.requested(events)
        await ingest.stop(15.0)
        await at.worker(f"deliver:{PLATFORM}", ready=False)
        await place.sink.accepted(events, stalled_after=90.0)
        await at.settled(events)
        return await place.sink.requests()


def _share(run: Requests, events: int, limit: int, window: float) -> float:
    """Of the events that the quota allows in the windows that were begun, from the first request to the last."""
    begun = int((run.arrival[-1] - run.arrival[0]) / window) + 1
    return events / (limit * SIZE * begun) * 100


def _most_within(run: Requests, window: float) -> int:
    """Requests in any such window, as the platform sees them."""
    first = most = 0
    for last, at in enumerate(run.arrival):
        while at - run.arrival[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most
