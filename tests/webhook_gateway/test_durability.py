"""The gateway over a real PostgreSQL: what is answered is a row, and what is not a row is not answered."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from delivery_log.contract import Arrival, Claim, CompanyPlatform, Go, Owner, Result
from delivery_log.postgres.companies import PostgresCompanyRegistry
from delivery_log.postgres.database import Database
from delivery_log.postgres.inspection import PostgresInspection
from delivery_log.postgres.ledger import PostgresLedger
from delivery_log.postgres.migrations import migrate
from delivery_log.postgres.statuses import PostgresStatusLog
from schemas.identity import delivery_id
from tests.servers import eventually
from tests.webhook_gateway.conftest import Gateway, MakeGateway

RECEIVED = (200, {"received": True})


class Wire:
    """A proxy before the database, that can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._cut = False
        self.port = 0

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._server.close()

    def cut(self) -> None:
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self._cut = False

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        to_reader, to_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, to_writer}
        await asyncio.gather(self._pump(reader, to_writer), self._pump(to_reader, writer))
        self._writers -= {writer, to_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@pytest.fixture
async def wire(database_url: str) -> AsyncIterator[Wire]:
    server = urlsplit(database_url)
    async with Wire(server.hostname or "127.0.0.1", server.port or 5432) as wire:
        yield wire


@pytest.fixture
async def database(database_url: str, wire: Wire) -> AsyncIterator[Database]:
    """Through the wire; gives up soon."""
    server = urlsplit(database_url)
    login, _, _ = server.netloc.rpartition("@")
    url = server._replace(netloc=f"{login}@127.0.0.1:{wire.port}" if login else f"127.0.0.1:{wire.port}").geturl()
    async with await Database.open(url, patience=0.3) as database:
        await migrate(database)
        yield database


@pytest.fixture
async def gateway(make_gateway: MakeGateway, database: Database) -> Gateway:
    made: Gateway = await make_gateway(
        status_log=PostgresStatusLog(database), inspection=PostgresInspection(database), check_timeout=1.0
    )
    return made


async def stored(database_url: str) -> set[str]:
    """Transaction ids, looked at past the wire."""
    connection = await asyncpg.connect(database_url)
    try:
        return {row["transaction_id"] for row in await connection.fetch("select transaction_id from status_events")}
    finally:
        await connection.close()


async def test_everything_answered_is_a_row_and_nothing_else(gateway: Gateway, database_url: str) -> None:
    async def send(number: int) -> None:
        assert await gateway.post({"transaction": f"t{number % 80}", "status": "confirmed"}) == RECEIVED
        assert (await gateway.post({"transaction": f"forged{number}"}, x_signature="f" * 64))[0] == 401

    await asyncio.gather(*(send(number) for number in range(100)))
    assert await stored(database_url) == {f"t{number}" for number in range(80)}
    assert (len(gateway.watch.received), len(gateway.watch.repeated)) == (80, 20)


async def test_the_database_away_is_a_503_and_its_return_is_noticed(
    gateway: Gateway, wire: Wire, database_url: str
) -> None:
    assert await gateway.post({"transaction": "before"}) == RECEIVED
    wire.cut()
    status, problem = await gateway.post({"transaction": "during"})
    assert (status, problem["status"]) == (503, 503)
    assert (await gateway.post({"transaction": "forged"}, x_signature="f" * 64))[0] == 401
    async with gateway.client.get("/health") as answer:
        assert (answer.status, (await answer.json())["status"]) == (503, "unhealthy")
    wire.mend()
    assert await gateway.post({"transaction": "during"}) == RECEIVED
    async with gateway.client.get("/health/ready") as answer:
        assert answer.status == 200
    assert await stored(database_url) == {"before", "during"}


async def test_a_read_only_database_is_a_503_too(gateway: Gateway, database: Database, database_url: str) -> None:
    async def on_server(setting: str) -> None:
        connection = await asyncpg.connect(database_url)
        try:
            name = await connection.fetchval("select current_database()")
            await connection.execute("set default_transaction_read_only = off")
            await connection.execute(f"alter database {name} set default_transaction_read_only = {setting}")
            await connection.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()",
                name,
            )
        finally:
            await connection.close()

    await on_server("on")
    assert (await gateway.post({"transaction": "t1"}))[0] == 503
    async with gateway.client.get("/health/ready") as answer:
        assert answer.status == 503
    await on_server("off")

    async def taken() -> bool:
        return await gateway.post({"transaction": "t1"}) == RECEIVED

    await eventually(taken)


async def test_a_status_that_came_early_moves_its_delivery_when_that_is_accepted(
    gateway: Gateway, database: Database
) -> None:
    company, event = uuid4(), uuid4()
    delivery = delivery_id(event, "plain")
    assert await gateway.post({"transaction": "early", "status": "confirmed"}) == RECEIVED
    await deliver(database, company, event, "early")

    async def platform_status() -> Any:
        row = await PostgresInspection(database).delivery(delivery)
        return row.platform_status if row else None

    await eventually(platform_status)
    assert await platform_status() == "confirmed"
    assert gateway.watch.linked == 1


async def deliver(database: Database, company: UUID, event: UUID, transaction: str) -> None:
    """What a worker does with one event."""
    await PostgresCompanyRegistry(database).set_company_platforms(
        [CompanyPlatform(company_id=company, platform="plain", organization_id="org")]
    )
    ledger, owner, delivery = PostgresLedger(database), Owner("w1", 1), delivery_id(event, "plain")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await ledger.record_events(
        [
            Arrival(
                event_id=event,
                company_id=company,
                content_hash="c" * 64,
                body=b"avro",
                traceparent=trace,
                platforms=("plain",),
            )
        ]
    )
    claim = Claim(
        delivery_id=delivery,
        hop=1,
        content_hash="c" * 64,
        organization_id="org",
        generation=0,
        payload_hash="p" * 64,
        payload_sample="{}",
    )
    (verdict,) = await ledger.begin([claim], owner=owner, lease=60, ordered=False, key_memory=86_400)
    assert isinstance(verdict, Go)
    result = Result(
        delivery_id=delivery,
        attempt=verdict.attempt,
        outcome="accepted",
        counted=True,
        then="delivered",
        transaction_id=transaction,
    )
    await ledger.finish([result], owner=owner, deadline=86_400, ordered=False)
