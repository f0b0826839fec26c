"""The tables, as dictionaries; rows are plain mutable records. Shared by the twins of each contract."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

from delivery_log.contract import AttemptRow, CompanyPlatform, HoldReason, Origin, PlatformControl, StatusEvent


@dataclass(slots=True)
class EventRecord:
    id: UUID
    company_id: UUID
    content_hash: str
    body: bytes
    disposition: str
    reason: str | None
    origin: Origin | None
    traceparent: str


@dataclass(slots=True)
class DeliveryRecord:
    """A row of impact_deliveries; times are the state's clock."""

    id: UUID
    event_id: UUID
    company_id: UUID
    platform: str
    organization_id: str
    content_hash: str
    seq: int
    traceparent: str
    created_at: datetime
    updated_at: datetime
    published_at: datetime
    payload_hash: str | None = None
    payload_sample: str | None = None
    status: str = "pending"
    outcome: str | None = None
    mocked: bool = False
    retries: int = 0
    replays: int = 0
    error_code: str | None = None
    error_message: str | None = None
    transaction_id: str | None = None
    idempotency_key: str | None = None
    platform_status: str | None = None
    platform_status_contradicted: bool = False
    next_attempt_at: datetime | None = None
    delivered_at: datetime | None = None
    generation: int = 0
    hop: int = 1
    published_hop: int = 0
    publish_delay: float = 0.0
    blocked: bool = False
    unannounced: bool = False
    attempts: int = 0
    counted: int = 0
    first_failed_at: datetime | None = None
    last_failed_at: datetime | None = None
    deadline_at: datetime | None = None
    uncertain_since: datetime | None = None
    lease_owner: str | None = None
    lease_epoch: int | None = None
    lease_started_at: datetime | None = None
    lease_until: datetime | None = None
    batch_id: UUID | None = None
    batch_limit: int | None = None

    @property
    def unfinished(self) -> bool:
        return self.status in ("pending", "retrying")


@dataclass(slots=True)
class StatusRecord:
    event: StatusEvent
    received_at: datetime
    delivery_id: UUID | None = None
    linked_at: datetime | None = None


@dataclass(slots=True)
class HoldRecord:
    platform: str
    organization_id: str | None
    reason: HoldReason
    owner: str
    held_from: datetime
    held_until: datetime
    next_probe_at: datetime
    wait: float
    prober: str | None = None
    probing_until: datetime | None = None
    released: bool = False
    credential: str = ""


@dataclass(slots=True)
class MemoryState:
    """`clock` is the ledger's own clock; a test moves it."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    identity: str = field(default_factory=lambda: str(uuid4()))
    events: dict[UUID, EventRecord] = field(default_factory=dict)
    deliveries: dict[UUID, DeliveryRecord] = field(default_factory=dict)
    attempts: dict[tuple[UUID, int], AttemptRow] = field(default_factory=dict)
    company_platforms: dict[tuple[UUID, str], CompanyPlatform] = field(default_factory=dict)
    status_events: dict[UUID, StatusRecord] = field(default_factory=dict)
    progress: dict[tuple[str, int], datetime] = field(default_factory=dict)
    progress_reported: dict[tuple[str, int], datetime] = field(default_factory=dict)
    company_touched: dict[tuple[UUID, str], datetime] = field(default_factory=dict)
    controls: dict[str, PlatformControl] = field(default_factory=dict)
    holds: dict[UUID, HoldRecord] = field(default_factory=dict)
    epoch: int = 0
    seq: int = 0
