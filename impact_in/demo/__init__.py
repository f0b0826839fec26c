"""`impact-in demo`: the whole product on one machine, on servers from wheels, against simulated platforms."""

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live

from delivery.ports import OutgoingRecord
from impact_in.demo.check import check
from impact_in.demo.events import demo_events, poison
from impact_in.demo.options import DemoOptions
from impact_in.demo.progress import Progress, line, read_progress, table
from impact_in.demo.stage import DEADLINE, PLATFORMS, Stage
from impact_in.errors import StartError
from impact_in.ledger_check import Violation
from schemas import ImpactMetricEvent, encode_single_object, headers
from schemas.event import to_avro
from schemas.trace import new_traceparent

__all__ = ["DemoOptions", "run_demo"]

_AT_ONCE = 200
_LOOK_SECONDS = 0.25
_CONFIRM_SECONDS = 30.0


def run_demo(options: DemoOptions) -> int:
    """Exit status: 0 where everything finished and the ledger holds, else 1."""
    return asyncio.run(_run(options))


async def _run(options: DemoOptions) -> int:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):  # also where a shell's background job has it ignored
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    console = Console(stderr=True, soft_wrap=True)
    if not options.json:
        console.print("Starting a broker, PostgreSQL, Valkey, three simulated platforms, a gateway and a worker …")
    try:
        async with Stage(options) as stage:
            if not options.json:
                _print_conditions(console, options, stage)
            demo = _Demo(options, stage, console)
            return await demo.run()
    except asyncio.CancelledError:
        return 1


class _Demo:
    def __init__(self, options: DemoOptions, stage: Stage, console: Console) -> None:
        self._options = options
        self._stage = stage
        self._console = console
        self._events = list(demo_events(options.seed, options.events, stage.companies))
        self._published = 0
        self._poisoned = 0
        self._started = time.monotonic()

    async def run(self) -> int:
        publishing = asyncio.create_task(self._publish())
        crash = asyncio.create_task(self._stage.worker.wait())
        try:
            progress = await self._watch(publishing, crash)
        finally:
            publishing.cancel()
            crash.cancel()
        seconds = time.monotonic() - self._started
        finished = progress.finished(self._options.events)
        found = await check(self._stage, self._events)
        summary = _summary(self._options, progress, await self._dead_letters(), seconds, found)
        if self._options.json:
            print(json.dumps(summary))
        else:
            _print_summary(self._console, summary, found, finished, self._poisoned)
        return 0 if finished and summary["ledger"]["ok"] else 1

    async def _publish(self) -> None:
        """Publishes at the asked pace; with faults, some poison among it that must be found as it came."""
        spoiled = [] if self._options.faults == "none" else poison()
        for first in range(0, len(self._events), self._chunk):
            chunk = self._events[first : first + self._chunk]
            await self._stage.publisher.publish([self._record(event) for event in chunk])
            self._published += len(chunk)
            if spoiled:
                self._poisoned += 1
                await self._stage.publisher.publish(
                    [OutgoingRecord(self._stage.topics.metrics, None, spoiled.pop(), [])]
                )
            if self._options.rate:
                due = self._started + self._published / self._options.rate
                await asyncio.sleep(max(due - time.monotonic(), 0))

    @property
    def _chunk(self) -> int:
        return _AT_ONCE if not self._options.rate else max(1, int(self._options.rate / 10))

    def _record(self, event: ImpactMetricEvent) -> OutgoingRecord:
        return OutgoingRecord(
            self._stage.topics.metrics,
            str(event.company_id).encode(),
            encode_single_object(to_avro(event)),
            headers.write_headers({headers.TRACEPARENT: new_traceparent()}),
        )

    async def _watch(self, publishing: "asyncio.Task[None]", crash: "asyncio.Task[int]") -> Progress:
        """Until everything is finished and confirmed, or the time is over."""
        give_up_at = self._started + self._options.timeout
        confirm_until: float | None = None
        shown = time.monotonic()
        live = self._live()
        try:
            while True:
                if crash.done():
                    raise StartError(await self._stage.worker.epitaph())
                progress = await read_progress(self._stage.database, PLATFORMS)
                now = time.monotonic()
                if live is not None:
                    live.update(table(progress, self._published, len(self._events), now - self._started))
                elif not self._options.json and now - shown >= 2.0:
                    shown = now
                    self._console.print(line(progress, self._published, now - self._started), highlight=False)
                if publishing.done():
                    publishing.result()
                    if progress.finished(self._options.events):
                        confirm_until = confirm_until or now + _CONFIRM_SECONDS
                        if progress.confirmed or now > confirm_until:
                            return progress
                if now > give_up_at:
                    return progress
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            if live is not None:
                live.stop()

    def _live(self) -> Live | None:
        if self._options.json or self._options.exit or not self._console.is_terminal:
            return None
        live = Live(console=self._console, auto_refresh=False)
        live.start()
        original = live.update
        live.update = lambda view, **_: original(view, refresh=True)  # type: ignore[method-assign]
        return live

    async def _dead_letters(self) -> int:
        rows = await self._stage.database.fetch("select count(*) as dead from impact_deliveries where outcome = 'dead'")
        return int(rows[0]["dead"])


