"""How late a retry comes, from the platform's view: from its refusal (a 503) plus the tier's delay to the next request
for the same event. Early: the same, below zero.

Two of five companies' events are refused once each, at a pace that lets the wanted number wait together. One event a
company: no other event of it holds a retry up. Companies that are never refused come first: a breaker looks at the
share of companies that only failed; where the first two happen to fail it opens, and its probes would be measured.
"""

import asyncio
import time
from datetime import timedelta

from benchmarks.outcome import Figure, Outcome, percentile
from benchmarks.sink import Orders, Requests
from benchmarks.stand import installation, stand

_WELL = 100


async def measure(*, quick: bool) -> Outcome:
    waiting, delay, rate = (1_000, 10, 250) if quick else (10_000, 50, 500)
    companies = waiting * 5 // 2
    async with stand() as place:
        tier = timedelta(seconds=delay)
        async with installation(place, company_count=companies + _WELL, delays=(tier,)) as at:
            await place.sink.reset(Orders(fail_first=[n for n in range(companies) if n % 5 < 2]))
            await at.worker()
            well = range(companies, companies + _WELL)
            await at.publisher.publish([at.events.record(at.topics.metrics, company) for company in well])
            await place.sink.accepted(_WELL)
            started = time.monotonic()
            for first in range(0, companies, 50):
                await asyncio.sleep(max(0.0, started + first / rate - time.monotonic()))
                batch = range(first, min(first + 50, companies))
                await at.publisher.publish([at.events.record(at.topics.metrics, company) for company in batch])
            await place.sink.accepted(companies + _WELL, stalled_after=delay + 60.0)
            requests = await place.sink.requests()
    late, most = _lateness(requests, delay)
    early = sum(1 for seconds in late if seconds < 0)
    return Outcome(
        name="retry_lateness",
        figures=[
            Figure(
                what="p99 late", values=[percentile(late, 0.99) * 1000], unit="ms", mark=250.0, reached_when="at most"
            ),
            Figure(what="early", values=[float(early)], mark=0.0, reached_when="at most", strict=True),
            Figure(what="p50 late", values=[percentile(late, 0.5) * 1000], unit="ms"),
            Figure(what="earliest", values=[min(late) * 1000], unit="ms"),
            Figure(what="most waiting at once", values=[float(most)]),
        ],
        faults=[f"{early} early"] if early else [],
        notes=["late: also what the way from the answer to the ledger and back from the topic takes"],
    )


def _lateness(requests: Requests, delay: float) -> tuple[list[float], int]:
    """Seconds each, and how many waited together."""
    refused: dict[tuple[int, int], float] = {}
    late: list[float] = []
    waiting = most = 0
    rows = zip(requests.arrival, requests.company, requests.number, requests.status, strict=True)
    for arrival, company, number, status in rows:
        if status != 200:
            refused[company, number] = arrival + 0.005
            waiting += 1
            most = max(most, waiting)
        elif (company, number) in refused:
            late.append(arrival - refused.pop((company, number)) - delay)
            waiting -= 1
    return late, most
