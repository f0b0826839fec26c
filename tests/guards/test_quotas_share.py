"""Quotas while the shared memory is away: what a worker grants itself, and that the limit outlives an outage."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guards.quota_contract import LENGTHS, Granted, Limits, Wait
from guards.quota_memory import MemoryQuotas, Windows
from guards.quota_redis import RedisQuotas
from guards.share import LocalQuota, SharedOrLocal
from impact_in.local_stack.cache import Cache
from tests.guards.test_quotas import GAPS, LIMITS, Clock, most_in_any_window

SECOND = 1_000_000


def local(old: Windows | None = None, *, everyone: bool = True) -> LocalQuota:
    return LocalQuota(old or Windows(), everyone=everyone)


@pytest.mark.fast
def test_a_share_is_rounded_down() -> None:
    quota, now = local(), 50 * SECOND
    for _ in range(3):
        assert quota.free_at(now, Limits(per_second=10), 0.39) == now
        quota.add(now)
    assert now + SECOND < quota.free_at(now, Limits(per_second=10), 0.39) <= now + SECOND * 61 // 60 + 20


@pytest.mark.fast
def test_a_share_below_one_request_has_one_in_a_longer_time() -> None:
    quota, now = local(), 50 * SECOND
    assert quota.free_at(now, Limits(per_second=10), 1 / 20) == now
    quota.add(now)
    free = quota.free_at(now, Limits(per_second=10), 1 / 20)
    assert free == pytest.approx(now + 2 * SECOND, abs=10)
    assert quota.free_at(free, Limits(per_second=10), 1 / 20) == free


@pytest.mark.fast
def test_a_share_of_exactly_one_request_is_one_whatever_the_rounding() -> None:
    for workers in range(1, 200):
        quota = local()
        quota.add(SECOND)
        assert quota.free_at(SECOND, Limits(per_second=workers), 1 / workers) < 2.1 * SECOND


@pytest.mark.fast
@settings(max_examples=200, deadline=None)
@given(
    limits=LIMITS,
    parts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    before=st.lists(st.tuples(GAPS, st.integers(1, 8)), max_size=20),
    away=st.lists(st.tuples(GAPS, st.integers(0, 3), st.integers(1, 8)), max_size=60),
)
def test_shares_and_what_was_granted_before_stay_within_the_limit_together(
    limits: Limits,
    parts: list[int],
    before: list[tuple[float, int]],
    away: list[tuple[float, int, int]],
) -> None:
    """Against the oracle, in the windows across the switch too, for workers with at least one request each."""
    shares = [part / sum(parts) for part in parts]
    clock = Clock(1000.0)
    shared, granted = MemoryQuotas(clock=clock), list[float]()

    async def run_before() -> None:
        for gap, asks in before:
            clock.now += gap
            for _ in range(asks):
                if isinstance(await shared.take("acme", limits), Granted):
                    granted.append(clock.now)

    asyncio.run(run_before())
    now = round(clock.now * SECOND)
    old = Windows()
    for at in granted:
        old.add(round(at * SECOND), now)
    workers = [local(old.copy()) for _ in shares]
    for gap, chosen, asks in away:
        clock.now += gap
        now = round(clock.now * SECOND)
        worker, share = workers[chosen % len(shares)], shares[chosen % len(shares)]
        for _ in range(asks):
            free = worker.free_at(now, limits, share)
            if free == now:
                worker.add(now)
                granted.append(clock.now)
            else:
                assert free > now
                assert worker.free_at(free, limits, share) == free  # the wait is exact
                assert worker.free_at(free - 1, limits, share) == free
    for limit, length in zip(limits.in_order(), LENGTHS, strict=True):
        if limit is not None and all(share * limit >= 1 - 1e-9 for share in shares):
            assert most_in_any_window(granted, length / SECOND - 1e-6) <= limit


class Fleet:
    """Two workers on one memory, which can go away. A ledger that knows every grant, where `ledger` is set."""

    def __init__(self, *, ledger: bool) -> None:
        self.ledger = ledger
        self.clock = Clock(1000.0)
        self.shared = MemoryQuotas(clock=self.clock)
        self.granted: list[float] = []
        self.shares = [0.5, 0.5]
        self.workers = [
            SharedOrLocal(
                self.shared,
                lambda worker=worker: self.shares[worker],  # type: ignore[misc]
                attempts=self.attempts if ledger else None,
                clock=self.clock,
                probe_every=0.001,
                settle=3.0,
            )
            for worker in range(2)
        ]

    async def attempts(self, scope: str) -> Sequence[float]:
        return [self.clock.now - at for at in self.granted] if scope == "acme" else []

    async def take_all(self, worker: int, limits: Limits) -> int:
        number = 0
        while isinstance(await self.workers[worker].take("acme", limits), Granted):
            self.granted.append(self.clock.now)
            number += 1
        return number

    async def come_back(self) -> None:
        self.shared.available = True
        await asyncio.gather(*(worker._probe for worker in self.workers if worker._probe is not None))


@pytest.fixture(params=[True, False], ids=["with the ledger", "without"])
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    fleet = Fleet(ledger=request.param)
    yield fleet
    for worker in fleet.workers:
        await worker.close()


@pytest.mark.fast
async def test_an_outage_leaves_each_worker_its_share_and_the_way_back_exceeds_nothing(fleet: Fleet) -> None:
    limits = Limits(per_minute=10)
    fleet.shared.available = False
    assert await fleet.take_all(0, limits) == 5
    # The ledger has these five by the time the second worker falls back: it has its share of what is left.
    others = await fleet.take_all(1, limits)
    assert others == (2 if fleet.ledger else 5)
    assert not fleet.workers[0].in_touch
    assert await fleet.workers[0].usage("acme", limits) == {"per_minute": 5}
    await fleet.come_back()
    assert await fleet.shared.usage("acme", limits) == {"per_minute": 5 + others}
    assert [await fleet.take_all(0, limits), await fleet.take_all(1, limits)] == [0, 0]
    fleet.clock.now += 61
    assert [await fleet.take_all(0, limits), await fleet.take_all(1, limits)] == [10, 0]
    assert fleet.workers[0].in_touch


@pytest.mark.fast
async def test_before_the_others_have_told_nobody_takes_more_than_its_share(fleet: Fleet) -> None:
    limits = Limits(per_minute=10)
    fleet.shared.available = False
    await fleet.workers[0].take("acme", limits)
    fleet.granted.append(fleet.clock.now)
    await fleet.come_back()
    assert await fleet.take_all(0, limits) == 4
    fleet.clock.now += 3
    assert await fleet.take_all(0, limits) == 5


@pytest.mark.fast
async def test_what_was_used_before_the_outage_is_not_there_again() -> None:
    with_ledger, without = Fleet(ledger=True), Fleet(ledger=False)
    limits = Limits(per_minute=10)
    for fleet, expected in ((with_ledger, [0, 0]), (without, [0, 5])):
        assert await fleet.take_all(0, limits) == 10
        fleet.shared.available = False
        assert [await fleet.take_all(0, limits), await fleet.take_all(1, limits)] == expected
        fleet.clock.now += 61
        assert await fleet.take_all(0, limits) == 5
        for worker in fleet.workers:
            await worker.close()


@pytest.mark.fast
async def test_a_share_that_moves_is_judged_by_the_ledger_anew() -> None:
    fleet, limits = Fleet(ledger=True), Limits(per_minute=10)
    fleet.shares = [1.0, 0.0]
    fleet.shared.available = False
    assert await fleet.take_all(0, limits) == 10
    assert await fleet.workers[1].take("acme", limits) == Wait(1.0)
    fleet.shares = [0.5, 0.5]
    assert await fleet.take_all(1, limits) == 0
    for worker in fleet.workers:
        await worker.close()


@pytest.mark.fast
async def test_a_hold_and_what_is_given_back_work_away_from_the_memory(fleet: Fleet) -> None:
    limits, worker = Limits(per_minute=2), fleet.workers[0]
    fleet.shared.available = False
    granted = await worker.take("acme", limits)
    assert isinstance(granted, Granted)
    assert granted.token.startswith("local:")
    await worker.give_back("acme", granted)
    await worker.give_back("acme", granted)
    await worker.give_back("acme", Granted("from before"))
    assert await fleet.take_all(0, limits) == 1
    await worker.hold("other", 30)
    assert await worker.take("other", limits) == Wait(30)
    await worker.rebuild("other", limits, [1.0])
    await worker.tell("other", [2.0])
    await fleet.come_back()
    assert await fleet.shared.take("other", limits) == Wait(30)
    assert await fleet.shared.usage("other", limits) == {"per_minute": 1}
    assert await fleet.shared.usage("acme", limits) == {"per_minute": 1}


@pytest.mark.fast
async def test_an_outage_while_the_others_are_waited_for_is_one_more_outage(fleet: Fleet) -> None:
    limits = Limits(per_minute=10)
    fleet.shared.available = False
    assert await fleet.take_all(0, limits) == 5
    await fleet.come_back()
    assert await fleet.take_all(1, limits) == 5
    fleet.shared.available = False
    assert [await fleet.take_all(0, limits), await fleet.take_all(1, limits)] == [0, 0]
    fleet.clock.now += 61
    assert [await fleet.take_all(0, limits), await fleet.take_all(1, limits)] == [5, 5]


@pytest.mark.servers
async def test_two_workers_stay_within_the_limit_while_valkey_goes_and_comes_back() -> None:
    """Killed, so that its memory is lost as well; the ledger tells it again."""
    limits = Limits(per_second=20, per_minute=2_000)
    granted: list[tuple[float, int]] = []

    async def attempts(scope: str) -> Sequence[float]:
        now = time.monotonic()
        return [now - at for at, _ in granted]

    with tempfile.TemporaryDirectory(prefix="impact-in-quota-") as directory, Cache(Path(directory)) as valkey:
        workers = [
            SharedOrLocal(
                RedisQuotas.open(valkey.url, "ledger-1", attempts=attempts), lambda: 0.5, attempts=attempts, settle=2.0
            )
            for _ in range(2)
        ]

        async def greedy(worker: int, until: float) -> None:
            while (now := time.monotonic()) < until:
                answer = await workers[worker].take("acme", limits)
                if isinstance(answer, Granted):
                    granted.append((time.monotonic(), worker))
                else:
                    await asyncio.sleep(min(answer.after, until - now))

        began = time.monotonic()
        asking = [asyncio.create_task(greedy(worker, began + 11)) for worker in (0, 1, 0, 1)]
        await asyncio.sleep(2)
        await asyncio.to_thread(valkey.kill)
        gone = time.monotonic()
        await asyncio.sleep(3)
        assert not any(worker.in_touch for worker in workers)
        await asyncio.to_thread(valkey.start)
        back = time.monotonic()
        await asyncio.gather(*asking)
        assert all(worker.in_touch for worker in workers)
        for worker in workers:
            await worker.close()

    times = sorted(at for at, _ in granted)
    # 5 % for what lies between a grant at the server and the client's note of it.
    assert most_in_any_window(times, 0.95) <= 20
    for worker in range(2):
        own = [at for at, who in granted if who == worker and gone + 1 < at < back]
        assert len(own) >= 10
        assert most_in_any_window(own, 0.95) <= 10
    assert sum(at > back + 3.5 for at in times) >= 20 * 0.9 * (began + 11 - back - 3.5) - 20


@pytest.mark.fast
async def test_nobody_waits_for_a_memory_that_is_silent(free_port: int) -> None:
    """A port that accepts and says nothing: the first call gives up after half a second, the next do not try."""
    opened: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: opened.append(writer), "127.0.0.1", free_port)
    quotas = SharedOrLocal(RedisQuotas.open(f"redis://127.0.0.1:{free_port}/0", "ledger-1"), lambda: 1.0)
    began = time.monotonic()
    assert isinstance(await quotas.take("acme", Limits(per_day=100)), Granted)
    assert 0.4 < time.monotonic() - began < 0.9
    began = time.monotonic()
    for _ in range(99):
        assert isinstance(await quotas.take("acme", Limits(per_day=100)), Granted)
    assert time.monotonic() - began < 0.4
    await quotas.close()
    for writer in opened:
        writer.close()
    server.close()


@pytest.mark.fast
async def test_a_ledger_that_fails_is_heard_of_and_does_not_end_the_probing() -> None:
    async def attempts(scope: str) -> Sequence[float]:
        raise ConnectionResetError(scope)

    shared = MemoryQuotas(attempts=attempts)
    quotas = SharedOrLocal(shared, lambda: 1.0, attempts=attempts, probe_every=0.001)
    shared.available = False
    with pytest.raises(ConnectionResetError):
        await quotas.take("acme", Limits())
    await quotas.tell("acme", [1.0])
    shared.available = True
    await asyncio.sleep(0.05)
    assert not quotas.in_touch
    await quotas.close()
