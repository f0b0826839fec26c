"""The contract's metrics (section 8) that nothing in the heart happens for: what waits, where, and for how long."""

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from delivery.observer import Observer, Trouble
from delivery_log.contract import Inspection, LedgerUnavailable
from impact_in.roles import RunningRole

_CONSUMERS_SECONDS = 2.0
_LEDGER_SECONDS = 15.0
# A backlog makes the question dear; it may cost a twentieth of a core.
_REST_PER_WORK = 20


class Measures:
    """A worker's. What is asked of the ledger is the same with every worker that asks: take the greatest."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str, of_processes: str = "livemax") -> Gauge:
            return Gauge(f"impact_in_{name}", text, labels, registry=registry, multiprocess_mode=of_processes)  # type: ignore[arg-type]

        self._refreshes = Counter(
            "impact_in_oauth_refreshes_total",
            "Tokens asked for, by what came of it.",
            ["platform", "result"],
            registry=registry,
        )
        self._lag = gauge(
            "consumer_lag", "Records of this worker's partitions that wait to be worked off.", "topic",
            of_processes="livesum",
        )  # fmt: skip
        self._depth = gauge("retry_queue_depth", "Deliveries that wait for another attempt.", "platform")
        self._outbox = gauge(
            "outbox_age_seconds", "Of the eldest record that the ledger wants published and no broker has confirmed."
        )
        self._unconfirmed = gauge(
            "unconfirmed_deliveries",
            "Deliveries accepted longer than IMPACT_IN_CONFIRM_WITHIN ago, and neither confirmed nor rejected since.",
            "platform",
        )

    def token_refreshed(self, platform: str, result: str) -> None:
        self._refreshes.labels(platform, result).inc()

    async def of_consumers(self, running: Sequence[RunningRole]) -> None:
        """Until cancelled."""
        while True:
            for role in running:
                for topic, lag in role.lag().items():
                    self._lag.labels(topic).set(lag)
            await asyncio.sleep(_CONSUMERS_SECONDS)

    async def of_ledger(
        self, inspection: Inspection, platforms: Sequence[str], confirm_within: float, observer: Observer
    ) -> None:
        """Until cancelled. `confirm_within`: seconds."""
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            try:
                await self.look(inspection, platforms, confirm_within)
            except LedgerUnavailable as error:
                observer.notice(Trouble("measures", str(error)))
            await asyncio.sleep(max(_LEDGER_SECONDS, _REST_PER_WORK * (clock() - started)))

    async def look(self, inspection: Inspection, platforms: Sequence[str], confirm_within: float) -> None:
        """Raises LedgerUnavailable; what was seen last is shown then."""
        backlog = await inspection.backlog(confirm_within=confirm_within)
        for platform in platforms:
            self._depth.labels(platform).set(backlog.retrying.get(platform, 0))
            self._unconfirmed.labels(platform).set(backlog.unconfirmed.get(platform, 0))
        self._outbox.set(backlog.unpublished_for)
