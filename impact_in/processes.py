"""`impact-in worker --processes N`: a parent that does no work, and N worker processes that it looks after.

Each child is a worker of its own (`impact_in.worker`) with a number in its static member name; Kafka shares the
partitions out among them. Their health is told on Unix sockets, and the parent's port tells it of all: ready and alive
when every one is. Metrics are files of `prometheus_client`'s multiprocess mode, which outlive a child that was killed:
no counter runs back. A child that ends is started again, later each time; one that keeps ending ends the worker. When
the parent is killed, the kernel kills the children.
"""

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from impact_in.children import spawn
from impact_in.health import Answer, TcpAddress, application, listen
from impact_in.own_directory import own_directory
from impact_in.settings import Settings
from impact_in.worker import check_start, install_signals

_log = structlog.get_logger("impact_in.worker")
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 10.0
_ENOUGH_DEATHS = 5
_LIVED_WELL_SECONDS = 60.0
# A child has its own bound for a stop (worker.py); this is for one that does not even keep that.
_KILL_AFTER = 15.0
_ASK_SECONDS = 2.0


def run_processes(settings: Settings, wanted: Sequence[str], count: int) -> int:
    """Exit status: 0 after an orderly stop, 1 where a child kept ending or did not stop in order. Raises what a
    worker's start raises."""
    return asyncio.run(_run(settings, wanted, count))


class Member:
    """One child, through all its lives."""

    def __init__(self, number: int, count: int, directory: Path, wanted: Sequence[str]) -> None:
        self.number = number
        self.socket = directory / f"{number}.sock"
        self._metrics = directory / "metrics"
        self._arguments = ["impact_in.worker_process", str(number), str(count), str(self.socket), *wanted]
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()
        self.process = await spawn(self._arguments, os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(self._metrics)})

    async def ended(self) -> int:
        assert self.process is not None
        status = await self.process.wait()
        mark_process_dead(self.process.pid, str(self._metrics))  # type: ignore[no-untyped-call]
        return status

    def send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def ask(self, what: str) -> Answer:
        """Its own answer at `/health/{what}`; 503 where it gives none in time."""
        connector = aiohttp.UnixConnector(str(self.socket))
        timeout = aiohttp.ClientTimeout(total=_ASK_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(f"http://process/health/{what}") as answer,
            ):
                body: dict[str, Any] = await answer.json()
                return answer.status, body
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "no_answer"}


class _KeepsEnding(Exception):
    """A child ended again and again."""


async def _run(settings: Settings, wanted: Sequence[str], count: int) -> int:
    stop = asyncio.Event()
    await check_start(settings)
    with own_directory("impact-in-worker-") as directory:
        (directory / "metrics").mkdir()
        members = [Member(number, count, directory, wanted) for number in range(count)]
        install_signals(stop, lambda: _send_all(members, signal.SIGKILL))
        runner = None
        if settings.worker_port:
            app = application(
                functools.partial(_all, members, "live", "alive", "not_alive"),
                functools.partial(_all, members, "ready", "ready", "not_ready"),
                functools.partial(_metrics, directory / "metrics"),
            )
            runner = await listen(app, TcpAddress(settings.host, settings.worker_port))
        try:
            return await _supervise(members, stop, settings.drain_seconds + _KILL_AFTER)
        finally:
            if runner is not None:
                await runner.cleanup()


async def _supervise(members: Sequence[Member], stop: asyncio.Event, patience: float) -> int:
    kept = [asyncio.create_task(_keep(member, stop), name=str(member.number)) for member in members]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, *kept], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    _log.info("worker.stopping", processes=len(members))
    _send_all(members, signal.SIGTERM)
    await asyncio.wait(kept, timeout=patience)
    _send_all(members, signal.SIGKILL)
    ends = await asyncio.gather(*kept, return_exceptions=True)
    status = 0 if all(end == 0 for end in ends) else 1
    _log.info("worker.stopped", status=status)
    return status


def _send_all(members: Sequence[Member], number: signal.Signals) -> None:
    for member in members:
        member.send(number)


async def _keep(member: Member, stop: asyncio.Event) -> int:
    """Runs a child, again where it ends; its last exit status, once all shall stop. Raises _KeepsEnding."""
    clock = asyncio.get_running_loop().time
    deaths, delay = 0, _FIRST_DELAY
    while True:
        started = clock()
        await member.start()
        if stop.is_set():
            member.send(signal.SIGTERM)  # it was told to stop while it was being started
        status = await member.ended()
        if stop.is_set():
            return status
        if clock() - started >= _LIVED_WELL_SECONDS:
            deaths, delay = 0, _FIRST_DELAY
        deaths += 1
        _log.error("worker.process_ended", process=member.number, status=status, deaths=deaths, restart_in=delay)
        if deaths >= _ENOUGH_DEATHS:
            _log.error("worker.process_keeps_ending", process=member.number, deaths=deaths)
            raise _KeepsEnding
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), delay)
            return 0  # nothing of it runs
        delay = min(delay * 2, _LONGEST_DELAY)


async def _all(members: Sequence[Member], what: str, good: str, bad: str) -> Answer:
    answers = await asyncio.gather(*(member.ask(what) for member in members))
    whole = all(status == HTTPStatus.OK for status, _ in answers)
    status = HTTPStatus.OK if whole else HTTPStatus.SERVICE_UNAVAILABLE
    processes = {str(member.number): body for member, (_, body) in zip(members, answers, strict=True)}
    return status, {"status": good if whole else bad, "processes": processes}


async def _metrics(directory: Path) -> bytes:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]
    return await asyncio.to_thread(generate_latest, registry)
