"""One pool of connections, and the patience that every statement needs: deadlocks, failovers, lost replies."""

import asyncio
import json
import time
from importlib import resources
from types import TracebackType
from typing import Any, Self

import asyncpg

from delivery_log.contract import LedgerUnavailable

# Losing a race is no failure: the same statement again, at once.
_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
# Out of reach, shutting down, or read-only after a failover: the same statement again, a little later. Every statement
# that writes carries a token, so that one that had worked although its reply was lost answers alike.
_LATER = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InternalClientError,
    ConnectionError,
    OSError,
    TimeoutError,
)


# A prepared statement keeps its plan. One that was made while a table was new and empty reads the table from end to
# end, and goes on so with a million rows in it, until an ANALYZE comes by. Every statement of ours has an index to go
# by; and what has none must not be compiled for its dearness.
_PLANS = {"enable_seqscan": "off", "jit": "off"}


def sql(name: str) -> str:
    """The text of `delivery_log/sql/{name}.sql`."""
    return resources.files("delivery_log").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


class Database:
    """A pool. Use `async with await Database.open(url)`, or `close()` it."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", patience: float, statement_timeout: float) -> None:
        self._pool = pool
        self._patience = patience
        self._statement_timeout = statement_timeout

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        connections: int = 8,
        patience: float = 4.0,
        statement_timeout: float = 30.0,
        application: str = "impact-in",
    ) -> Self:
        """`patience`: seconds that a statement is repeated for while the server is away. Raises LedgerUnavailable."""
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=0,
                max_size=connections,
                command_timeout=statement_timeout,
                timeout=5.0,
                init=_init_connection,
                reset=_leave_as_it_is,
                server_settings={"application_name": application, "timezone": "UTC", **_PLANS},
            )
        except (asyncpg.PostgresError, *_LATER) as error:
            raise LedgerUnavailable(_explain(error)) from error
        database = cls(pool, patience, statement_timeout)
        try:
            await database.fetch("select 1")
        except LedgerUnavailable:
            await database.close()
            raise
        return database

    async def fetch(self, statement: str, *args: Any, once: bool = False) -> list[asyncpg.Record]:
        """The rows. Repeats what may be repeated, unless `once`. Raises LedgerUnavailable when it gives up."""
        give_up_at = time.monotonic() + (0.0 if once else self._patience)
        delay = 0.05
        while True:
            try:
                return await self._pool.fetch(statement, *args)
            except _AGAIN as error:
                if time.monotonic() >= give_up_at:
                    raise LedgerUnavailable(_explain(error)) from error
            except _LATER as error:
                if time.monotonic() + delay >= give_up_at or self._pool.is_closing():
                    raise LedgerUnavailable(_explain(error)) from error
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)

    def acquire(self) -> Any:
        """A connection for more than one statement (an advisory lock, a migration); errors are the driver's own."""
        return self._pool.acquire()

    async def close(self) -> None:
        """Gives running statements five seconds, then cuts them off."""
        try:
            await asyncio.wait_for(self._pool.close(), 5.0)
        except TimeoutError:
            self._pool.terminate()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _leave_as_it_is(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """No statement of ours leaves anything behind in its session: the driver's reset would cost each a second round
    trip. Who takes an advisory lock gives it back."""


async def _init_connection(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.set_type_codec("jsonb", encoder=str, decoder=json.loads, schema="pg_catalog")


def _explain(error: BaseException) -> str:
    # The class and SQLSTATE only: a driver's message may quote the address, a role, or a row.
    state = getattr(error, "sqlstate", None)
    return f"Postgres is out of reach or cannot write ({type(error).__name__}{f', SQLSTATE {state}' if state else ''})"
