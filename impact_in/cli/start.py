# ruff: noqa: PLC0415 - imports stand in the functions, so that --help need not wait for them
"""What commands begin with: settings, logs, the ledger's database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from delivery_log.postgres.database import Database
    from impact_in.settings import Settings


def prepare_logs() -> None:
    """For a command that loads its settings itself, or needs none."""
    from impact_in import logs

    logs.configure(quiet=True)


def prepare(*needs: str, quiet: bool = True) -> "Settings":
    """Settings as `impact_in.settings.load`, and logs as they say. `quiet` as in `logs.configure`."""
    from impact_in import logs
    from impact_in.settings import load

    logs.configure(quiet=quiet)  # loading them may have something to say
    settings = load(*needs)
    logs.configure(level=settings.log_level, production=settings.environment == "production", quiet=quiet)
    return settings


@asynccontextmanager
async def ledger(settings: "Settings") -> AsyncIterator["Database"]:
    """A migrated database. Raises LedgerUnavailable, and StartError where `impact-in migrate` has to come first."""
    from delivery_log.postgres.database import Database
    from delivery_log.postgres.migrations import pending_migrations
    from impact_in.errors import StartError

    # A person waits: a server that is away for longer is said to be away.
    opening = Database.open(settings.database_url, connections=2, patience=1.0, application="impact-in cli")
    async with await opening as database:
        pending = await pending_migrations(database)
        if pending:
            raise StartError(f"the database lacks migration {pending[0]}; run `impact-in migrate`")
        yield database
