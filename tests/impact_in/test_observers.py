"""What an attempt leaves behind: one line with every field, and the metrics of the contract."""

import json
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from connectors.contract import Accepted, Outcome, Refused, Unavailable
from delivery.observer import AttemptMade, DeadLettered, EventConsumed, QuotaWaited, RetriesForwarded, Swept
from impact_in import logs
from impact_in.observers import LogObserver, MetricsObserver, Observers

pytestmark = pytest.mark.fast

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def attempt(outcome: Outcome, decision: str, **changes: Any) -> AttemptMade:
    made = AttemptMade(
        platform="benevity",
        delivery_id=uuid4(),
        event_id=uuid4(),
        company_id=uuid4(),
        attempt=1,
        outcome=outcome,
        duration=0.0123,
        counted=True,
        decision=decision,
        delay=5.0 if decision == "later" else 0.0,
        idempotency_key=uuid4(),
        traceparent=TRACE,
        applied=True,
        waited=0.5,
    )
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def configured() -> Any:
    yield logs.configure
    logs.configure()


def test_an_attempt_is_one_json_line_in_production(configured: Any, capsys: pytest.CaptureFixture[str]) -> None:
    configured(production=True)
    made = attempt(Unavailable(http_status=503, error_code="HTTP_503", error_message="a [bracket] and \u00fc"), "later")
    LogObserver().notice(made)
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "delivery.attempted"
    assert (line["level"], line["logger"]) == ("info", "impact_in.delivery")
    assert (line["delivery_id"], line["trace_id"]) == (str(made.delivery_id), TRACE[3:35])
    assert (line["outcome"], line["decision"], line["retry_in"], line["http_status"]) == (
        "unavailable",
        "later",
        5.0,
        503,
    )
    assert line["error_message"] == "a [bracket] and \u00fc"
    assert line["duration_ms"] == 12.3


def test_an_attempt_is_one_readable_line_otherwise(configured: Any, capsys: pytest.CaptureFixture[str]) -> None:
    configured()
    LogObserver().notice(attempt(Accepted(transaction_id="tx-1"), "delivered"))
    [line] = capsys.readouterr().err.splitlines()
    assert "delivery.attempted" in line
    assert "transaction_id=tx-1" in line


def test_a_level_above_info_says_nothing_of_attempts(configured: Any, capsys: pytest.CaptureFixture[str]) -> None:
    configured(level="warning")
    LogObserver().notice(attempt(Accepted(), "delivered"))
    assert capsys.readouterr().err == ""


def test_metrics_count_outcomes_apart_from_retries_and_mocks() -> None:
    registry = CollectorRegistry()
    observer = Observers([MetricsObserver(registry)])
    for happening in (
        attempt(Accepted(transaction_id="tx"), "delivered"),
        attempt(Accepted(transaction_id="mock-1"), "delivered"),
        attempt(Unavailable(), "later"),
        attempt(Refused(error_code="INVALID_METRIC"), "dead"),
        attempt(Accepted(transaction_id="tx"), "delivered", applied=False),
        DeadLettered("benevity", "INVALID_METRIC"),
        DeadLettered("benevity", "UNKNOWN_OUTCOME", given_up=True),
        EventConsumed("accepted", 3),
        EventConsumed("duplicate", 2),
        EventConsumed("duplicate"),
        Swept("benevity", uuid4(), "missing"),
    ):
        observer.notice(happening)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"impact_in_{name}", labels)

    benevity = {"platform": "benevity"}
    assert value("deliveries_total", **benevity) == 3
    assert value("deliveries_failed_total", **benevity, error="UNKNOWN_OUTCOME") == 1
    assert value("deliveries_success_total", **benevity) == 1
    assert value("deliveries_failed_total", **benevity, error="INVALID_METRIC") == 1
    assert value("deliveries_mocked_total", **benevity) == 1
    assert value("retries_total", **benevity) == 1
    assert value("dead_letters_total", **benevity, error="INVALID_METRIC") == 1
    assert value("events_consumed_total", result="accepted") == 3
    assert value("events_consumed_total", result="duplicate") == 3
    assert value("duplicates_total") == 3
    assert value("swept_total", **benevity, reason="missing") == 1
    assert value("end_to_end_seconds_count", **benevity) == 1


def test_error_codes_that_a_platform_makes_up_do_not_fill_the_metrics() -> None:
    registry = CollectorRegistry()
    observer = MetricsObserver(registry)
    for number in range(200):
        observer.notice(attempt(Refused(error_code=f"CODE_{number}"), "dead"))
    errors = [
        sample.labels["error"]
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "impact_in_deliveries_failed_total"
    ]
    assert len(errors) == 51
    assert "other" in errors


def test_how_late_retries_go_back_is_measured() -> None:
    registry = CollectorRegistry()
    observer = MetricsObserver(registry)
    observer.notice(RetriesForwarded("benevity", (0.002, 0.3)))
    observer.notice(RetriesForwarded("benevity", (2.0,)))
    labels = {"platform": "benevity"}
    assert registry.get_sample_value("impact_in_retry_lateness_seconds_count", labels) == 3
    assert registry.get_sample_value("impact_in_retry_lateness_seconds_bucket", {"le": "0.5", **labels}) == 2


def test_waits_for_a_quota_are_measured() -> None:
    registry = CollectorRegistry()
    observer = MetricsObserver(registry)
    observer.notice(QuotaWaited("benevity", 12.0))
    labels = {"platform": "benevity"}
    assert registry.get_sample_value("impact_in_rate_limit_wait_seconds_sum", labels) == 12.0
