"""`/health/live`, `/health/ready`, `/metrics` of a worker process, and the watch over its event loop: in a thread of
their own, because a loop that is stuck cannot say so itself.

A loop that has not ticked for `unhealthy` seconds is told at `/health/live` (503); one that has not for `stuck` ends
the process. Nothing here waits for the loop, so a stop that hangs is ended too.
"""

import asyncio
import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from impact_in.errors import StartError
from impact_in.exposition import metrics_handler

_log = structlog.get_logger("impact_in.worker")
_LOOK_SECONDS = 0.25
_STOP_SECONDS = 5.0
_LAST_WORDS_SECONDS = 2.0

Answer = tuple[int, Mapping[str, Any]]


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. Far above what anything takes that works: a request, a statement, a rebalance."""

    unhealthy: float = 10.0
    """Of no tick of the event loop: not alive."""
    stuck: float = 30.0
    """Of no tick: the process ends, at once."""
    stalled: float = 150.0
    """Of records that wait while nothing moves, and nothing is known that would explain it: the worker ends."""


class TcpAddress(msgspec.Struct, frozen=True):
    host: str
    port: int


HealthAddress = TcpAddress | Path
"""Where to listen; a path is a Unix socket's."""


def application(
    live: Callable[[], Awaitable[Answer]],
    ready: Callable[[], Awaitable[Answer]],
    metrics: Callable[[], Awaitable[bytes]],
) -> web.Application:
    async def answer_live(request: web.Request) -> web.Response:
        status, body = await live()
        return web.json_response(body, status=status)

    async def answer_ready(request: web.Request) -> web.Response:
        status, body = await ready()
        return web.json_response(body, status=status)

    app = web.Application()
    app.add_routes(
        [
            web.get("/health/live", answer_live),
            web.get("/health/ready", answer_ready),
            web.get("/metrics", metrics_handler(metrics)),
        ]
    )
    return app


async def listen(app: web.Application, address: HealthAddress) -> web.AppRunner:
    """Raises StartError where the port is taken."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    site: web.BaseSite
    if isinstance(address, Path):
        site = web.UnixSite(runner, str(address))
    else:
        site = web.TCPSite(runner, address.host, address.port)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        port = address if isinstance(address, Path) else address.port
        raise StartError(
            f"IMPACT_IN_WORKER_PORT: port {port} cannot be used ({error.strerror}); choose a free one, or 0 for none"
        ) from error
    return runner


class HealthThread:
    """`ready` tells which roles have joined; it is called in this thread, and only looks. `address` None: nobody
    listens, the watch is kept all the same. Run `tick_along` in the loop that is watched."""

    def __init__(
        self,
        address: HealthAddress | None,
        *,
        ready: Callable[[], Mapping[str, bool]],
        registry: CollectorRegistry,
        patience: Patience,
    ) -> None:
        self._address = address
        self._ready = ready
        self._registry = registry
        self._patience = patience
        self._ticks = 0
        self._still = 0.0
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name="health", daemon=True)
        self._started: asyncio.Future[None] | None = None
        self._watched: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Raises StartError where the port is taken."""
        self._watched = asyncio.get_running_loop()
        self._started = self._watched.create_future()
        self._thread.start()
        await self._started

    async def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._over.set)
        await asyncio.to_thread(self._thread.join, _STOP_SECONDS)

    async def tick_along(self) -> None:
        """Until cancelled."""
        while True:
            self._ticks += 1
            await asyncio.sleep(_LOOK_SECONDS)

    def _main(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        try:
            runner = None if self._address is None else await listen(self._application(), self._address)
        except StartError as error:
            self._tell(error)
            return
        self._tell(None)
        try:
            await self._watch()
        finally:
            if runner is not None:
                await runner.cleanup()

    def _tell(self, error: StartError | None) -> None:
        started = self._started
        assert started is not None
        assert self._watched is not None
        if error is None:
            self._watched.call_soon_threadsafe(started.set_result, None)
        else:
            self._watched.call_soon_threadsafe(started.set_exception, error)

    def _application(self) -> web.Application:
        async def live() -> Answer:
            if self._still >= self._patience.unhealthy:
                return 503, {"status": "stuck", "reason": f"no tick of the event loop for {self._still:.0f} s"}
            return 200, {"status": "alive"}

        async def ready() -> Answer:
            states = dict(self._ready())
            whole = all(states.values()) and self._still < self._patience.unhealthy
            return 200 if whole else 503, {"status": "ready" if whole else "not_ready", "roles": states}

        async def metrics() -> bytes:
            return generate_latest(self._registry)

        return application(live, ready, metrics)

    async def _watch(self) -> None:
        seen, looked = self._ticks, time.monotonic()
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _LOOK_SECONDS)
            now = time.monotonic()
            # Only time in which this thread could run counts: a process that was stopped as a whole is not stuck.
            passed, looked = min(now - looked, 2 * _LOOK_SECONDS), now
            self._still = 0.0 if self._ticks != seen else self._still + passed
            seen = self._ticks
            if self._still >= self._patience.stuck:
                self._end()

    def _end(self) -> None:
        # The loop may be stuck in the middle of a log line, with the log's lock in its hands: so this is said in a
        # thread more, and not waited for longer than a moment.
        words = threading.Thread(target=self._last_words, daemon=True)
        words.start()
        words.join(_LAST_WORDS_SECONDS)
        os._exit(1)

    def _last_words(self) -> None:
        _log.error("worker.stuck", reason=f"no tick of the event loop for {self._still:.0f} s")
        faulthandler.dump_traceback(file=sys.stderr)  # places in the code, no values
