"""A flush of Redis in the middle of a day does not let more through than the limit."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest
import redis.asyncio

from delivery_log.contract import LedgerUnavailable
from guards.quota_contract import Granted, Limits
from guards.quota_memory import MemoryQuotas
from guards.quota_redis import RedisQuotas
from impact_in.recent_requests import RecentRequests

LIMITS = Limits(per_minute=50, per_day=10)


class Log:
    """A ledger that knows what it is told."""

    def __init__(self) -> None:
        self.sent: dict[str, list[float]] = {}
        self.asked: list[Sequence[str] | None] = []
        self.available = True

    async def recent_requests(
        self, platform: str, organizations: Sequence[str] | None, *, within: float
    ) -> dict[str, list[float]]:
        self.asked.append(organizations)
        await asyncio.sleep(0)
        if not self.available:
            raise LedgerUnavailable("away")
        assert within > 86_400.0
        return self.sent


async def granted(quotas: RedisQuotas | MemoryQuotas, times: int) -> int:
    answers = [await quotas.take("benevity:org", LIMITS) for _ in range(times)]
    return sum(isinstance(answer, Granted) for answer in answers)


@pytest.mark.servers
async def test_a_flush_in_the_middle_of_a_days_window_lets_no_more_through(redis_url: str) -> None:
    log = Log()
    quotas = RedisQuotas.open(redis_url, str(uuid4()), attempts=RecentRequests(log, "benevity", lambda: LIMITS))
    try:
        assert await granted(quotas, 7) == 7
        log.sent = {"org": [3_600.0] * 6 + [1.0]}
        async with redis.asyncio.Redis.from_url(redis_url) as server:
            await server.flushdb()
        assert await granted(quotas, 20) == 3
    finally:
        await quotas.close()


@pytest.mark.fast
async def test_many_scopes_that_ask_together_are_one_question() -> None:
    log = Log()
    log.sent = {"org-3": [1.0, 2.0]}
    recent = RecentRequests(log, "benevity", lambda: LIMITS)
    answers = await asyncio.gather(*(recent(f"benevity:org-{number}") for number in range(500)))
    assert [list(answer) for answer in answers] == [[1.0, 2.0] if number == 3 else [] for number in range(500)]
    assert len(log.asked) == 1


@pytest.mark.fast
async def test_an_account_is_asked_for_as_a_whole_and_what_is_unlimited_not_at_all() -> None:
    log = Log()
    log.sent = {"": [5.0]}
    assert await RecentRequests(log, "goodera", lambda: LIMITS)("goodera:") == [5.0]
    assert await RecentRequests(log, "goodera", Limits)("goodera:") == ()
    assert log.asked == [None]


@pytest.mark.fast
async def test_a_ledger_that_is_away_grants_nothing() -> None:
    log = Log()
    log.available = False
    quotas = MemoryQuotas(attempts=RecentRequests(log, "benevity", lambda: LIMITS))
    with pytest.raises(LedgerUnavailable):
        await quotas.take("benevity:org", LIMITS)
