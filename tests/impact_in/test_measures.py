"""What waits, as metrics."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from delivery_log.contract import Backlog, LedgerUnavailable
from delivery_log.memory.inspection import MemoryInspection
from delivery_log.memory.state import DeliveryRecord, MemoryState
from impact_in.gateway import GatewayMetrics
from impact_in.holding import Holding
from impact_in.measures import Measures
from impact_in.observers import MetricsObserver
from tests.delivery.world import Watcher

pytestmark = pytest.mark.fast

# The contract, section 8.
NAMES = [
    "deliveries_total",
    "deliveries_success_total",
    "deliveries_failed_total",
    "delivery_duration_seconds",
    "retries_total",
    "webhooks_received_total",
    "webhook_verification_failed_total",
    "events_consumed_total",
    "duplicates_total",
    "retry_queue_depth",
    "retry_lateness_seconds",
    "dead_letters_total",
    "end_to_end_seconds",
    "batch_size",
    "rate_limit_wait_seconds",
    "breaker_state",
    "oauth_refreshes_total",
    "consumer_lag",
    "swept_total",
    "platform_held",
    "outbox_age_seconds",
    "unconfirmed_deliveries",
]


def measured() -> tuple[CollectorRegistry, Measures]:
    registry = CollectorRegistry()
    return registry, Measures(registry)


def row(**values: Any) -> DeliveryRecord:
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "id": uuid4(),
        "event_id": uuid4(),
        "company_id": uuid4(),
        "platform": "benevity",
        "organization_id": "org",
        "content_hash": "c",
        "seq": 1,
        "traceparent": "t",
        "created_at": now,
        "updated_at": now,
        "published_at": now,
    }
    return DeliveryRecord(**(fields | values))


def test_every_metric_of_the_contract_has_its_name() -> None:
    registry, _ = measured()
    MetricsObserver(registry)
    GatewayMetrics(registry)
    nothing: Any = None
    Holding(nothing, nothing, [], registry)
    found = {metric.name + ("_total" if metric.type == "counter" else "") for metric in registry.collect()}
    assert {f"impact_in_{name}" for name in NAMES} - found == set()


def test_tokens_asked_for_are_counted_by_their_result() -> None:
    registry, measures = measured()
    for result in ("ok", "ok", "rejected"):
        measures.token_refreshed("workday", result)
    for result, count in (("ok", 2), ("rejected", 1)):
        labels = {"platform": "workday", "result": result}
        assert registry.get_sample_value("impact_in_oauth_refreshes_total", labels) == count


async def test_the_lag_of_each_topic_is_shown_and_goes_back_to_nothing() -> None:
    registry, measures = measured()
    lags = [{"impact.metrics": 7}, {"impact.deliveries.benevity": 2, "impact.deliveries.benevity.retry.5s": 1}]

    class Role:
        def __init__(self, number: int) -> None:
            self.number = number

        def lag(self) -> dict[str, int]:
            return lags[self.number]

    roles: Any = [Role(0), Role(1)]
    looking = asyncio.create_task(measures.of_consumers(roles))
    await asyncio.sleep(0)

    def shown(topic: str) -> float | None:
        return registry.get_sample_value("impact_in_consumer_lag", {"topic": topic})

    assert shown("impact.metrics") == 7
    assert shown("impact.deliveries.benevity.retry.5s") == 1
    looking.cancel()
    lags[0]["impact.metrics"] = 0
    looking = asyncio.create_task(measures.of_consumers(roles))
    await asyncio.sleep(0)
    assert shown("impact.metrics") == 0
    looking.cancel()


async def test_what_the_ledger_says_is_shown_for_every_platform() -> None:
    registry, measures = measured()
    state = MemoryState()
    long_ago = datetime.now(UTC) - timedelta(hours=25)
    rows = [
        row(status="retrying", published_hop=1),
        row(status="retrying", published_hop=1),
        row(published_at=datetime.now(UTC) - timedelta(seconds=40)),
        row(status="delivered", outcome="delivered", delivered_at=long_ago),
    ]
    state.deliveries = {one.id: one for one in rows}
    inspection = MemoryInspection(state)
    await measures.look(inspection, ["benevity", "goodera"], 24 * 3600.0)

    def shown(name: str, platform: str) -> float | None:
        return registry.get_sample_value(f"impact_in_{name}", {"platform": platform})

    assert [shown("retry_queue_depth", platform) for platform in ("benevity", "goodera")] == [2, 0]
    assert [shown("unconfirmed_deliveries", platform) for platform in ("benevity", "goodera")] == [1, 0]
    age = registry.get_sample_value("impact_in_outbox_age_seconds")
    assert age is not None
    assert 40 <= age < 60
    state.deliveries.clear()
    await measures.look(inspection, ["benevity", "goodera"], 24 * 3600.0)
    assert shown("retry_queue_depth", "benevity") == 0
    assert registry.get_sample_value("impact_in_outbox_age_seconds") == 0


async def test_a_ledger_that_is_away_is_told_and_asked_again() -> None:
    _, measures = measured()
    watcher = Watcher()

    class Away(MemoryInspection):
        async def backlog(self, *, confirm_within: float) -> Backlog:
            raise LedgerUnavailable("away")

    looking = asyncio.create_task(measures.of_ledger(Away(), ["benevity"], 1.0, watcher))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert watcher.troubles == ["measures"]
    assert not looking.done()
    looking.cancel()
