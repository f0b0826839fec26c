"""A ledger, a broker, platforms and workers' parts in memory, for one test."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from connectors.contract import Connector
from connectors.recording import RecordingConnector
from delivery.engine import DeliveryEngine, EngineSettings
from delivery.gate import Gate
from delivery.holding import Holds
from delivery.ingest import Ingest
from delivery.observer import AttemptMade, Happening, Observer, RecordSkipped, Trouble
from delivery.ports import IncomingRecord, Publisher
from delivery.publication import Publication
from delivery.records import request_record
from delivery.retry_schedule import RetrySchedule
from delivery.sweeper import SweptPlatform
from delivery_log.contract import (
    Arrival,
    BatchVerdict,
    Busy,
    Claim,
    CompanyPlatform,
    Finished,
    Go,
    LedgerUnavailable,
    Owner,
    Recorded,
    Request,
    Resend,
    Result,
    SealedClaim,
    SealedMember,
    Verdict,
)
from delivery_log.memory import MemoryLedger, MemoryState
from delivery_log.memory.state import DeliveryRecord
from guards.memory import MemorySeenBefore
from guards.quota_memory import MemoryQuotas
from schemas import Topics, avro, content_hash
from schemas.event import ImpactMetricEvent, MetricEntry, to_avro
from schemas.identity import delivery_id
from tests.delivery.broker import Broker, RetryTopics
from tests.delivery.virtual_time import utc

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ME = Owner("w1-deliver-benevity-0", 5)
MY_SUCCESSOR = Owner("w1-deliver-benevity-0", 6)
ANOTHER = Owner("w2-deliver-benevity-0", 4)
SCHEDULE = RetrySchedule((timedelta(seconds=5), timedelta(minutes=1)), deadline=300.0)
TOPICS = Topics()


def event(company: UUID | None = None, **changes: Any) -> ImpactMetricEvent:
    fields: dict[str, Any] = {
        "event_id": uuid4(),
        "company_id": company or uuid4(),
        "program_id": "p",
        "program_name": "n",
        "period_start": date(2026, 1, 1),
        "period_end": date(2026, 1, 31),
        "occurred_at": datetime(2026, 2, 1, tzinfo=UTC),
        "source": "s",
        "metrics": (MetricEntry(metric="volunteer_hours", value=Decimal("1.5000"), unit="h"),),
    }
    return ImpactMetricEvent(**(fields | changes))


def raw(of: ImpactMetricEvent) -> bytes:
    return avro.encode_single_object(to_avro(of))


def gate(connector: Connector, observer: Observer) -> Gate:
    """One that nothing is held at yet, and no limit set."""
    quotas = MemoryQuotas(clock=lambda: asyncio.get_running_loop().time())
    return Gate(connector.name, holds=Holds(), quotas=quotas, scope_of=connector.quota_scope, observer=observer)


class Watcher:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.happenings: list[Happening] = []

    def notice(self, happening: Happening) -> None:
        self.happenings.append(happening)

    def of(self, kind: type) -> list[Any]:
        return [happening for happening in self.happenings if isinstance(happening, kind)]

    @property
    def skipped(self) -> list[str]:
        return [happening.verdict for happening in self.of(RecordSkipped)]

    @property
    def attempts(self) -> list[str]:
        return [type(happening.outcome).__name__ for happening in self.of(AttemptMade)]

    @property
    def troubles(self) -> list[str]:
        return [happening.where for happening in self.of(Trouble)]


class CheckedLedger(MemoryLedger):
    """The twin behind a wire: each call takes a moment before and after, and may find nobody. Callers are held to the
    contract's conditions, and `Go` to its meaning: one holder, of the live record of an unfinished delivery."""

    def __init__(self, state: MemoryState) -> None:
        super().__init__(state)
        self.failures = 0
        """So many of the next calls find the ledger away."""
        self.calls: Counter[str] = Counter()
        self.claimed: list[list[UUID]] = []
        self.recorded: list[int] = []
        self.revived: set[UUID] = set()
        """Deliveries that a late acceptance made delivered after they had ended otherwise."""
        self.begun: Counter[UUID] = Counter()
        self.ever_delivered: set[UUID] = set()
        self.holders: dict[UUID, tuple[Owner, datetime]] = {}

    async def _wire(self, name: str) -> None:
        self.calls[name] += 1
        await asyncio.sleep(0)
        if self.failures > 0:
            self.failures -= 1
            raise LedgerUnavailable("away")

    async def record_events(self, arrivals: Sequence[Arrival]) -> list[Recorded]:
        await self._wire("record_events")
        self.recorded.append(len(arrivals))
        answer = await super().record_events(arrivals)
        await asyncio.sleep(0)
        return answer

    async def confirm_published(self, records: Sequence[tuple[UUID, int]]) -> None:
        await self._wire("confirm_published")
        await super().confirm_published(records)

    async def begin(
        self,
        claims: Sequence[Claim],
        *,
        owner: Owner,
        lease: float,
        ordered: bool,
        key_memory: float,
        token: UUID | None = None,
    ) -> list[Verdict]:
        await self._wire("begin")
        ids = [claim.delivery_id for claim in claims]
        assert len(set(ids)) == len(ids), "two claims for one delivery in a call"
        self.claimed.append(ids)
        live = [self._live(claim) for claim in claims]
        answer = await super().begin(
            claims, owner=owner, lease=lease, ordered=ordered, key_memory=key_memory, token=token
        )
        for identifier, verdict, may_go in zip(ids, answer, live, strict=True):
            if isinstance(verdict, Go):
                assert may_go, "a finished delivery, or a record that is not the live one, went"
                self._hold(identifier, owner, lease)
        await asyncio.sleep(0)
        return answer

    async def sealed_batch(self, batch_id: UUID) -> list[SealedMember]:
        await self._wire("sealed_batch")
        return await super().sealed_batch(batch_id)

    async def begin_sealed(
        self,
        batch_id: UUID,
        claims: Sequence[SealedClaim],
        *,
        owner: Owner,
        lease: float,
        key_memory: float,
        token: UUID | None = None,
    ) -> BatchVerdict:
        await self._wire("begin_sealed")
        answer = await super().begin_sealed(
            batch_id, claims, owner=owner, lease=lease, key_memory=key_memory, token=token
        )
        if isinstance(answer, Resend):
            for claim, verdict in zip(claims, answer.members, strict=True):
                if isinstance(verdict, Go):
                    self._hold(claim.delivery_id, owner, lease)
        await asyncio.sleep(0)
        return answer

    async def wake_parked(self, platform: str, companies: Mapping[UUID, int]) -> list[Request]:
        await self._wire("wake_parked")
        return await super().wake_parked(platform, companies)

    def _live(self, claim: Claim) -> bool:
        row = self.state.deliveries.get(claim.delivery_id)
        return row is not None and row.unfinished and row.hop == claim.hop

    def _hold(self, identifier: UUID, owner: Owner, lease: float) -> None:
        holder, until = self.holders.get(identifier, (owner, self.state.clock()))
        successor = holder.name == owner.name and holder.epoch < owner.epoch
        assert until <= self.state.clock() or successor, "two workers hold one delivery"
        self.holders[identifier] = (owner, self.state.clock() + timedelta(seconds=lease))
        self.begun[identifier] += 1

    async def finish(
        self,
        results: Sequence[Result],
        *,
        owner: Owner,
        deadline: float,
        ordered: bool,
        token: UUID | None = None,
    ) -> list[Finished | Busy]:
        await self._wire("finish")
        ids = [result.delivery_id for result in results]
        assert len(set(ids)) == len(ids), "two results for one delivery in a call"
        before = {identifier: self.state.deliveries[identifier].status for identifier in ids}
        answer = await super().finish(results, owner=owner, deadline=deadline, ordered=ordered, token=token)
        for result in results:
            if self.holders.get(result.delivery_id, (None,))[0] == owner:
                del self.holders[result.delivery_id]
        self.ever_delivered |= {
            identifier for identifier in ids if self.state.deliveries[identifier].status == "delivered"
        }
        self.revived |= {
            identifier
            for identifier in ids
            if before[identifier] == "failed" and self.state.deliveries[identifier].status == "delivered"
        }
        await asyncio.sleep(0)
        return answer


