"""Joins webhooks with their deliveries in the background, so that it does not matter which came first."""

import asyncio

import structlog

from delivery_log.contract import LedgerUnavailable, StatusLog
from webhook_gateway.dependencies import GatewayObserver

_AT_ONCE = 2_000
_SHORTEST_PAUSE = 0.05  # seconds; a flood of webhooks must not turn into a flood of passes

_REST_PER_WORK = 4

_log = structlog.get_logger("webhook_gateway")


class Linker:
    """Runs every `interval` seconds, and sooner where it is woken. Several gateways may each run one."""

    def __init__(self, status_log: StatusLog, observer: GatewayObserver, interval: float) -> None:
        self._status_log = status_log
        self._observer = observer
        self._interval = interval
        self._woken = asyncio.Event()
        self._failing = False

    def wake(self) -> None:
        """There is something new to link."""
        self._woken.set()

    async def run(self) -> None:
        """Until it is cancelled, whatever the ledger does."""
        while True:
            self._woken.clear()
            pause = self._interval
            shortest = _SHORTEST_PAUSE
            started = asyncio.get_running_loop().time()
            try:
                linked = _AT_ONCE
                while linked >= _AT_ONCE:
                    linked = await self._status_log.link_status_events(_AT_ONCE)
                    if linked:
                        self._observer.statuses_linked(linked)
                # Under load a pass looks at many that wait for their delivery: it shall not run all the time.
                took = asyncio.get_running_loop().time() - started
                shortest = min(max(shortest, _REST_PER_WORK * took), self._interval)
            except Exception as error:
                self._failed(error)
            else:
                self._worked()
                pause -= shortest
                await asyncio.sleep(shortest)
            await self._wait(pause)

    async def _wait(self, pause: float) -> None:
        try:
            async with asyncio.timeout(max(pause, 0.0)):
                # While the ledger is away, being woken again and again helps nobody.
                await (asyncio.Event() if self._failing else self._woken).wait()
        except TimeoutError:
            pass

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            known = isinstance(error, LedgerUnavailable)
            _log.warning("linker.failing", error=str(error) if known else type(error).__name__)
        self._failing = True

    def _worked(self) -> None:
        if self._failing:
            _log.info("linker.recovered")
        self._failing = False
