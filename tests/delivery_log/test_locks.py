"""What other sessions do to the ledger's rows: only Postgres has these."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from delivery_log.contract import Busy, CompanyPlatform, Finished, Go, Leased
from delivery_log.postgres.companies import PostgresCompanyRegistry
from tests.delivery_log.ledger_backends import PostgresBackend, postgres_backend
from tests.delivery_log.test_ledger import ME, accepted, arrival, begin, claim, one_delivery
from tests.servers import eventually

pytestmark = pytest.mark.servers


@pytest.fixture
async def backend(database_url: str) -> AsyncIterator[PostgresBackend]:
    async with postgres_backend(database_url) as real:
        yield real


@pytest.fixture
async def psql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """An operator's session."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_row_that_an_operator_has_locked_holds_up_no_other(
    backend: PostgresBackend, psql: asyncpg.Connection
) -> None:
    locked, free = await one_delivery(backend), await one_delivery(backend)
    transaction = psql.transaction()
    await transaction.start()
    await psql.execute("update impact_deliveries set status = 'failed' where id = $1", locked.delivery_id)
    verdicts = await asyncio.wait_for(begin(backend, claim(locked), claim(free)), 5)
    assert isinstance(verdicts[0], Leased)
    assert verdicts[0].remaining < 1
    assert isinstance(verdicts[1], Go)
    await transaction.rollback()
    [go] = await begin(backend, claim(locked))
    assert isinstance(go, Go)


async def test_a_result_of_a_locked_row_is_busy_and_the_others_are_written(
    backend: PostgresBackend, psql: asyncpg.Connection
) -> None:
    locked, free = await one_delivery(backend), await one_delivery(backend)
    await begin(backend, claim(locked), claim(free))
    transaction = psql.transaction()
    await transaction.start()
    await psql.execute("select from impact_deliveries where id = $1 for update", locked.delivery_id)
    answers = await asyncio.wait_for(
        backend.ledger.finish([accepted(locked), accepted(free)], owner=ME, deadline=30.0, ordered=True), 5
    )
    assert answers[0] == Busy()
    assert isinstance(answers[1], Finished)
    assert answers[1].status == "delivered"
    assert await backend.attempts(locked.delivery_id) == []
    await transaction.rollback()
    [answer] = await backend.ledger.finish([accepted(locked)], owner=ME, deadline=30.0, ordered=True)
    assert isinstance(answer, Finished)
    assert answer.status == "delivered"


async def test_an_event_recorded_while_its_company_moves_goes_where_it_moved(
    backend: PostgresBackend, psql: asyncpg.Connection
) -> None:
    company = uuid4()
    await backend.register(company, "benevity", "old")
    event = arrival(company)
    # The event's statement is held up after it has read the old organization: by a row of the same id.
    transaction = psql.transaction()
    await transaction.start()
    await psql.execute(
        "insert into impact_events (id, content_hash, company_id, disposition, traceparent, trace_id) "
        "values ($1, '', $2, 'unrouted', '', '')",
        event.event_id,
        company,
    )
    recording = asyncio.create_task(backend.ledger.record_events([event]))
    await eventually(lambda: _waiting(backend, 1), what="the event waits for the row")
    registry = PostgresCompanyRegistry(backend.database)
    moved = CompanyPlatform(company_id=company, platform="benevity", organization_id="new")
    moving = asyncio.create_task(registry.set_company_platforms([moved]))
    await eventually(lambda: _waiting(backend, 2), what="the change waits for the event")
    await transaction.rollback()
    [recorded] = await recording
    await moving
    row = await backend.row(recorded.requests[0].delivery_id)
    assert row["organization_id"] == "new"


async def _waiting(backend: PostgresBackend, sessions: int) -> bool:
    # Not in the operator's transaction: there the first look would be repeated.
    [row] = await backend.database.fetch(
        "select count(*) as waiting from pg_stat_activity "
        "where datname = current_database() and wait_event_type = 'Lock'"
    )
    return int(row["waiting"]) >= sessions
