"""The worker: some roles in one process, until it is told to stop or something breaks.

Stopping is orderly and bounded: reading ends, what is in flight is finished within IMPACT_IN_DRAIN_SECONDS, offsets are
committed. A second signal, or a stop that hangs, ends the process at once; the ledger and Kafka know what to repeat.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop
from prometheus_client import CollectorRegistry

from delivery.engine import EngineSettings
from delivery.observer import Trouble
from delivery.publication import Publication
from delivery.recent_events import RecentEvents
from delivery.sweeper import Sweeper
from delivery_log.contract import LedgerUnavailable, Progress
from delivery_log.postgres.database import Database
from delivery_log.postgres.inspection import PostgresInspection
from delivery_log.postgres.ledger import PostgresLedger
from delivery_log.postgres.migrations import pending_migrations
from delivery_log.postgres.platforms import PostgresPlatformLog, PostgresRequestLog
from guards.quota_redis import RedisQuotas
from guards.redis_memory import RedisSeenBefore
from impact_in import roles as composition
from impact_in.errors import StartError
from impact_in.health import HealthThread, Patience, TcpAddress
from impact_in.holding import Holding
from impact_in.measures import Measures
from impact_in.needed_topics import needed_topics
from impact_in.observers import LogObserver, MetricsObserver, Observers
from impact_in.platforms import build_connectors, credential_fingerprints
from impact_in.role_names import INGEST, deliver_role, role_names
from impact_in.roles import RoleNeeds, RunningRole
from impact_in.settings import Settings
from impact_in.vitals import TroubleCount, Vitals
from streams.publisher import KafkaPublisher

_log = structlog.get_logger("impact_in.worker")
_PROGRESS_SECONDS = 1.0
_HARD_EXIT_AFTER = 10.0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which process of a worker this is, of how many, and where it tells of its health; `address` None: as the
    settings say."""

    process: int = 0
    processes: int = 1
    address: Path | None = None


def run_worker(
    settings: Settings, wanted: Sequence[str], *, place: Place | None = None, patience: Patience | None = None
) -> int:
    """Exit status: 0 after an orderly stop, 1 after a crash. Raises StartError, LedgerUnavailable, PublishFailed."""
    # Faust's consumers have threads of their own. With the usual 5 ms, whoever wants the interpreter back waits so long
    # for it, several times a delivery.
    sys.setswitchinterval(0.0005)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, wanted, place or Place(), patience or Patience()))


async def check_start(settings: Settings) -> None:
    """Whether a worker could start: raises what `run_worker` would raise for servers, topics and tables."""
    await needed_topics(settings)
    async with await Database.open(settings.database_url, application="worker") as database:
        await _check_migrated(database)


async def _run(settings: Settings, wanted: Sequence[str], place: Place, patience: Patience) -> int:
    stop = asyncio.Event()
    install_signals(stop)
    async with contextlib.AsyncExitStack() as stack:
        registry = CollectorRegistry()
        measures = Measures(registry)
        connectors = build_connectors(settings, measures.token_refreshed)
        for connector in connectors.values():
            stack.push_async_callback(connector.close)
        names = list(wanted) or role_names(connectors)
        partitions = await needed_topics(settings)
        database = await stack.enter_async_context(await Database.open(settings.database_url, application="worker"))
        await _check_migrated(database)
        ledger = PostgresLedger(database)
        identity = await ledger.identity()
        seen = RedisSeenBefore.open(settings.redis_url, identity)
        stack.push_async_callback(seen.close)
        publisher = await KafkaPublisher.open(settings.kafka)
        stack.push_async_callback(publisher.close)
        troubles = TroubleCount()
        observer = Observers([LogObserver(), MetricsObserver(registry), troubles])
        publication = Publication(publisher, ledger, observer)
        needs = RoleNeeds(
            connection=settings.kafka,
            topics=settings.topics,
            partitions=partitions,
            ledger=ledger,
            seen=seen,
            publication=publication,
            connectors=connectors,
            credentials=credential_fingerprints(settings, identity),
            quotas=lambda attempts: RedisQuotas.open(settings.redis_url, identity, attempts=attempts),
            requests=PostgresRequestLog(database),
            observer=observer,
            recent=RecentEvents([name for name in connectors if deliver_role(name) in names]),
            schedule=settings.retry,
            engine=_engine_settings(settings, place.processes),
            instance=settings.instance,
            static_membership=settings.static_membership,
            process=place.process,
            epoch=await ledger.next_epoch(),
            session_timeout=settings.session_timeout,
            fetch_wait=settings.fetch_wait,
            drain=max(settings.drain_seconds - 3.0, 1.0),
        )
        running = [_build(needs, name) for name in names]
        for role in running:
            if role.owner is not None and settings.instance is not None:
                await ledger.release_leases(role.owner)
        sweeper = _sweeper(needs, partitions)
        holding = Holding(needs, PostgresPlatformLog(database), running, registry)
        health = HealthThread(
            place.address or _address(settings),
            ready=lambda: {role.name: role.ready for role in running},
            registry=registry,
            patience=patience,
        )
        vitals = Vitals(running, troubles, patience=patience.stalled)
        looks: dict[str, Callable[[], Awaitable[None]]] = {
            "holding": holding.run,
            "consumers": lambda: measures.of_consumers(running),
        }
        if place.process == 0:
            inspection, within = PostgresInspection(database), settings.confirm_within.total_seconds()
            looks["ledger"] = lambda: measures.of_ledger(inspection, list(connectors), within, observer)
        return await _until_stopped(settings, needs, running, sweeper, looks, health, vitals, stop)


