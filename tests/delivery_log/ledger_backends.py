"""The delivery ledger's two backends behind one harness: what a test needs besides the contract."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from delivery_log.contract import CompanyPlatform, DeliveryLedger
from delivery_log.memory import MemoryLedger, MemoryState
from delivery_log.postgres.database import Database
from delivery_log.postgres.ledger import PostgresLedger
from delivery_log.postgres.migrations import migrate

_TIMES = (
    "updated_at",
    "published_at",
    "delivered_at",
    "next_attempt_at",
    "first_failed_at",
    "deadline_at",
    "uncertain_since",
    "lease_started_at",
    "lease_until",
)


class Backend(Protocol):
    ledger: DeliveryLedger

    async def register(self, company: UUID, platform: str, organization: str = "org", enabled: bool = True) -> None: ...

    async def pass_time(self, seconds: float) -> None:
        """The ledger's clock goes on by so much (Postgres: its rows grow so much older)."""
        ...

    async def row(self, delivery_id: UUID) -> dict[str, Any]: ...

    async def set_row(self, delivery_id: UUID, **values: Any) -> None: ...

    async def attempts(self, delivery_id: UUID) -> list[tuple[int, str, bool]]: ...


class MemoryBackend:
    def __init__(self) -> None:
        self._offset = timedelta()
        self.state = MemoryState(clock=lambda: datetime.now(UTC) + self._offset)
        self.ledger: DeliveryLedger = MemoryLedger(self.state)

    async def register(self, company: UUID, platform: str, organization: str = "org", enabled: bool = True) -> None:
        self.state.company_platforms[company, platform] = CompanyPlatform(
            company_id=company, platform=platform, organization_id=organization, enabled=enabled
        )

    async def pass_time(self, seconds: float) -> None:
        self._offset += timedelta(seconds=seconds)

    async def row(self, delivery_id: UUID) -> dict[str, Any]:
        record = self.state.deliveries[delivery_id]
        return {name: getattr(record, name) for name in record.__slots__}

    async def set_row(self, delivery_id: UUID, **values: Any) -> None:
        for name, value in values.items():
            setattr(self.state.deliveries[delivery_id], name, value)

    async def attempts(self, delivery_id: UUID) -> list[tuple[int, str, bool]]:
        return sorted(
            (number, attempt.outcome, attempt.counted)
            for (delivery, number), attempt in self.state.attempts.items()
            if delivery == delivery_id
        )


class PostgresBackend:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.ledger: DeliveryLedger = PostgresLedger(database)

    async def register(self, company: UUID, platform: str, organization: str = "org", enabled: bool = True) -> None:
        await self.database.fetch(
            "insert into company_platforms (company_id, platform, organization_id, enabled) values ($1, $2, $3, $4)",
            company,
            platform,
            organization,
            enabled,
        )

    async def pass_time(self, seconds: float) -> None:
        changes = ", ".join(f"{name} = {name} - make_interval(secs => $1)" for name in _TIMES)
        await self.database.fetch(f"update impact_deliveries set {changes}", seconds)
        await self.database.fetch(
            "update reader_progress set read_up_to = read_up_to - make_interval(secs => $1), "
            "updated_at = updated_at - make_interval(secs => $1)",
            seconds,
        )
        await self.database.fetch(
            "update platform_holds set held_from = held_from - make_interval(secs => $1), "
            "held_until = held_until - make_interval(secs => $1), "
            "next_probe_at = next_probe_at - make_interval(secs => $1), "
            "probing_until = probing_until - make_interval(secs => $1)",
            seconds,
        )

        await self.database.fetch(
            "update company_platforms set updated_at = updated_at - make_interval(secs => $1)", seconds
        )

    async def row(self, delivery_id: UUID) -> dict[str, Any]:
        rows = await self.database.fetch("select * from impact_deliveries where id = $1", delivery_id)
        return dict(rows[0])

    async def set_row(self, delivery_id: UUID, **values: Any) -> None:
        for name, value in values.items():
            await self.database.fetch(f"update impact_deliveries set {name} = $2 where id = $1", delivery_id, value)

    async def attempts(self, delivery_id: UUID) -> list[tuple[int, str, bool]]:
        rows = await self.database.fetch(
            "select attempt, outcome, counted from delivery_attempts where delivery_id = $1 order by attempt",
            delivery_id,
        )
        return [(row["attempt"], row["outcome"], row["counted"]) for row in rows]


@asynccontextmanager
async def postgres_backend(url: str) -> AsyncIterator[PostgresBackend]:
    async with await Database.open(url) as database:
        await migrate(database)
        yield PostgresBackend(database)
