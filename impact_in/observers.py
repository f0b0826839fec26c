"""Whoever watches the heart: log lines and metrics. The heart knows neither."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from connectors.contract import Answer
from delivery.observer import (
    AttemptMade,
    DeadLettered,
    EventConsumed,
    Happening,
    Observer,
    QuotaWaited,
    RecordSkipped,
    RequestMade,
    RetriesForwarded,
    Swept,
    Trouble,
)
from impact_in.logs import write_line
from schemas.trace import trace_id

_LOGGER = "impact_in.delivery"

# A platform can make up error codes; a metric's label cannot hold them all.
_LABEL_VALUES = 50
_DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BATCH_SIZES = (1, 2, 5, 10, 20, 50, 75, 100)
_LATENESS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0, 600.0)
_WAITS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0, 86400.0)


class Observers:
    """Several as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def notice(self, happening: Happening) -> None:
        for observer in self._observers:
            observer.notice(happening)


class LogObserver:
    """One line an attempt (`delivery.attempted`), and one for what is no matter of course."""

    def __init__(self) -> None:
        self._log = structlog.get_logger(_LOGGER)
        self._plain = logging.getLogger(_LOGGER)

    def notice(self, happening: Happening) -> None:
        match happening:
            case AttemptMade():
                self._attempted(happening)
            case DeadLettered(platform, error):
                self._log.warning("record.dead_lettered", platform=platform, error=error)
            case Swept(platform, delivery_id, reason):
                line = self._log.warning if reason == "missing" else self._log.info
                line("delivery.swept", platform=platform, delivery_id=str(delivery_id), reason=reason)
            case Trouble(where, detail):
                self._log.warning("trouble", where=where, detail=detail)
            case RetriesForwarded():
                return
            case RecordSkipped() | EventConsumed() if not self._plain.isEnabledFor(logging.DEBUG):
                return  # thousands a second: not worth structlog's way to the same answer
            case RecordSkipped(platform, delivery_id, verdict):
                self._log.debug(
                    "record.skipped",
                    platform=platform,
                    delivery_id=None if delivery_id is None else str(delivery_id),
                    verdict=verdict,
                )
            case EventConsumed(result, count):
                self._log.debug("events.consumed", result=result, count=count)

    def _attempted(self, attempt: AttemptMade) -> None:
        outcome: Answer = attempt.outcome
        write_line(
            _LOGGER,
            "delivery.attempted",
            {
                "platform": attempt.platform,
                "delivery_id": attempt.delivery_id,
                "event_id": attempt.event_id,
                "company_id": attempt.company_id,
                "attempt": attempt.attempt,
                "outcome": type(outcome).__name__.lower(),
                "decision": attempt.decision,
                "counted": attempt.counted,
                "applied": attempt.applied,
                "http_status": outcome.http_status,
                "error_code": outcome.error_code,
                "error_message": outcome.error_message,
                "transaction_id": outcome.transaction_id,
                "duration_ms": round(attempt.duration * 1000, 1),
                "retry_in": attempt.delay or None,
                "idempotency_key": attempt.idempotency_key,
                "trace_id": trace_id(attempt.traceparent),
            },
        )


class _OfPlatform(NamedTuple):
    duration: Histogram
    deliveries: Counter
    successes: Counter
    end_to_end: Histogram


