"""Twin of the platforms' log."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import msgspec

from delivery_log.contract import HeldNow, Hold, PlatformControl
from delivery_log.memory.state import HoldRecord, MemoryState


class MemoryPlatformLog:
    """`delivery_log.contract.PlatformLog` over a `MemoryState`."""

    def __init__(self, state: MemoryState | None = None) -> None:
        self.state = state or MemoryState()

    async def controls(self) -> dict[str, PlatformControl]:
        return dict(self.state.controls)

    async def set_control(self, platform: str, changes: Mapping[str, bool | int | None]) -> None:
        usual = msgspec.structs.asdict(PlatformControl())
        before = self.state.controls.get(platform, PlatformControl())
        wanted = {name: usual[name] if value is None else value for name, value in changes.items()}
        self.state.controls[platform] = msgspec.structs.replace(before, **wanted)

    async def report_holds(self, holds: Sequence[Hold], *, owner: str) -> None:
        now = self.state.clock()
        for hold in holds:
            record = self.state.holds.get(hold.id)
            if record is None:
                held_from = now - timedelta(seconds=hold.age)
                self.state.holds[hold.id] = HoldRecord(
                    hold.platform, hold.organization_id, hold.reason, owner, held_from, now
                )
            else:
                record.held_until = now

    async def touched(self, platform: str, organizations: Sequence[str], *, within: float) -> list[str]:
        now = self.state.clock()
        return sorted(
            {
                entry.organization_id
                for key, entry in self.state.company_platforms.items()
                if entry.platform == platform
                and entry.organization_id in organizations
                and self.state.company_touched.get(key, now) > now - timedelta(seconds=within)
            }
        )

    async def held_now(self, *, within: float = 5.0) -> list[HeldNow]:
        now = self.state.clock()
        found = [
            HeldNow(
                platform=record.platform,
                organization_id=record.organization_id,
                reason=record.reason,
                owner=record.owner,
                age=(now - record.held_from).total_seconds(),
            )
            for record in self.state.holds.values()
            if record.held_until > now - timedelta(seconds=within)
        ]
        return sorted(found, key=lambda held: (held.platform, held.reason, held.organization_id or ""))


class MemoryRequestLog:
    """`delivery_log.contract.RequestLog` over a `MemoryState`."""

    def __init__(self, state: MemoryState) -> None:
        self.state = state

    async def recent_requests(
        self, platform: str, organizations: Sequence[str] | None, *, within: float
    ) -> dict[str, list[float]]:
        now = self.state.clock()
        sent = [(self.state.deliveries[delivery], row.started_at) for (delivery, _), row in self.state.attempts.items()]
        sent += [
            (row, row.lease_started_at)
            for row in self.state.deliveries.values()
            if row.unfinished and row.lease_started_at is not None
        ]
        found: dict[str, list[float]] = {}
        for row, started_at in sent:
            age = max((now - started_at).total_seconds(), 0.0)
            wanted = organizations is None or row.organization_id in organizations
            if row.platform == platform and age < within and wanted:
                found.setdefault("" if organizations is None else row.organization_id, []).append(age)
        return found
