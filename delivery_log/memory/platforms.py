"""Twin of the platforms' log."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from delivery_log.contract import PROBE_SECONDS, HeldNow, Hold, PlatformControl
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

    async def report_holds(self, holds: Sequence[Hold], *, owner: str, ended: Sequence[UUID] = ()) -> None:
        now = self.state.clock()
        for identifier in ended:
            over = self.state.holds.get(identifier)
            if over is not None and not over.released:
                over.released, over.held_until, over.probing_until = True, now, None
        for hold in holds:
            record = self.state.holds.get(hold.id)
            if record is None:
                self.state.holds[hold.id] = HoldRecord(
                    platform=hold.platform,
                    organization_id=hold.organization_id,
                    reason=hold.reason,
                    owner=owner,
                    held_from=now - timedelta(seconds=hold.age),
                    held_until=now,
                    next_probe_at=now + timedelta(seconds=hold.next_probe),
                    wait=hold.wait,
                    credential=hold.credential,
                )
            elif not record.released:
                self._renew(record, hold, owner)

    def _renew(self, record: HoldRecord, hold: Hold, owner: str) -> None:
        now = self.state.clock()
        record.held_until = now
        unclaimed = record.probing_until is None or record.probing_until <= now or record.prober == owner
        claims = hold.wants_probe and record.next_probe_at <= now and unclaimed
        if claims or (hold.probing and record.prober == owner):
            record.probing_until = now + timedelta(seconds=PROBE_SECONDS)
        elif hold.news and record.prober == owner:
            record.probing_until = None
        record.prober = owner if claims else record.prober
        if hold.news:
            told = now + timedelta(seconds=hold.next_probe)
            record.next_probe_at = max(record.next_probe_at, told) if hold.reason == "throttled" else told
            record.wait = hold.wait

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

    async def clean_holds(self) -> int:
        now = self.state.clock()
        over = [
            identifier
            for identifier, record in self.state.holds.items()
            if record.held_until < now - timedelta(hours=1)
            and not any(
                row.unfinished and row.first_failed_at is not None and row.first_failed_at < record.held_until
                for row in self.state.deliveries.values()
                if row.platform == record.platform
            )
        ]
        for identifier in over:
            del self.state.holds[identifier]
        return len(over)

    async def held_now(self, *, within: float = 5.0, known: Sequence[UUID] = ()) -> list[HeldNow]:
        now = self.state.clock()
        found = [
            HeldNow(
                id=identifier,
                platform=record.platform,
                organization_id=record.organization_id,
                reason=record.reason,
                owner=record.owner,
                age=(now - record.held_from).total_seconds(),
                next_probe=(record.next_probe_at - now).total_seconds(),
                wait=record.wait,
                probing=max(((record.probing_until or now) - now).total_seconds(), 0.0),
                prober=record.prober,
                released=record.released,
                credential=record.credential,
            )
            for identifier, record in self.state.holds.items()
            if identifier in known or (record.held_until > now - timedelta(seconds=within) and not record.released)
        ]
        return sorted(found, key=lambda held: (held.platform, held.reason, held.organization_id or "", held.id))


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
