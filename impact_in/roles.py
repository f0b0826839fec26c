"""A worker's roles, put together: which contracts each is given, and how a record goes through it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import uuid4
from zlib import crc32

import msgspec

from connectors.contract import Connector
from delivery.batch_delivery import BatchDelivery
from delivery.engine import DeliveryEngine, EngineSettings
from delivery.gate import Gate
from delivery.holding import Holds
from delivery.ingest import Ingest, IngestPipeline
from delivery.intake import Intake
from delivery.observer import Observer, RetriesForwarded, Trouble
from delivery.ports import IncomingRecord
from delivery.publication import Publication
from delivery.recent_events import RecentEvents
from delivery.retry_schedule import RetrySchedule
from delivery.sweeper import SweptPlatform
from delivery_log.contract import DeliveryLedger, Owner, PlatformControl, RequestLog
from guards.contract import SeenBefore
from guards.quota_contract import Attempts, Limits, Quotas
from guards.share import SharedOrLocal
from impact_in.recent_requests import RecentRequests
from impact_in.role_names import INGEST, deliver_role
from schemas.durations import format_duration
from schemas.topics import INGEST_GROUP, Topics, deliver_group, retry_group
from streams.connection import KafkaConnection
from streams.retry_waiter import RetryWaiter
from streams.role import IN_HAND, Role, RoleSettings


class RoleNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """What all roles of a worker share. Durations are seconds."""

    connection: KafkaConnection
    topics: Topics
    partitions: Mapping[str, int]
    """Of each topic that a role reads."""
    ledger: DeliveryLedger
    seen: SeenBefore
    publication: Publication
    connectors: Mapping[str, Connector]
    credentials: Mapping[str, str]
    """A fingerprint of what each platform is sent with."""
    quotas: Callable[[Attempts], Quotas]
    """Makes a client of the quotas that all workers share, which asks the ledger where their memory is gone."""
    requests: RequestLog
    observer: Observer
    recent: RecentEvents
    """Of the platforms whose requests this worker reads itself."""
    schedule: RetrySchedule
    engine: EngineSettings
    instance: str | None
    static_membership: bool
    process: int
    epoch: int
    session_timeout: float
    fetch_wait: float
    drain: float


class RunningRole:
    """A Faust app, its waiter where it has one, and the tasks that carry its records."""

    def __init__(
        self,
        name: str,
        role: Role,
        *,
        waiter: RetryWaiter | None = None,
        tasks: Sequence[Callable[[], Awaitable[None]]] = (),
        owner: Owner | None = None,
        gate: Gate | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self.gate = gate
        self._quotas = quotas
        self.name = name
        self.role = role
        self.waiter = waiter
        self.owner = owner
        self._bodies = tasks
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        return self.role.ready and (self.waiter is None or self.waiter.ready)

    async def start(self) -> None:
        self.tasks = [asyncio.create_task(_run(body), name=self.name) for body in self._bodies]
        await self.role.start()
        if self.waiter is not None:
            await self.waiter.start()

    async def stop(self) -> None:
        # Both at once: while a waiter's end takes its time, the role must not go on reading.
        ends = [self.role.stop(), *([] if self.waiter is None else [self.waiter.stop()])]
        failures = [end for end in await asyncio.gather(*ends, return_exceptions=True) if end is not None]
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self._quotas is not None:
            await self._quotas.close()
        for failure in failures:
            raise failure

    async def crashed(self) -> BaseException | None:
        """Returns when the app or its waiter has crashed, with the reason where it is told."""
        ways: list[asyncio.Task[BaseException | None]] = [asyncio.create_task(self.role.crashed())]
        if self.waiter is not None:
            ways.append(asyncio.create_task(self.waiter.ended()))
        try:
            ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            return next(way.result() for way in ended)
        finally:
            for way in ways:
                way.cancel()

    def dead(self) -> str | None:
        """What has ended and was not stopped, in words; None: nothing."""
        return self.role.dead() or (None if self.waiter is None else self.waiter.dead())

    def stalls(self) -> dict[str, object]:
        """What waits without a reason that is known here → how far it has come."""
        found = self.role.stalls() | ({} if self.waiter is None else self.waiter.stalls())
        if self.gate is not None and self.gate.waiting:
            # Held, or over a quota: it may take hours.
            found.pop(IN_HAND, None)
        return found

    def lag(self) -> dict[str, int]:
        """Topic → records that wait to be worked off, of the partitions that are ours."""
        return self.role.lag() | ({} if self.waiter is None else self.waiter.lag())

    def progress(self) -> dict[tuple[str, int], float]:
        return self.role.progress() | (self.waiter.progress() if self.waiter is not None else {})


async def _run(body: Callable[[], Awaitable[None]]) -> None:
    await body()


def ingest(needs: RoleNeeds) -> RunningRole:
    """impact.metrics → ledger → delivery requests."""

    def done(records: Sequence[IncomingRecord]) -> None:
        for record in records:
            role.done(record)

    pipeline = IngestPipeline(
        Ingest(
            ledger=needs.ledger,
            seen=needs.seen,
            publication=needs.publication,
            topics=needs.topics,
            connectors=needs.connectors,
            observer=needs.observer,
            recent=needs.recent,
        ),
        done,
    )

    async def drain(seconds: float) -> None:
        await role.settled(seconds)

    role = Role(
        group=INGEST_GROUP,
        topic=needs.topics.metrics,
        connection=needs.connection,
        settings=_settings(needs, needs.topics.metrics, INGEST),
        accept=pipeline.put,
        drain=drain,
    )
    return RunningRole(INGEST, role, tasks=[pipeline.run])


def deliver(needs: RoleNeeds, platform: str) -> RunningRole:
    """impact.deliveries.{platform} → platform, and its retry topics back to where they came from."""
    connector = needs.connectors[platform]
    member = f"deliver-{platform}"
    owner = Owner(_static_name(needs, member) or str(uuid4()), needs.epoch)
    attempts = RecentRequests(needs.requests, platform, lambda: gate.limits)
    quotas = SharedOrLocal(needs.quotas(attempts), lambda: role.share(), attempts=attempts)
    gate = Gate(
        platform,
        holds=Holds(needs.credentials[platform]),
        quotas=quotas,
        scope_of=connector.quota_scope,
        observer=needs.observer,
    )
    gate.limits = limits(connector, None)
    intake = _intake(needs, connector, gate, owner, lambda record: role.done(record))
    topic = needs.topics.deliveries(platform)
    role = Role(
        group=deliver_group(platform),
        topic=topic,
        connection=needs.connection,
        settings=_settings(needs, topic, member),
        accept=intake.accept,
        drain=intake.drain,
    )
    waiter = RetryWaiter(
        connection=needs.connection,
        group=retry_group(platform),
        instance=_retry_member(needs, platform),
        topics={needs.topics.retry(platform, delay): delay.total_seconds() for delay in needs.schedule.topics()},
        destination=topic,
        publication=needs.publication,
        observer=needs.observer,
        session_timeout=needs.session_timeout,
        fetch_wait=needs.fetch_wait,
        forwarded=lambda late: needs.observer.notice(RetriesForwarded(platform, tuple(late))),
    )
    return RunningRole(deliver_role(platform), role, waiter=waiter, owner=owner, gate=gate, quotas=quotas)


class _Taker(Protocol):
    """What takes a platform's records in."""

    async def accept(self, record: IncomingRecord) -> None: ...

    async def drain(self, seconds: float) -> None: ...


