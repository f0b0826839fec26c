"""Numbered SQL files, each applied once, in order, under an advisory lock: any number of processes may call it."""

import hashlib
from importlib import resources

import asyncpg
import msgspec

from delivery_log.contract import LedgerUnavailable
from delivery_log.postgres.database import Database

_LOCK = 0x696D7061  # "impa": one migration at a time a database


class MigrationError(Exception):
    """The database was migrated by other files than these; says which."""


class Migration(msgspec.Struct, frozen=True):
    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All of `delivery_log/migrations/`, in order."""
    files = sorted(
        (
            file
            for file in resources.files("delivery_log").joinpath("migrations").iterdir()
            if file.name.endswith(".sql")
        ),
        key=lambda file: file.name,
    )
    return [Migration(int(file.name[:4]), file.name[:-4], file.read_text(encoding="utf-8")) for file in files]


async def migrate(database: Database) -> list[str]:
    """Applies what is missing, each file in a transaction of its own; the names of those applied now."""
    applied_now: list[str] = []
    try:
        async with database.acquire() as connection:
            await connection.execute("select pg_advisory_lock($1)", _LOCK)
            try:
                await connection.execute(
                    "create table if not exists schema_migrations (number integer primary key, name text not null, "
                    "checksum text not null, applied_at timestamptz not null default now())"
                )
                known = {row["number"]: row for row in await connection.fetch("select * from schema_migrations")}
                for migration in migrations():
                    row = known.get(migration.number)
                    if row is not None:
                        if row["checksum"] != migration.checksum:
                            raise MigrationError(
                                f"migration {migration.name} was applied with other content (as {row['name']}); "
                                "restore the file it was made from, or use an empty database"
                            )
                        continue
                    async with connection.transaction():
                        await connection.execute(migration.text)
                        await connection.execute(
                            "insert into schema_migrations (number, name, checksum) values ($1, $2, $3)",
                            migration.number,
                            migration.name,
                            migration.checksum,
                        )
                    applied_now.append(migration.name)
            finally:
                if not connection.is_closed():
                    await connection.execute("select pg_advisory_unlock($1)", _LOCK)
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError) as error:
        raise LedgerUnavailable(f"Postgres went away during migration ({type(error).__name__})") from error
    return applied_now


async def pending_migrations(database: Database) -> list[str]:
    """Names of migrations that this version needs and the database lacks."""
    rows = await database.fetch(
        "select to_regclass('schema_migrations') is not null as present",
    )
    known: set[int] = set()
    if rows[0]["present"]:
        known = {row["number"] for row in await database.fetch("select number from schema_migrations")}
    return [migration.name for migration in migrations() if migration.number not in known]
