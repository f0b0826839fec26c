"""The product on Apache Kafka, PostgreSQL and Valkey: what is promised, with real signals."""

from collections.abc import AsyncIterator

import pytest

from impact_in.demo.events import demo_events
from impact_in.demo.options import DemoOptions
from impact_in.demo.stage import Stage
from impact_in.local_stack import Servers
from schemas.topics import Topics
from tests.product.running import (
    assert_batches_kept,
    assert_ledger_holds,
    assert_order_kept,
    finished,
    kill_worker_at,
    publish,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(280)]

EVENTS = 5_000


@pytest.fixture
async def stage(kafka_bootstrap: str, database_url: str, redis_url: str, topic_prefix: str) -> AsyncIterator[Stage]:
    servers = Servers(kafka_bootstrap_servers=kafka_bootstrap, database_url=database_url, redis_url=redis_url)
    async with Stage(DemoOptions(events=EVENTS, faults="some"), servers=servers, topics=Topics(topic_prefix)) as stage:
        yield stage


async def test_three_kills_in_full_flow_lose_nothing_double_nothing_and_keep_the_order(stage: Stage) -> None:
    events = list(demo_events(1, EVENTS, stage.companies))
    await publish(stage, events)
    for kill in (1, 2, 3):
        await kill_worker_at(stage, kill * EVENTS * 3 // 5)
        await stage.start_worker()
    progress = await finished(stage, EVENTS, timeout=180)
    assert sum(count.retries for count in progress.platforms.values()) > 0  # the faults were met
    await assert_ledger_holds(stage, events)
    await assert_order_kept(stage, events)
    await assert_batches_kept(stage)
