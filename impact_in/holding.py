"""Between operators, workers and the heart: what operators set is followed within a second, and what one worker holds
is held by all."""

import asyncio
from collections.abc import Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge

from delivery.gate import Gate
from delivery.observer import Trouble
from delivery.shared_holds import SharedHolds
from delivery_log.contract import HoldReason, LedgerUnavailable, PlatformControl, PlatformLog
from impact_in.roles import RoleNeeds, RunningRole, limits

_SECONDS = 0.5
# What begins or ends is told at once; thousands that begin together are told together.
_TOGETHER_SECONDS = 0.02
_TOUCHED_WITHIN = 3.0
_CLEANED_EACH = 600.0
_BREAKER = {"closed": 0, "half_open": 1, "open": 2}


class Holding:
    """Runs in every worker, for the platforms that it delivers to."""

    def __init__(
        self, needs: RoleNeeds, log: PlatformLog, running: Sequence[RunningRole], registry: CollectorRegistry
    ) -> None:
        self._needs = needs
        self._log = log
        self._gates = [role.gate for role in running if role.gate is not None]
        owner = next((role.owner.name for role in running if role.owner is not None), "")
        self._shared = SharedHolds(log, owner, {gate.platform: gate.holds for gate in self._gates})
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
        clock = asyncio.get_running_loop().time
        clean_at = clock() + _CLEANED_EACH
        while self._gates:
            try:
                await self.turn()
                if clock() >= clean_at:
                    clean_at = clock() + _CLEANED_EACH
                    await self._log.clean_holds()
            except LedgerUnavailable as error:
                self._needs.observer.notice(Trouble("platform_controls", str(error)))
                await asyncio.sleep(_SECONDS)
            await asyncio.sleep(_TOGETHER_SECONDS)
            await self._shared.stirred(within=_SECONDS)
        await asyncio.Event().wait()  # an end would be taken for a crash

    async def turn(self) -> None:
        controls = await self._log.controls()
        for gate in self._gates:
            await self._follow(gate, controls.get(gate.platform))
        await self._shared.exchange()
        now = asyncio.get_running_loop().time()
        for gate in self._gates:
            self._measure(gate, now)

    async def _follow(self, gate: Gate, control: PlatformControl | None) -> None:
        gate.limits = limits(self._needs.connectors[gate.platform], control)
        gate.holds.pause(control is not None and control.paused, asyncio.get_running_loop().time())
        if gate.holds.forbidden:
            touched = await self._log.touched(gate.platform, gate.holds.forbidden, within=_TOUCHED_WITHIN)
            for organization in touched:
                gate.holds.organization_touched(organization, asyncio.get_running_loop().time())

    def _measure(self, gate: Gate, now: float) -> None:
        reasons = gate.holds.reasons(now)
        for reason in get_args(HoldReason):
            self._held.labels(gate.platform, reason).set(reasons.count(reason))
        self._breaker.labels(gate.platform).set(_BREAKER[gate.holds.breaker.state(now)])
