"""Operators' settings for platforms, and workers' holds, in PostgreSQL."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from delivery_log.contract import PROBE_SECONDS, HeldNow, Hold, PlatformControl
from delivery_log.postgres.database import Database, sql

_CONTROLS = sql("platform_controls")
_SET_CONTROLS = sql("set_platform_controls")
_REPORT_HOLDS = sql("report_holds")
_CURRENT_HOLDS = sql("current_holds")
_CLEAN_HOLDS = sql("clean_holds")
_TOUCHED = sql("touched_organizations")
_RECENT_REQUESTS = sql("recent_requests")


class PostgresPlatformLog:
    """`delivery_log.contract.PlatformLog` on a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def controls(self) -> dict[str, PlatformControl]:
        found: dict[str, dict[str, Any]] = {}
        for row in await self._database.fetch(_CONTROLS):
            if row["name"] in PlatformControl.__struct_fields__:
                found.setdefault(row["platform"], {})[row["name"]] = row["value"]
        return {platform: PlatformControl(**values) for platform, values in found.items()}

    async def set_control(self, platform: str, changes: Mapping[str, bool | int | None]) -> None:
        names = sorted(changes)
        values = [None if changes[name] is None else msgspec.json.encode(changes[name]).decode() for name in names]
        await self._database.fetch(_SET_CONTROLS, [platform] * len(names), names, values)

    async def report_holds(self, holds: Sequence[Hold], *, owner: str, ended: Sequence[UUID] = ()) -> None:
        if not holds and not ended:
            return
        ordered = sorted(holds, key=lambda hold: hold.id)
        await self._database.fetch(
            _REPORT_HOLDS,
            [hold.id for hold in ordered],
            [hold.platform for hold in ordered],
            [hold.organization_id for hold in ordered],
            [hold.reason for hold in ordered],
            [hold.age for hold in ordered],
            [hold.next_probe for hold in ordered],
            [hold.wait for hold in ordered],
            [hold.news for hold in ordered],
            [hold.wants_probe for hold in ordered],
            [hold.probing for hold in ordered],
            owner,
            sorted(ended),
            PROBE_SECONDS,
            [hold.credential for hold in ordered],
            once=True,
        )

    async def touched(self, platform: str, organizations: Sequence[str], *, within: float) -> list[str]:
        rows = await self._database.fetch(_TOUCHED, platform, list(organizations), within)
        return [row["organization_id"] for row in rows]

    async def held_now(self, *, within: float = 5.0, known: Sequence[UUID] = ()) -> list[HeldNow]:
        rows = await self._database.fetch(_CURRENT_HOLDS, within, list(known))
        return [HeldNow(**dict(row)) for row in rows]

    async def clean_holds(self) -> int:
        return len(await self._database.fetch(_CLEAN_HOLDS))


class PostgresRequestLog:
    """`delivery_log.contract.RequestLog` on a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recent_requests(
        self, platform: str, organizations: Sequence[str] | None, *, within: float
    ) -> dict[str, list[float]]:
        wanted = None if organizations is None else list(organizations)
        found: dict[str, list[float]] = {}
        for row in await self._database.fetch(_RECENT_REQUESTS, platform, wanted, within):
            found.setdefault(row["organization_id"], []).extend([row["age"]] * row["number"])
        return found
