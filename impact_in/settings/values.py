"""Settings as the rest of the program sees them: checked values, no variable names."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from pydantic import SecretStr

from delivery.retry_schedule import RetrySchedule
from impact_in.settings.platforms import PlatformSettings
from schemas.topics import Topics
from streams.connection import KafkaConnection


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Times are seconds, unless a timedelta. What a command did not ask for may be empty. The repr shows no secret.

    `dataclasses.replace` makes a variation, as the demo does.
    """

    kafka: KafkaConnection
    topics: Topics
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    platforms: dict[str, PlatformSettings]
    """The enabled ones, by name."""

    host: str
    port: int
    worker_port: int
    api_keys: tuple[SecretStr, ...] = field(repr=False)
    max_connections: int
    webhook_rate: int

    environment: Literal["development", "production"]
    instance: str | None
    static_membership: bool
    retry: RetrySchedule
    request_timeout: float
    lease: float
    session_timeout: float
    fetch_wait: float
    drain_seconds: float
    confirm_within: timedelta
    dedupe: timedelta
    log_level: str
