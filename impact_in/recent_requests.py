"""What a quota's memory is told after it forgot: the ledger's requests of the last day, many scopes a question."""

from collections.abc import Callable, Sequence

from delivery.micro_batch import MicroBatcher
from delivery_log.contract import RequestLog
from guards.quota_contract import KEPT, WIDTHS, Limits


class RecentRequests:
    """`guards.quota_contract.Attempts` of one platform, whose scopes are `{platform}:{organization}`, or `{platform}:`
    for the whole account. Asked for by five hundred scopes at once, as after a flush, the ledger is asked twice."""

    def __init__(self, log: RequestLog, platform: str, limits: Callable[[], Limits]) -> None:
        self._log = log
        self._platform = platform
        self._limits = limits
        self._batcher: MicroBatcher[str, Sequence[float]] = MicroBatcher(self._ask, key=lambda scope: scope)

    async def __call__(self, scope: str) -> Sequence[float]:
        """Raises LedgerUnavailable."""
        return await self._batcher.submit(scope.removeprefix(f"{self._platform}:"))

    async def _ask(self, organizations: Sequence[str]) -> list[Sequence[float]]:
        # A window that is not limited needs not be known, and a day of a busy account is long.
        lengths = [
            width * KEPT / 1_000_000 for width, limit in zip(WIDTHS, self._limits().in_order(), strict=True) if limit
        ]
        if not lengths:
            return [()] * len(organizations)
        account = list(organizations) == [""]
        found = await self._log.recent_requests(self._platform, None if account else organizations, within=max(lengths))
        return [found.get(organization, ()) for organization in organizations]
