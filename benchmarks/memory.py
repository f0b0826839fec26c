"""Many events through one worker: does its memory stay flat? A million with `--full-memory`, 200,000 by default.

Sampled at each 10,000 deliveries: the worker's resident memory and, where the kernel tells it, its share of what it
shares with others (PSS). The notes draw the samples, so that a slope can be told from a step.
"""

import asyncio
from pathlib import Path

from benchmarks.outcome import Figure, Outcome
from benchmarks.stand import Installation, SinkClient, installation, rss_mib, stand

_AHEAD = 20_000
_EVERY = 10_000
_WIDTH = 40


async def measure(*, quick: bool, full: bool = False) -> Outcome:
    events = 1_000_000 if full else 50_000 if quick else 200_000
    every = min(_EVERY, events // 10)
    async with stand() as place, installation(place) as at:
        worker = await at.worker()
        publishing = asyncio.create_task(_publish(at, events))
        samples: list[tuple[int, float, float | None]] = []
        for wanted in range(every, events + 1, every):
            await _accepted(place.sink, wanted, publishing)
            samples.append((wanted, rss_mib(worker.pid), _pss_mib(worker.pid)))
    base_at = min(100_000, events // 4)
    base = max(rss for accepted, rss, _ in samples if accepted <= base_at)
    most = max(rss for _, rss, _ in samples)
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
        notes=_drawn(samples),
    )


async def _accepted(sink: SinkClient, events: int, publishing: "asyncio.Task[None]") -> None:
    """Raises what kept the events from being published."""
    waiting = asyncio.create_task(sink.accepted(events))
    await asyncio.wait([waiting, publishing], return_when=asyncio.FIRST_COMPLETED)
    if publishing.done() and (error := publishing.exception()) is not None:
        waiting.cancel()
        raise error
    await waiting


def _pss_mib(pid: int) -> float | None:
    """None where the kernel does not tell."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:")), None)


def _drawn(samples: list[tuple[int, float, float | None]]) -> list[str]:
    most = max(rss for _, rss, _ in samples)
    return [
        f"{accepted:>9,} events {rss:6.1f} MiB {'█' * round(rss / most * _WIDTH)}"
        + ("" if pss is None else f" (PSS {pss:.1f})")
        for accepted, rss, pss in samples
    ]


async def _publish(at: Installation, events: int) -> None:
    """Never far ahead, so that the topic stays small; still always enough."""
    for published in range(0, events, 1000):
        await at.stand.sink.accepted(max(0, published - _AHEAD), every=0.2)
        await at.publish(min(1000, events - published))
