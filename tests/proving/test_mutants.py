"""Each mutant turns the checker red in the one scenario that must catch it, and the same scenario without is green."""

import asyncio
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from impact_in.ledger_check.facts import read_positions
from impact_in.local_stack import Servers
from proving.checker.verdict import Verdict
from proving.publisher.events import CLEAN
from proving.stand import Conditions, NotAtRest, Stand, Worker

pytestmark = [pytest.mark.kafka, pytest.mark.proof, pytest.mark.timeout(120)]

CALM = Conditions(events=1_500, companies=300, mixture=CLEAN, platforms=("goodera",), answer_ms=1)
FLOWING = Conditions(events=1_500, companies=300, mixture=CLEAN, platforms=("goodera",), answer_ms=1, rate=300)
SICK = Conditions(events=300, companies=20, mixture=CLEAN, platforms=("benevity",), faults="many", delays=("1s",))
# A mutant may never come to rest; without one the time is only a limit.
_REST_OF_A_MUTANT, _REST = 15.0, 60.0
# A worker commits every half second what is acked.
_TIME_TO_COMMIT = 5.0


def command(mutant: str | None, *failpoints: str) -> list[str]:
    faulty = [word for point in failpoints for word in ("--failpoint", point)]
    return ["proving.faulty_worker", *faulty, *(["--mutant", mutant] if mutant else []), "--", "worker"]


async def start(stand: Stand, mutant: str | None, *failpoints: str) -> Worker:
    return await stand.start_worker(command=command(mutant, *failpoints))


async def calm(stand: Stand, mutant: str | None) -> None:
    await start(stand, mutant)
    await stand.publish()


async def killed_in_ingest(stand: Stand, mutant: str | None) -> None:
    """The ledger is locked, so that records are read and none becomes a row; the worker is killed once it has committed
    offsets all the same, or has had the time for it, and started again."""
    await stand.publish()
    connection = await asyncpg.connect(stand.servers.database_url)
    try:
        async with connection.transaction():
            await connection.execute("lock table impact_events in access exclusive mode")
            worker = await start(stand, mutant)
            with suppress(TimeoutError):
                async with asyncio.timeout(_TIME_TO_COMMIT):
                    while not await _committed(stand):
                        pass
            worker.kill()
            await worker.wait()
    finally:
        await connection.close()
    await start(stand, None)


async def _committed(stand: Stand) -> bool:
    asked = stand.conditions
    positions = await read_positions(stand.connection, stand.topics, asked.platforms, asked.delays)
    return any(position.committed for position in positions if position.topic == stand.topics.metrics)


async def killed_while_one_is_slow(stand: Stand, mutant: str | None) -> None:
    """Published at a rate that leaves time for commits; killed in the middle, and started again."""
    worker = await start(stand, mutant)
    publisher = await stand.start_publisher()
    await stand.until_records(stand.conditions.events // 2)
    worker.kill()
    await worker.wait()
    await publisher.wait()
    await start(stand, None)


SCENARIOS = {
    "drop": (calm, CALM, {"E1", "E2"}),
    "send-twice": (calm, CALM, {"E3", "E6"}),
    "no-fence": (calm, SICK, {"E6"}),
    "ack-early": (killed_in_ingest, CALM, {"E1", "E2"}),
    "ack-out-of-order": (killed_while_one_is_slow, FLOWING, {"E1", "E2"}),
}


async def verdict_of(mutant: str | None, scenario: str, servers: Servers, directory: Path) -> Verdict:
    play, conditions, _ = SCENARIOS[scenario]
    async with Stand(servers, conditions, directory) as stand:
        await play(stand, mutant)
        try:
            await stand.rest(within=_REST_OF_A_MUTANT if mutant else _REST)
        except NotAtRest:
            if mutant is None:
                raise
        return await stand.verdict()


@pytest.fixture
def servers(kafka_bootstrap: str, database_url: str, redis_url: str) -> Servers:
    return Servers(kafka_bootstrap_servers=kafka_bootstrap, database_url=database_url, redis_url=redis_url)


@pytest.mark.parametrize("mutant", SCENARIOS)
async def test_the_mutant_is_caught(mutant: str, servers: Servers, tmp_path: Path) -> None:
    verdict = await verdict_of(mutant, mutant, servers, tmp_path)
    assert SCENARIOS[mutant][2] <= set(verdict.broken()), verdict.explained()


@pytest.mark.parametrize("scenario", ["drop", "no-fence", "ack-early", "ack-out-of-order"])
async def test_the_same_run_without_a_mutant_holds(scenario: str, servers: Servers, tmp_path: Path) -> None:
    verdict = await verdict_of(None, scenario, servers, tmp_path)
    assert verdict.holds, verdict.explained()
    assert verdict.counts["events"] == SCENARIOS[scenario][1].events