def _intake(
    needs: RoleNeeds, connector: Connector, gate: Gate, owner: Owner, done: Callable[[IncomingRecord], None]
) -> _Taker:
    def on_defect(error: Exception) -> None:
        needs.observer.notice(Trouble("deliver", type(error).__name__))

    common: dict[str, Any] = {
        "connector": connector,
        "gate": gate,
        "ledger": needs.ledger,
        "publication": needs.publication,
        "topics": needs.topics,
        "schedule": needs.schedule,
        "owner": owner,
        "observer": needs.observer,
        "settings": needs.engine,
        "read": needs.recent.read,
    }
    if connector.ordering == "additive":
        return BatchDelivery(**common, done=done, on_defect=on_defect)
    return Intake(DeliveryEngine(**common), ordered=True, done=done, on_defect=on_defect)


def limits(connector: Connector, control: PlatformControl | None) -> Limits:
    """What an operator set, else what the platform has; an operator's 0 is no limit."""

    def either(own: int | None, wanted: int | None) -> int | None:
        return own if wanted is None else wanted or None

    control = control or PlatformControl()
    return Limits(
        either(connector.limits.per_second, control.per_second),
        either(connector.limits.per_minute, control.per_minute),
        either(connector.limits.per_day, control.per_day),
    )


def swept_platform(needs: RoleNeeds, platform: str) -> SweptPlatform:
    return SweptPlatform(
        platform,
        needs.connectors[platform].ordering == "keyed",
        needs.topics.deliveries(platform),
        {delay.total_seconds(): needs.topics.retry(platform, delay) for delay in needs.schedule.topics()},
    )


def _static_name(needs: RoleNeeds, member: str) -> str | None:
    return None if needs.instance is None else f"{needs.instance}-{member}-{needs.process}"


def _group_member(needs: RoleNeeds, member: str) -> str | None:
    return _static_name(needs, member) if needs.static_membership else None


def _retry_member(needs: RoleNeeds, platform: str) -> str | None:
    """Another name for other retry topics: a static member that comes back under its old name is given what it had
    before, and would not read the new ones until the next rebalance."""
    member = _group_member(needs, f"retry-{platform}")
    delays = ",".join(format_duration(delay) for delay in needs.schedule.topics())
    return None if member is None else f"{member}-{crc32(delays.encode()):08x}"


def _settings(needs: RoleNeeds, topic: str, member: str) -> RoleSettings:
    return RoleSettings(
        partitions=needs.partitions[topic],
        instance=_group_member(needs, member),
        session_timeout=needs.session_timeout,
        fetch_wait=needs.fetch_wait,
        drain=needs.drain,
    )
