"""Companies' platforms in PostgreSQL."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from delivery_log.contract import CompanyPlatform
from delivery_log.postgres.database import Database, sql

_SET_COMPANY_PLATFORMS = sql("set_company_platforms")
_LIST_COMPANY_PLATFORMS = sql("list_company_platforms")


class PostgresCompanyRegistry:
    """`delivery_log.contract.CompanyRegistry` on a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_company_platforms(self, entries: Sequence[CompanyPlatform]) -> None:
        # One statement cannot change a row twice: of several entries with one key the last counts.
        last = list({(entry.company_id, entry.platform): entry for entry in entries}.values())
        if not last:
            return
        try:
            # Twice: the first waits for events that are being recorded with what was entered before, and does not see
            # their deliveries; the second does.
            for _ in range(2):
                await self._database.fetch(
                    _SET_COMPANY_PLATFORMS,
                    [entry.company_id for entry in last],
                    [entry.platform for entry in last],
                    [entry.organization_id for entry in last],
                    [entry.enabled for entry in last],
                )
        except (asyncpg.DataError, asyncpg.ProgramLimitExceededError) as error:
            raise ValueError(f"the ledger cannot hold a company's platform ({type(error).__name__})") from None

    async def company_platforms(self, company_id: UUID | None = None) -> list[CompanyPlatform]:
        rows = await self._database.fetch(_LIST_COMPANY_PLATFORMS, company_id)
        return [
            CompanyPlatform(
                company_id=row["company_id"],
                platform=row["platform"],
                organization_id=row["organization_id"],
                enabled=row["enabled"],
            )
            for row in rows
        ]
