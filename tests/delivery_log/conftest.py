"""The ledger's contracts over one set of tables, in memory and in PostgreSQL: `books` gives each test both."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from delivery_log.contract import (
    Arrival,
    Claim,
    CompanyRegistry,
    Go,
    Inspection,
    Owner,
    Result,
    StatusEvent,
    StatusLog,
)
from delivery_log.memory.companies import MemoryCompanyRegistry
from delivery_log.memory.inspection import MemoryInspection
from delivery_log.memory.statuses import MemoryStatusLog
from delivery_log.postgres.companies import PostgresCompanyRegistry
from delivery_log.postgres.inspection import PostgresInspection
from delivery_log.postgres.statuses import PostgresStatusLog
from schemas.identity import delivery_id
from tests.delivery_log.ledger_backends import Backend, MemoryBackend, PostgresBackend, postgres_backend

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WORKER = Owner("w1-deliver-0", 1)


@dataclass
class Books:
    """One ledger through all of its contracts, and the short ways that tests take to a state."""

    backend: Backend
    companies: CompanyRegistry
    statuses: StatusLog
    inspection: Inspection

    async def pending(self, platform: str = "benevity", company: UUID | None = None) -> UUID:
        """A delivery on its way."""
        company = company or uuid4()
        if not any(entry.platform == platform for entry in await self.companies.company_platforms(company)):
            await self.backend.register(company, platform)
        event = uuid4()
        arrival = Arrival(
            event_id=event,
            company_id=company,
            content_hash="c" * 64,
            body=b"avro",
            traceparent=TRACE,
            platforms=(platform,),
        )
        (recorded,) = await self.backend.ledger.record_events([arrival])
        assert recorded.recording == "accepted"
        return delivery_id(event, platform)

    async def begin(self, delivery: UUID) -> int:
        """Leased: the number of the attempt."""
        row = await self.backend.row(delivery)
        claim = Claim(
            delivery_id=delivery,
            hop=row["hop"],
            content_hash="c" * 64,
            organization_id=row["organization_id"],
            generation=row["generation"],
            payload_hash="p" * 64,
            payload_sample="{}",
        )
        (verdict,) = await self.backend.ledger.begin([claim], owner=WORKER, lease=60, ordered=False, key_memory=86_400)
        assert isinstance(verdict, Go)
        return verdict.attempt

    async def finish(self, delivery: UUID, attempt: int, **values: Any) -> None:
        result = Result(delivery_id=delivery, attempt=attempt, **values)
        (finished,) = await self.backend.ledger.finish([result], owner=WORKER, deadline=86_400, ordered=False)
        assert finished.applied

    async def accept(self, delivery: UUID, transaction: str | None) -> UUID:
        """Sent and accepted under this transaction id."""
        attempt = await self.begin(delivery)
        await self.finish(
            delivery,
            attempt,
            outcome="accepted",
            counted=True,
            then="delivered",
            http_status=200,
            duration_ms=12.5,
            started_at=datetime.now(UTC),
            transaction_id=transaction,
        )
        return delivery

    async def delivered(self, transaction: str | None, platform: str = "benevity", company: UUID | None = None) -> UUID:
        return await self.accept(await self.pending(platform, company), transaction)


@pytest.fixture(
    params=[pytest.param("memory", marks=pytest.mark.fast), pytest.param("postgres", marks=pytest.mark.servers)]
)
def books_url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue("database_url")


@pytest.fixture
async def books(books_url: str | None) -> AsyncIterator[Books]:
    if books_url is None:
        yield memory_books()
        return
    async with postgres_backend(books_url) as backend:
        yield postgres_books(backend)


@pytest.fixture
async def real_books(database_url: str) -> AsyncIterator[Books]:
    """For what only a database can do."""
    async with postgres_backend(database_url) as backend:
        yield postgres_books(backend)


@pytest.fixture
def twin() -> Books:
    return memory_books()


def memory_books() -> Books:
    backend = MemoryBackend()
    state = backend.state
    return Books(backend, MemoryCompanyRegistry(state), MemoryStatusLog(state), MemoryInspection(state))


def postgres_books(backend: PostgresBackend) -> Books:
    database = backend.database
    return Books(backend, PostgresCompanyRegistry(database), PostgresStatusLog(database), PostgresInspection(database))


NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def status_event() -> Any:
    """Makes status events; `minute` is their platform time after noon."""

    def make(
        transaction: str | None, status: str | None = "confirmed", minute: float = 0, **values: Any
    ) -> StatusEvent:
        fields: dict[str, Any] = {
            "id": uuid4(),
            "platform": "benevity",
            "event_type": "delivery.success",
            "transaction_id": transaction,
            "activity_id": None,
            "platform_status": status,
            "payload": json.dumps({"transaction_id": transaction}),
            "error_message": "Not on our books" if status == "rejected" else None,
            "occurred_at": NOON + timedelta(minutes=minute),
            "traceparent": TRACE,
        }
        return StatusEvent(**(fields | values))

    return make
