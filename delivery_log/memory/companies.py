"""Twin of the companies' platforms."""

from collections.abc import Sequence
from uuid import UUID

from delivery_log.contract import CompanyPlatform
from delivery_log.memory.state import MemoryState
from delivery_log.storable import check_text


class MemoryCompanyRegistry:
    """`delivery_log.contract.CompanyRegistry` over a `MemoryState`."""

    def __init__(self, state: MemoryState | None = None) -> None:
        self.state = state or MemoryState()

    async def set_company_platforms(self, entries: Sequence[CompanyPlatform]) -> None:
        for entry in entries:
            check_text(entry.platform)
            check_text(entry.organization_id)
        for entry in entries:
            self.state.company_platforms[entry.company_id, entry.platform] = entry
            self.state.company_touched[entry.company_id, entry.platform] = self.state.clock()
        for row in self.state.deliveries.values():
            now_at = self.state.company_platforms.get((row.company_id, row.platform))
            # A lease that is over but was never given back is an attempt with an uncertain fate too.
            if now_at is None or not row.unfinished or row.uncertain_since is not None or row.lease_owner is not None:
                continue
            if now_at in entries and row.error_code == "ORG_FORBIDDEN" and row.next_attempt_at is not None:
                row.next_attempt_at = min(row.next_attempt_at, self.state.clock())
            if row.organization_id != now_at.organization_id and now_at in entries:
                row.organization_id = now_at.organization_id
                row.updated_at = self.state.clock()

    async def company_platforms(self, company_id: UUID | None = None) -> list[CompanyPlatform]:
        return [
            entry
            for (company, _), entry in sorted(self.state.company_platforms.items())
            if company_id is None or company == company_id
        ]
