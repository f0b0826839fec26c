"""Two workers, and a third that comes and goes: a rebalance every few seconds, in full flow, on Apache Kafka."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence

import pytest

from impact_in.children import Child
from impact_in.demo.events import demo_events
from impact_in.demo.options import DemoOptions
from impact_in.demo.stage import Stage
from impact_in.local_stack import Servers
from impact_in.local_stack.ports import free_port
from schemas import ImpactMetricEvent
from schemas.topics import Topics
from tests.product.running import assert_ledger_holds, assert_order_kept, finished, publish

pytestmark = [pytest.mark.kafka, pytest.mark.proof, pytest.mark.timeout(600)]

# `make test` has a quarter of an hour for everything; the 20,000 are asked for by this variable.
EVENTS = int(os.environ.get("IMPACT_IN_TEST_REBALANCE_EVENTS", "3000"))
REBALANCE_EVERY = 10.0
# So that a killed member is missed within the time between two rebalances, and what it had leased soon after.
CONDITIONS = {
    "IMPACT_IN_SESSION_TIMEOUT": "6s",
    "IMPACT_IN_LEASE": "20s",
    "IMPACT_IN_REQUEST_TIMEOUT": "5s",
}


@pytest.fixture
async def stage(kafka_bootstrap: str, database_url: str, redis_url: str, topic_prefix: str) -> AsyncIterator[Stage]:
    servers = Servers(kafka_bootstrap_servers=kafka_bootstrap, database_url=database_url, redis_url=redis_url)
    async with Stage(DemoOptions(events=EVENTS, faults="some"), servers=servers, topics=Topics(topic_prefix)) as stage:
        yield stage


async def member(stage: Stage, number: int) -> Child:
    """A worker without a name of its own: each that comes or goes makes the group share out its partitions anew."""
    port = free_port()
    env = {name: value for name, value in stage._env.items() if name != "IMPACT_IN_INSTANCE"}
    env |= CONDITIONS | {"IMPACT_IN_WORKER_PORT": str(port)}
    child = await stage._child(f"worker-{number}", ["impact_in", "worker"], env)
    await child.until_ready(f"http://127.0.0.1:{port}/health/ready")
    return child


async def come_and_go(stage: Stage, changes: list[str]) -> None:
    """Until cancelled; every other time it goes without a word."""
    while True:
        third = await member(stage, 3 + len(changes))
        changes.append("came")
        await asyncio.sleep(REBALANCE_EVERY)
        if changes.count("left") > changes.count("killed"):
            third.kill()
            await third.wait()
            changes.append("killed")
        else:
            await third.stop(30.0)
            changes.append("left")
        await asyncio.sleep(REBALANCE_EVERY)


async def publish_in(seconds: float, stage: Stage, events: Sequence[ImpactMetricEvent]) -> None:
    """Evenly: at once, they would be through before anybody has come and gone."""
    loop = asyncio.get_running_loop()
    started, slices = loop.time(), 100
    for number in range(slices):
        await asyncio.sleep(max(0.0, started + seconds * number / slices - loop.time()))
        await publish(stage, events[len(events) * number // slices : len(events) * (number + 1) // slices])


async def test_a_rebalance_every_ten_seconds_loses_nothing_doubles_nothing_and_keeps_the_order(stage: Stage) -> None:
    await stage.worker.stop(30.0)
    await member(stage, 1)
    await member(stage, 2)
    events = list(demo_events(1, EVENTS, stage.companies))
    changes: list[str] = []
    coming_and_going = asyncio.create_task(come_and_go(stage, changes))
    try:
        await publish_in(4 * REBALANCE_EVERY + EVENTS / 300, stage, events)
        await finished(stage, EVENTS, timeout=500)
        assert not coming_and_going.done(), "the third worker could not come or go"
    finally:
        coming_and_going.cancel()
    assert {"came", "left", "killed"} <= set(changes)
    await assert_ledger_holds(stage, events)
    await assert_order_kept(stage, events)