async def _until_stopped(
    settings: Settings,
    needs: RoleNeeds,
    running: list[RunningRole],
    sweeper: Sweeper,
    looks: Mapping[str, Callable[[], Awaitable[None]]],
    health: HealthThread,
    vitals: Vitals,
    stop: asyncio.Event,
) -> int:
    status = 0
    async with contextlib.AsyncExitStack() as stack:
        try:
            await health.start()
        except BaseException:
            await _stop_all(running)  # built, with consumers that want to be closed
            raise
        # Before the roles' end on the stack, so after it in time: a stop that hangs is watched too.
        stack.push_async_callback(health.stop)
        ticking = asyncio.create_task(health.tick_along(), name="ticks")
        stack.push_async_callback(_cancel, [ticking])
        stack.push_async_callback(_stop_all, running)
        background = [
            asyncio.create_task(needs.publication.run(), name="publication"),
            asyncio.create_task(sweeper.run(), name="sweeper"),
            asyncio.create_task(_report_progress(needs, running), name="progress"),
        ]
        background += [asyncio.create_task(_run_look(look), name=name) for name, look in looks.items()]
        stack.push_async_callback(_cancel, background)
        stopping = asyncio.create_task(stop.wait())
        # From here on an end is bounded, whatever it has to undo: also that of a start that fails, or that hangs
        # because a broker has gone.
        stack.callback(_exit_hard_after, settings.drain_seconds + _HARD_EXIT_AFTER)
        if not await _start_all(running, stopping):
            return 0
        _spare_the_collector()
        _log.info(
            "worker.started",
            roles=[role.name for role in running],
            instance=settings.instance,
            process=needs.process,
        )
        crashes: list[asyncio.Task[Any]] = [asyncio.create_task(role.crashed(), name=role.name) for role in running]
        crashes.append(asyncio.create_task(vitals.until_stuck(), name="vitals"))
        stack.push_async_callback(_cancel, crashes)
        watched: list[asyncio.Task[Any]] = [*background, *crashes, *(task for role in running for task in role.tasks)]
        ended, _ = await asyncio.wait([stopping, *watched], return_when=asyncio.FIRST_COMPLETED)
        for task in ended - {stopping}:
            status = 1
            _log.error("worker.crashed", task=task.get_name(), reason=_reason(task))
        stopping.cancel()
        _log.info("worker.stopping")
    with contextlib.suppress(LedgerUnavailable):
        await needs.publication.flush()
    _log.info("worker.stopped", status=status)
    return status


async def _run_look(look: Callable[[], Awaitable[None]]) -> None:
    await look()


def _reason(task: asyncio.Task[Any]) -> str:
    error = task.exception() or task.result()
    if isinstance(error, str):
        return error
    return type(error).__name__ if isinstance(error, BaseException) else "ended"


async def _check_migrated(database: Database) -> None:
    pending = await pending_migrations(database)
    if pending:
        raise StartError(f"the database lacks migration {pending[0]}; run `impact-in migrate`")


def _engine_settings(settings: Settings, processes: int) -> EngineSettings:
    """A platform's requests in flight are a worker's: its processes share them."""
    usual = EngineSettings(lease=settings.lease, request_timeout=settings.request_timeout)
    return msgspec.structs.replace(usual, in_flight=-(-usual.in_flight // processes))


def _address(settings: Settings) -> TcpAddress | None:
    return None if settings.worker_port == 0 else TcpAddress(settings.host, settings.worker_port)


def _build(needs: RoleNeeds, name: str) -> RunningRole:
    if name == INGEST:
        return composition.ingest(needs)
    return composition.deliver(needs, name.partition(":")[2])


def _sweeper(needs: RoleNeeds, partitions: dict[str, int]) -> Sweeper:
    sweeper = Sweeper(
        ledger=needs.ledger,
        publication=needs.publication,
        topics=needs.topics,
        platforms=[composition.swept_platform(needs, platform) for platform in needs.connectors],
        observer=needs.observer,
    )
    for topic, count in partitions.items():
        sweeper.know_partitions(topic, count)
    return sweeper


async def _report_progress(needs: RoleNeeds, running: Sequence[RunningRole]) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        progress = [
            Progress(topic=topic, partition=partition, age=age)
            for role in running
            for (topic, partition), age in role.progress().items()
        ]
        try:
            if progress:
                await needs.ledger.report_progress(progress)
        except LedgerUnavailable as error:
            needs.observer.notice(Trouble("report_progress", str(error)))


def _spare_the_collector() -> None:
    """What a worker is made of stays for good, and a delivery leaves no cycles: looking through all of it again and
    again took a sixth of its time (docs/benchmarks.md)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


async def _start_all(running: Sequence[RunningRole], stopping: "asyncio.Task[Any]") -> bool:
    """False where the worker was told to stop before all had started. Raises what kept one from starting."""
    starts = asyncio.gather(*(role.start() for role in running))
    await asyncio.wait([starts, stopping], return_when=asyncio.FIRST_COMPLETED)
    if starts.done():
        starts.result()
        return True
    starts.cancel()
    await asyncio.gather(starts, return_exceptions=True)
    return False


async def _stop_all(running: Sequence[RunningRole]) -> None:
    await asyncio.gather(*(role.stop() for role in running), return_exceptions=True)


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def install_signals(stop: asyncio.Event, at_once: Callable[[], None] = lambda: None) -> None:
    """SIGTERM and SIGINT set `stop`; the second of them ends the process, after `at_once`."""

    def on_signal() -> None:
        if stop.is_set():
            at_once()
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)


def _exit_hard_after(seconds: float) -> None:
    """A stop that hangs ends all the same; what was not committed is read again."""
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, os._exit, 1)
