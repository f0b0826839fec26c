"""Runs the gateway until it is told to stop, and then answers what it has."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterator

from aiohttp import web

_LINGERING = 1.0  # seconds that an unread body of a refused request is still drained for
_KEEP_ALIVE = 75.0
_BREATH = 0.05


class _WithoutContent(logging.Filter):
    """aiohttp logs a request that is no HTTP with a traceback that quotes it; who sent it is enough."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = None
        return True


_http_log = logging.getLogger("webhook_gateway.http")
_http_log.addFilter(_WithoutContent())


async def serve(
    app: web.Application,
    *,
    host: str,
    port: int,
    drain: float = 25.0,
    stop: asyncio.Event | None = None,
    listening: Callable[[str, int], None] | None = None,
) -> None:
    """Serves until SIGTERM, SIGINT or `stop`; then takes no new connection, answers what it has within `drain`
    seconds, and returns. `listening` is told the address; port 0 takes any. Raises OSError where the port is in use.
    """
    stop = stop or asyncio.Event()
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_http_log,
        keepalive_timeout=_KEEP_ALIVE,
        auto_decompress=False,  # signatures are over the bytes as received, and a bomb stays small
        lingering_time=_LINGERING,
        shutdown_timeout=drain,
    )
    with _signals(stop):
        try:
            await runner.setup()
            site = web.TCPSite(runner, host, port)
            await site.start()
            if listening is not None:
                address = runner.addresses[0]
                listening(address[0], address[1])
            await stop.wait()
            await site.stop()
            # aiohttp forgets to close a connection that it has accepted and not yet begun to read from: its client
            # would hang, and we with it, until the drain is over. After this breath there is none.
            await asyncio.sleep(_BREATH)
        finally:
            await runner.cleanup()


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    installed = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not in a thread, not on Windows: there `stop` alone ends it.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)
            installed.append(number)
    try:
        yield
    finally:
        for number in installed:
            loop.remove_signal_handler(number)
