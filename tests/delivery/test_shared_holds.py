"""Several workers, one ledger: what one holds all hold, one probes for all, and one answer frees all."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from uuid import UUID

import pytest

from connectors.contract import Accepted, CredentialsRejected, Forbidden, Outcome, Throttled, Uncertain
from delivery.gate import Gate, Pass
from delivery.holding import Holds
from delivery.shared_holds import SharedHolds
from delivery_log.contract import HeldNow, Hold, LedgerUnavailable
from delivery_log.memory import MemoryState
from delivery_log.memory.platforms import MemoryPlatformLog
from guards.quota_memory import MemoryQuotas
from tests.delivery.virtual_time import utc
from tests.delivery.world import Watcher

pytestmark = pytest.mark.fast
PLATFORM = "benevity"


class Log(MemoryPlatformLog):
    """The twin behind a wire that may be cut."""

    away = False

    async def report_holds(self, holds: Sequence[Hold], *, owner: str, ended: Sequence[UUID] = ()) -> None:
        await self._wire()
        await super().report_holds(holds, owner=owner, ended=ended)

    async def held_now(self, *, within: float = 5.0, known: Sequence[UUID] = ()) -> list[HeldNow]:
        await self._wire()
        return await super().held_now(within=within, known=known)

    async def _wire(self) -> None:
        await asyncio.sleep(0.005)
        if self.away:
            raise LedgerUnavailable("away")


class Worker:
    """A gate, and the exchange of what it holds as a worker has it."""

    def __init__(self, name: str, log: Log, credential: str = "key") -> None:
        quotas = MemoryQuotas(clock=lambda: asyncio.get_running_loop().time())
        self.gate = Gate(
            PLATFORM,
            holds=Holds(credential),
            quotas=quotas,
            scope_of=lambda organization: organization,
            observer=Watcher(),
        )
        self.name = name
        self.shared = SharedHolds(log, name, {PLATFORM: self.gate.holds})
        self.exchanging = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                await self.shared.exchange()
            except LedgerUnavailable:
                await asyncio.sleep(0.5)
            await self.shared.stirred(within=0.5)

    def die(self) -> None:
        self.exchanging.cancel()

    async def answer(self, organization: str, outcome: Outcome) -> None:
        self.gate.used(await self.gate.enter(organization), outcome)

    async def open_breaker(self) -> None:
        await self.answer("a", Uncertain())
        await self.answer("b", Uncertain())

    def held(self) -> list[str]:
        return list(self.gate.holds.reasons(now()))


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
async def log() -> Log:
    return Log(MemoryState(clock=utc))


@pytest.fixture
async def workers(log: Log) -> AsyncIterator[list[Worker]]:
    made = [Worker(f"w{number}", log) for number in range(3)]
    await asyncio.sleep(1.0)
    yield made
    for worker in made:
        worker.die()


class Probes:
    """Every worker has records of two organizations waiting. What is let through is answered by `outcome` after
    `takes` seconds."""

    def __init__(self, workers: Sequence[Worker], outcome: Outcome, takes: float = 3.0) -> None:
        self.outcome, self.takes = outcome, takes
        self.started: list[float] = []
        self.by: list[str] = []
        self.out = self.most = 0
        self.tasks = [
            asyncio.create_task(self._go(worker, organization)) for worker in workers for organization in ("c", "d")
        ]

    async def _go(self, worker: Worker, organization: str) -> None:
        while True:
            leave = await worker.gate.enter(organization)
            if leave.counts:
                return
            self.started.append(now())
            self.by.append(worker.name)
            self.out += 1
            self.most = max(self.most, self.out)
            await asyncio.sleep(self.takes)
            self.out -= 1
            worker.gate.used(leave, self.outcome)

    def end(self) -> None:
        for task in self.tasks:
            task.cancel()


async def test_a_platform_that_one_holds_is_held_by_all_within_a_second(workers: list[Worker]) -> None:
    await workers[0].open_breaker()
    await asyncio.sleep(0.9)
    assert [worker.held() for worker in workers] == [["breaker"]] * 3
    assert not any(worker.gate.holds.counts for worker in workers)


async def test_one_probe_at_a_time_for_all_and_their_waits_double(workers: list[Worker]) -> None:
    await workers[0].open_breaker()
    opened = now()
    probes = Probes(workers, Uncertain())
    await asyncio.sleep(130.0)
    probes.end()
    assert probes.most == 1
    # 1 s after it opened; 3 s for an answer, then twice as long as before.
    gaps = [after - before - 3.0 for before, after in pairwise([opened - 3.0, *probes.started])]
    assert gaps == [pytest.approx(wait, abs=1.2) for wait in (1, 2, 4, 8, 16, 32)]
    assert all(gap >= wait for gap, wait in zip(gaps, (1, 2, 4, 8, 16, 32), strict=True))


async def test_an_answer_to_the_probe_of_one_frees_all_within_a_second(workers: list[Worker]) -> None:
    await workers[0].open_breaker()
    await asyncio.sleep(0.6)
    probes = Probes(workers, Accepted())
    await asyncio.sleep(4.5)
    assert len(probes.started) == 1
    await asyncio.wait_for(asyncio.gather(*probes.tasks), 1.0)
    assert [worker.held() for worker in workers] == [[]] * 3


async def test_rejected_credentials_are_probed_once_a_minute_by_one_of_all(workers: list[Worker]) -> None:
    await workers[1].answer("a", CredentialsRejected())
    began = now()
    probes = Probes(workers, CredentialsRejected(), takes=0.5)
    await asyncio.sleep(185.0)
    assert [moment - began for moment in probes.started] == [pytest.approx(60.0 * n, abs=3.0) for n in (1, 2, 3)]
    probes.outcome = Accepted()
    await asyncio.sleep(65.0)
    assert all(task.done() for task in probes.tasks)
    assert len(probes.started) == 4


async def test_a_forbidden_organization_has_one_probe_of_all_and_its_answer_frees_all(workers: list[Worker]) -> None:
    await workers[0].answer("a", Forbidden())
    await asyncio.sleep(1.0)
    assert all(590 < worker.gate.organization_wait("a") <= 600 for worker in workers)
    await asyncio.sleep(600.0)

    def asked() -> list[float]:
        return [worker.gate.organization_wait("a") for worker in workers]

    assert asked() == [1.0] * 3  # parked for a moment, while the ledger is asked
    await asyncio.sleep(1.5)
    waits = asked()
    assert waits.count(0.0) == 1
    await asyncio.sleep(5.0)
    assert 0.0 not in asked()
    prober = workers[waits.index(0.0)]
    await prober.answer("a", Accepted())
    await asyncio.sleep(0.9)
    assert asked() == [0.0] * 3
    assert [worker.held() for worker in workers] == [[]] * 3


async def test_an_operators_touch_that_one_hears_of_frees_all(workers: list[Worker]) -> None:
    await workers[0].answer("a", Forbidden())
    await asyncio.sleep(1.0)
    workers[2].gate.holds.organization_touched("a", now())
    await asyncio.sleep(0.9)
    assert [worker.held() for worker in workers] == [[]] * 3


async def test_a_throttled_scope_waits_everywhere_for_the_longest_wish(workers: list[Worker]) -> None:
    leaves = [await worker.gate.enter("a") for worker in workers[:2]]
    began = now()
    for worker, leave, after in zip(workers, leaves, (5.0, 9.0), strict=False):
        worker.gate.used(leave, Throttled(after=after))
    await asyncio.sleep(0.9)
    for worker in workers:
        assert worker.gate.holds.scope_wait("a", now()) == pytest.approx(8.1, abs=0.1)
        assert worker.gate.holds.scope_wait("b", now()) == 0.0
    await workers[2].gate.enter("a")
    assert now() - began >= 9.0


async def test_what_several_begin_at_once_becomes_one_hold(workers: list[Worker], log: Log) -> None:
    for worker in workers:
        leaves = [await worker.gate.enter(organization) for organization in ("a", "b")]
        for leave in leaves:
            worker.gate.used(leave, Uncertain())
    await asyncio.sleep(1.5)
    assert len(await log.held_now()) == 1
    probes = Probes(workers, Uncertain())
    await asyncio.sleep(60.0)
    probes.end()
    assert probes.most == 1
    assert len(await log.held_now()) == 1


async def test_what_a_dead_worker_held_goes_on_where_it_is_known_and_is_forgotten_where_it_is_not(
    workers: list[Worker], log: Log
) -> None:
    await workers[0].open_breaker()
    await asyncio.sleep(0.9)
    workers[0].die()
    await asyncio.sleep(20.0)
    assert workers[1].held() == ["breaker"]
    probes = Probes(workers[1:], Accepted())
    await asyncio.wait_for(asyncio.gather(*probes.tasks), 8.0)
    assert len(probes.started) == 1

    await workers[1].open_breaker()
    await asyncio.sleep(0.9)
    for worker in workers:
        worker.die()
    await asyncio.sleep(6.0)
    successor = Worker("w9", log)
    await asyncio.sleep(1.0)
    assert successor.held() == []
    successor.die()


async def test_a_successor_that_comes_in_time_knows_what_is_held(workers: list[Worker], log: Log) -> None:
    await workers[0].answer("a", CredentialsRejected())
    await asyncio.sleep(0.9)
    for worker in workers:
        worker.die()
    successor = Worker("w9", log)
    await asyncio.sleep(1.0)
    assert successor.held() == ["credentials"]
    waiting = asyncio.create_task(successor.gate.enter("a"))
    await asyncio.sleep(50.0)
    assert not waiting.done()
    await asyncio.sleep(12.0)
    assert waiting.done()
    successor.die()


async def test_who_has_another_credential_is_not_held_by_what_the_old_one_met(workers: list[Worker], log: Log) -> None:
    leaves = [await workers[0].gate.enter(organization) for organization in ("a", "b")]
    for leave, outcome in zip(leaves, (Forbidden(), CredentialsRejected()), strict=True):
        workers[0].gate.used(leave, outcome)
    await asyncio.sleep(0.9)
    rotated = Worker("w9", log, credential="new key")
    await asyncio.sleep(1.0)
    assert workers[1].held() == ["credentials", "forbidden"]
    assert rotated.held() == []
    await rotated.answer("a", CredentialsRejected())
    await asyncio.sleep(1.0)
    assert len([hold for hold in await log.held_now() if hold.reason == "credentials"]) == 2
    rotated.die()


async def test_a_prober_that_dies_leaves_its_place_to_another(workers: list[Worker]) -> None:
    await workers[0].open_breaker()
    first = await workers[0].gate.enter("c")
    assert not first.counts
    died = now()
    workers[0].die()
    probes = Probes(workers[1:], Accepted())
    await asyncio.wait_for(asyncio.gather(*probes.tasks), 20.0)
    assert probes.started[0] - died > 10.0  # as long as its claim lasts
    assert len(probes.started) == 1


async def test_a_probe_that_was_not_sent_is_for_the_next_also_of_another_worker(workers: list[Worker]) -> None:
    await workers[0].open_breaker()
    leave: Pass = await workers[0].gate.enter("c")
    assert not leave.counts
    await workers[0].gate.unused(leave)
    probes = Probes(workers[1:], Accepted())
    await asyncio.wait_for(asyncio.gather(*probes.tasks), 30.0)
    assert len(probes.started) == 1


async def test_a_ledger_that_is_away_lets_nobody_probe_and_is_told_later(workers: list[Worker], log: Log) -> None:
    log.away = True
    await workers[0].open_breaker()
    probes = Probes(workers[:1], Accepted())
    await asyncio.sleep(30.0)
    assert probes.started == []
    assert workers[1].held() == []
    log.away = False
    await asyncio.wait_for(asyncio.gather(*probes.tasks), 8.0)
    await asyncio.sleep(1.0)
    assert [worker.held() for worker in workers] == [[]] * 3
