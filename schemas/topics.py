"""Names of topics and consumer groups (contract, section 2)."""

from dataclasses import dataclass
from datetime import timedelta

from schemas.durations import format_duration

INGEST_GROUP = "impact-in-ingest"


def deliver_group(platform: str) -> str:
    return f"impact-in-deliver-{platform}"


def retry_group(platform: str) -> str:
    return f"impact-in-retry-{platform}"


@dataclass(frozen=True, slots=True)
class Topics:
    """All topic names under one prefix; `IMPACT_IN_TOPIC_PREFIX` replaces the leading `impact.`."""

    prefix: str = "impact."

    @property
    def metrics(self) -> str:
        return f"{self.prefix}metrics"

    @property
    def metrics_dlt(self) -> str:
        return f"{self.prefix}metrics.dlt"

    @property
    def status(self) -> str:
        return f"{self.prefix}status"

    def deliveries(self, platform: str) -> str:
        return f"{self.prefix}deliveries.{platform}"

    def retry(self, platform: str, delay: timedelta) -> str:
        return f"{self.prefix}deliveries.{platform}.retry.{format_duration(delay)}"

    def deliveries_dlt(self, platform: str) -> str:
        return f"{self.prefix}deliveries.{platform}.dlt"
