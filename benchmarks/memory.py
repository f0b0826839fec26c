"""Many events through one worker: does its memory stay flat? A million with `--full`, 100,000 by default."""

import asyncio

from benchmarks.outcome import Figure, Outcome
from benchmarks.stand import Installation, installation, rss_mib, stand

_AHEAD = 20_000


async def measure(*, quick: bool, full: bool = False) -> Outcome:
    events = 1_000_000 if full else 20_000 if quick else 100_000
    async with stand() as place, installation(place) as at:
        worker = await at.worker()
        publishing = asyncio.create_task(_publish(at, events))
        samples: list[tuple[int, float]] = []
        while not samples or samples[-1][0] < events:
            await asyncio.sleep(1.0)
            _, accepted = await place.sink.count()
            samples.append((accepted, rss_mib(worker.pid)))
            if publishing.done():
                publishing.result()
    base_at = min(100_000, events // 4)
    base = max(rss for accepted, rss in samples if accepted <= base_at)
    most = max(rss for _, rss in samples)
    return Outcome(
        name="memory",
        figures=[
            Figure(what="most", values=[most], unit="MiB", mark=300.0, reached_when="at most", strict=True),
            Figure(
                what=f"growth after the first {base_at:,}",
                values=[(most - base) / base * 100],
                unit="%",
                mark=10.0,
                reached_when="at most",
                strict=True,
            ),
            Figure(what="events", values=[float(events)]),
        ],
        runs=[{"samples": samples}],
    )


async def _publish(at: Installation, events: int) -> None:
    """Never far ahead, so that the topic stays small; still always enough."""
    for published in range(0, events, 1000):
        await at.stand.sink.accepted(max(0, published - _AHEAD), every=0.2)
        await at.publish(min(1000, events - published))
