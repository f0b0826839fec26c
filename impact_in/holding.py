"""Between operators and the heart: what they set is followed within a second, and what is held is told."""

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge

from delivery.observer import Trouble
from delivery_log.contract import LedgerUnavailable, PlatformLog
from impact_in.roles import RoleNeeds, RunningRole, limits

_SECONDS = 1.0
_REASONS = ("paused", "breaker", "credentials", "forbidden", "throttled")
_BREAKER = {"closed": 0, "half_open": 1, "open": 2}


class Holding:
    """Runs in every worker, for the platforms that it delivers to."""

    def __init__(
        self, needs: RoleNeeds, log: PlatformLog, running: Sequence[RunningRole], registry: CollectorRegistry
    ) -> None:
        self._needs = needs
        self._log = log
        self._gates = [role.gate for role in running if role.gate is not None]
        self._owner = next((role.owner.name for role in running if role.owner is not None), "")
        self._held = Gauge(
            "impact_in_platform_held",
            "Holds of a platform by reason.",
            ["platform", "reason"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._breaker = Gauge(
            "impact_in_breaker_state",
            "0 closed, 1 half open, 2 open.",
            ["platform"],
            registry=registry,
            multiprocess_mode="livemax",
        )

    async def run(self) -> None:
        """Until cancelled. What cannot be read stays as it was."""
        while True:
            try:
                await self.turn()
            except LedgerUnavailable as error:
                self._needs.observer.notice(Trouble("platform_controls", str(error)))
            await asyncio.sleep(_SECONDS)

    async def turn(self) -> None:
        controls = await self._log.controls()
        now = asyncio.get_running_loop().time()
        holds = []
        for gate in self._gates:
            control = controls.get(gate.platform)
            gate.limits = limits(self._needs.connectors[gate.platform], control)
            gate.holds.pause(control is not None and control.paused, now)
            if gate.holds.forbidden:
                for organization in await self._log.touched(gate.platform, gate.holds.forbidden, within=3 * _SECONDS):
                    gate.holds.organization_touched(organization)
            held = gate.holds.report(gate.platform, now)
            holds += held
            for reason in _REASONS:
                self._held.labels(gate.platform, reason).set(sum(hold.reason == reason for hold in held))
            self._breaker.labels(gate.platform).set(_BREAKER[gate.holds.breaker.state(now)])
        await self._log.report_holds(holds, owner=self._owner)