class MetricsObserver:
    """The contract's metrics (section 8), as far as the heart's happenings carry them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"impact_in_{name}", text, labels, registry=registry)

        self._events = counter("events_consumed_total", "Records read from impact.metrics.", "result")
        self._duplicates = counter("duplicates_total", "Records of an event that was there already.")
        self._deliveries = counter("deliveries_total", "Deliveries that reached an outcome.", "platform")
        self._successes = counter("deliveries_success_total", "Deliveries accepted by the platform.", "platform")
        self._failures = counter("deliveries_failed_total", "Deliveries dead or rejected.", "platform", "error")
        self._mocked = counter("deliveries_mocked_total", "Deliveries answered by mock mode.", "platform")
        self._retries = counter("retries_total", "Attempts that led to another.", "platform")
        self._dead = counter("dead_letters_total", "Records on a dead-letter topic.", "platform", "error")
        self._swept = counter("swept_total", "Deliveries published again by the sweeper.", "platform", "reason")
        self._duration = Histogram(
            "impact_in_delivery_duration_seconds",
            "A request to a platform, to its answer.",
            ["platform"],
            buckets=_DURATIONS,
            registry=registry,
        )
        self._end_to_end = Histogram(
            "impact_in_end_to_end_seconds",
            "From the event's publication to the platform's acceptance.",
            ["platform"],
            buckets=_WAITS,
            registry=registry,
        )
        self._quota_wait = Histogram(
            "impact_in_rate_limit_wait_seconds",
            "What a request waited for its quota, where it had to.",
            ["platform"],
            buckets=_WAITS,
            registry=registry,
        )
        self._batch_size = Histogram(
            "impact_in_batch_size",
            "Deliveries in a request, where the platform takes several in one.",
            ["platform"],
            buckets=_BATCH_SIZES,
            registry=registry,
        )
        self._lateness = Histogram(
            "impact_in_retry_lateness_seconds",
            "From a retry's time to its record's return to the platform's topic.",
            ["platform"],
            buckets=_LATENESS,
            registry=registry,
        )
        self._errors: set[str] = set()
        self._of_platform: dict[str, _OfPlatform] = {}

    def notice(self, happening: Happening) -> None:
        match happening:
            case AttemptMade():
                self._attempted(happening)
            case EventConsumed(result, count):
                self._events.labels(result).inc(count)
                if result == "duplicate":
                    self._duplicates.inc(count)
            case DeadLettered(platform, error, given_up):
                if given_up and platform is not None:
                    self._deliveries.labels(platform).inc()
                    self._failures.labels(platform, self._bounded(error)).inc()
                self._dead.labels(platform or "none", self._bounded(error)).inc()
            case Swept(platform, _, reason):
                self._swept.labels(platform, reason).inc()
            case QuotaWaited(platform, seconds):
                self._quota_wait.labels(platform).observe(seconds)
            case RequestMade(platform, deliveries):
                self._batch_size.labels(platform).observe(deliveries)
            case RetriesForwarded(platform, late):
                lateness = self._lateness.labels(platform)
                for seconds in late:
                    lateness.observe(seconds)
            case RecordSkipped() | Trouble():
                return

    def _attempted(self, attempt: AttemptMade) -> None:
        platform, outcome = attempt.platform, attempt.outcome
        of_platform = self._of_platform.get(platform) or self._resolve(platform)
        of_platform.duration.observe(attempt.duration)
        if not attempt.applied or attempt.decision == "halved":
            return
        if attempt.decision == "later":
            self._retries.labels(platform).inc()
        elif attempt.decision == "dead":
            self._deliveries.labels(platform).inc()
            self._failures.labels(platform, self._bounded(outcome.error_code or "unknown")).inc()
        elif (outcome.transaction_id or "").startswith("mock-"):
            self._mocked.labels(platform).inc()
        else:
            of_platform.deliveries.inc()
            of_platform.successes.inc()
            if attempt.waited is not None:
                of_platform.end_to_end.observe(attempt.waited)

    def _resolve(self, platform: str) -> "_OfPlatform":
        """The series of an attempt that goes well, once: looking them up by their labels costs more than counting."""
        found = self._of_platform[platform] = _OfPlatform(
            self._duration.labels(platform),
            self._deliveries.labels(platform),
            self._successes.labels(platform),
            self._end_to_end.labels(platform),
        )
        return found

    def _bounded(self, error: str) -> str:
        if error not in self._errors and len(self._errors) >= _LABEL_VALUES:
            return "other"
        self._errors.add(error)
        return error
