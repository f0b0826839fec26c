"""One of 50 companies always gets a 503: the other 49 keep their speed?"""

from benchmarks.outcome import Figure, Outcome
from benchmarks.sink import Orders, Requests
from benchmarks.stand import Stand, installation, stand

COMPANIES = 50
SICK = 0


async def measure(*, quick: bool) -> Outcome:
    events, rounds = (3_000, 2) if quick else (20_000, 3)
    async with stand() as place:
        await _speed(place, 1_000, [])
        pairs = [(await _speed(place, events, []), await _speed(place, events, [SICK])) for _ in range(rounds)]
    return Outcome(
        name="sick_company",
        figures=[
            Figure(
                what="the other 49's speed, of what they have without",
                values=[sick / well * 100 for (well, _), (sick, _) in pairs],
                unit="%",
                mark=95.0,
                peers="Bento stalls, or 23 %",
            ),
            Figure(what="the 49 with all well", values=[well for (well, _), _ in pairs], unit="/s"),
            Figure(what="the 49 with one sick", values=[sick for _, (sick, _) in pairs], unit="/s"),
            Figure(what="requests of the sick one", values=[float(n) for _, (_, n) in pairs]),
        ],
    )


async def _speed(place: Stand, events: int, sick: list[int]) -> tuple[float, int]:
    """Deliveries/s of the other companies, and the sick one's requests."""
    async with installation(place, company_count=COMPANIES) as at:
        await at.publish(events)
        await place.sink.reset(Orders(sick=sick))
        await at.worker(ready=False)
        # Each company has as many of the events.
        await place.sink.accepted(events - events // COMPANIES if sick else events)
        requests = await place.sink.requests()
    arrivals = _others(requests)
    return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]), len(requests.arrival) - len(arrivals)


def _others(requests: Requests) -> list[float]:
    return [at for at, company in zip(requests.arrival, requests.company, strict=True) if company != SICK]