def _summary(
    options: DemoOptions, progress: Progress, dead: int, seconds: float, found: dict[str, list[Violation]]
) -> dict[str, Any]:
    equations = {name: not violations for name, violations in found.items()}
    return {
        "events": progress.events,
        "deliveries": {
            name: {
                "delivered": count.delivered,
                "failed": count.dead + count.rejected,
                "pending": count.pending,
                "retrying": count.retrying,
                "retries": count.retries,
                "confirmed": count.confirmed,
            }
            for name, count in progress.platforms.items()
        },
        "statusEvents": progress.status_events,
        "deadLetters": dead,
        "seconds": round(seconds, 1),
        "ledger": {"ok": all(equations.values()), "equations": equations},
    }


def _print_conditions(console: Console, options: DemoOptions, stage: Stage) -> None:
    quotas = "unlimited" if options.quotas == "none" else "the platforms' own"
    console.print(
        f"Conditions: faults [bold]{options.faults}[/] (seed {options.seed}), retry delays 1s,2s,5s, "
        f"deadline {DEADLINE}, quotas {quotas}.",
        highlight=False,
    )
    console.print(f"Look at it: {stage.gateway_url}/health · {stage.gateway_url}/metrics · {stage.worker_url}/metrics")
    for platform, url in stage.platform_urls.items():
        console.print(f"  what {platform} received: {url}/_received?keys=0")
    console.print(f"Logs, while it runs: {stage.logs}")


def _print_summary(
    console: Console, summary: dict[str, Any], found: dict[str, list[Violation]], finished: bool, poisoned: int
) -> None:
    console.print()
    for platform, counts in summary["deliveries"].items():
        console.print(
            f"  {platform:9} {counts['delivered']:>6} delivered after {counts['retries']} retries, "
            f"{counts['failed']} dead, {counts['confirmed']} confirmed by webhook",
            highlight=False,
        )
    if poisoned:
        console.print(
            f"  {poisoned} bad records among them, kept in the dead-letter topic as they came", highlight=False
        )
    if not finished:
        console.print("[red]Not everything was finished in time.[/]")
    console.print(f"{summary['events']} events in {summary['seconds']} s. The ledger:", highlight=False)
    for name, violations in found.items():
        console.print(f"  {'[green]holds[/] ' if not violations else '[red]broken[/]'} {name}  {EQUATIONS[name]}")
        _print_violations(console, violations)


def _print_violations(console: Console, violations: Sequence[Violation]) -> None:
    for violation in violations[:5]:
        console.print(f"           {violation.what}", highlight=False)
    if len(violations) > 5:
        console.print(f"           and {len(violations) - 5} more")


EQUATIONS = {
    "E1": "every record read has exactly one visible outcome",
    "E2": "every expected delivery is finished, and nothing else was delivered",
    "E3": "each platform has exactly what was delivered, once, to the last decimal",
    "E5": "the dead letters are what could not be done, the poison byte for byte",
    "E9": "every offset of every topic is committed",
}