@dataclass
class World:
    connector: RecordingConnector = field(default_factory=RecordingConnector)
    schedule: RetrySchedule = SCHEDULE
    clock: Callable[[], datetime] = utc

    def __post_init__(self) -> None:
        self.state = MemoryState(clock=self.clock)
        self.ledger = CheckedLedger(self.state)
        self.broker = Broker()
        self.watcher = Watcher()
        self.seen = MemorySeenBefore()

    @property
    def platform(self) -> str:
        return self.connector.name

    @property
    def topic(self) -> str:
        return TOPICS.deliveries(self.platform)

    @property
    def dlt(self) -> str:
        return TOPICS.deliveries_dlt(self.platform)

    def retry_topic(self, seconds: float) -> str:
        return TOPICS.retry(self.platform, timedelta(seconds=seconds))

    def retry_topics(self) -> RetryTopics:
        return RetryTopics(
            self.broker,
            self.topic,
            {TOPICS.retry(self.platform, delay): delay.total_seconds() for delay in self.schedule.topics()},
        )

    def register(self, company: UUID, organization: str = "org", enabled: bool = True, platform: str = "") -> None:
        platform = platform or self.platform
        self.state.company_platforms[company, platform] = CompanyPlatform(
            company_id=company, platform=platform, organization_id=organization, enabled=enabled
        )

    def publication(self, publisher: Publisher | None = None) -> Publication:
        return Publication(publisher or self.broker, self.ledger, self.watcher)

    def engine(
        self,
        owner: Owner = ME,
        connector: Connector | None = None,
        publication: Publication | None = None,
        **settings: float,
    ) -> DeliveryEngine:
        return DeliveryEngine(
            connector=connector or self.connector,
            gate=gate(connector or self.connector, self.watcher),
            ledger=self.ledger,
            publication=publication or self.publication(),
            topics=TOPICS,
            schedule=self.schedule,
            owner=owner,
            observer=self.watcher,
            settings=EngineSettings(**settings),
        )

    def ingest(self, *connectors: Connector, **more: Any) -> Ingest:
        used = connectors or (self.connector,)
        return Ingest(
            ledger=self.ledger,
            seen=self.seen,
            publication=self.publication(),
            topics=TOPICS,
            connectors={connector.name: connector for connector in used},
            observer=self.watcher,
            **more,
        )

    def swept_platform(self) -> SweptPlatform:
        return SweptPlatform(
            self.platform,
            self.connector.ordering == "keyed",
            self.topic,
            {delay.total_seconds(): TOPICS.retry(self.platform, delay) for delay in self.schedule.topics()},
        )

    async def arrive(self, *events: ImpactMetricEvent) -> list[IncomingRecord]:
        """Rows in the ledger, and a request a row on the platform's topic, returned as it will be consumed."""
        records = []
        for of in events:
            if (of.company_id, self.platform) not in self.state.company_platforms:
                self.register(of.company_id)
            body = to_avro(of)
            arrival = Arrival(
                event_id=of.event_id,
                company_id=of.company_id,
                content_hash=content_hash(body),
                body=body,
                traceparent=TRACE,
                platforms=(self.platform,),
            )
            [recorded] = await self.ledger.record_events([arrival])
            [request] = recorded.requests
            outgoing = request_record(request, TOPICS)
            records.append(self.broker.put(outgoing.topic, outgoing.key, outgoing.value, outgoing.headers))
        return records

    def row(self, of: ImpactMetricEvent) -> DeliveryRecord:
        return self.state.deliveries[delivery_id(of.event_id, self.platform)]

    def end_lease(self, of: ImpactMetricEvent) -> None:
        """As if its holder had stood still for that long."""
        row = self.row(of)
        row.lease_until = self.state.clock()
        self.ledger.holders.pop(row.id)

    def attempts(self, of: ImpactMetricEvent) -> list[tuple[int, str, bool]]:
        return sorted(
            (number, attempt.outcome, attempt.counted)
            for (delivery, number), attempt in self.state.attempts.items()
            if delivery == delivery_id(of.event_id, self.platform)
        )

    def last(self, topic: str) -> IncomingRecord:
        return self.broker.records(topic)[-1]

    def keys_sent(self) -> set[UUID]:
        return {request.idempotency_key for request in self.connector.requests}
