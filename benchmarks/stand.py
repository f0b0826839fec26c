"""What every benchmark stands on: Apache Kafka, PostgreSQL that fsyncs, Valkey, and the sink, each a process."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.events import Labelled, companies
from benchmarks.sink import Orders, Requests, Stats
from connectors.registry import PLATFORMS
from delivery.ports import OutgoingRecord
from delivery_log.contract import CompanyPlatform
from delivery_log.postgres.companies import PostgresCompanyRegistry
from delivery_log.postgres.database import Database as LedgerDatabase
from delivery_log.postgres.migrations import migrate
from delivery_log.postgres.platforms import PostgresPlatformLog
from impact_in.children import Child
from impact_in.local_stack import Cache, Database
from impact_in.local_stack.ports import free_port
from impact_in.operations.platforms import UNLIMITED
from impact_in.operations.topics import create_topics, wanted_topics
from schemas.topics import Topics
from streams.connection import KafkaConnection
from streams.publisher import KafkaPublisher
from tests.servers.environment import checkout_env
from tests.servers.kafka import GivenKafka, JavaKafka, NoKafka, find_kafka

PLATFORM = "benevity"
PARTITIONS = 12
KAFKA_JVM = ("-Xmx1g", "-Xms1g", "-XX:+UseSerialGC")
_ROOT = Path(__file__).parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")


class Stalled(Exception):
    """Nothing arrived at the sink for too long; what is missing is in the message."""


@dataclass
class SinkClient:
    child: Child
    port: int
    _session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def reset(self, orders: Orders | None = None) -> None:
        async with self._session.post(f"{self.url}/reset", data=msgspec.json.encode(orders or Orders())) as answer:
            await answer.read()

    async def count(self) -> tuple[int, int]:
        """Requests, and events accepted."""
        requests, effects = msgspec.json.decode(await self._get("count"), type=tuple[int, int])
        return requests, effects

    async def stats(self) -> Stats:
        return msgspec.json.decode(await self._get("stats"), type=Stats)

    async def requests(self) -> Requests:
        return msgspec.json.decode(await self._get("requests"), type=Requests)

    async def accepted(self, effects: int, *, stalled_after: float = 60.0, every: float = 0.1) -> None:
        """Returns when so many events were accepted. Raises Stalled."""
        last, since = -1, time.monotonic()
        while True:
            _, found = await self.count()
            if found >= effects:
                return
            if found != last:
                last, since = found, time.monotonic()
            elif time.monotonic() - since > stalled_after:
                raise Stalled(f"{found} of {effects} accepted, and nothing for {stalled_after:g} s")
            await asyncio.sleep(every)

    async def _get(self, what: str) -> bytes:
        async with self._session.get(f"{self.url}/{what}") as answer:
            return await answer.read()


@dataclass
class Stand:
    kafka: str
    database_url: str
    redis_url: str
    sink: SinkClient
    logs: Path
    server_pids: dict[str, int]
    children: list[Child] = field(default_factory=list)

    async def child(self, name: str, arguments: Sequence[str], env: dict[str, str]) -> Child:
        child = await Child.start(name, arguments, env, self.logs)
        self.children.append(child)
        return child

    async def ceiling(self, seconds: float = 2.0) -> float:
        """Requests/s that the sink takes from a bare client with 100 connections."""
        await self.sink.reset()
        load = await self.child(
            "load", ["benchmarks.load", str(self.sink.port), str(seconds)], checkout_env("LOG_LEVEL")
        )
        found = float(await load.first_line())
        await load.wait()
        await self.sink.reset()
        return found


@asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    source = find_kafka()
    if isinstance(source, NoKafka):
        raise SystemExit(source.reason)
    with tempfile.TemporaryDirectory(prefix="impact-in-bench-") as name:
        directory = Path(name)
        logs = directory / "logs"
        logs.mkdir()
        pids: dict[str, int] = {}
        broker = None
        if isinstance(source, GivenKafka):
            servers = source.bootstrap_servers
        else:
            broker = source.server(directory / "kafka", jvm_options=KAFKA_JVM)
            await broker.start()
            servers = broker.bootstrap_servers
            if isinstance(source, JavaKafka) and broker._node._process is not None:  # type: ignore[attr-defined]
                pids["kafka"] = broker._node._process.pid  # type: ignore[attr-defined]
        database, cache = Database(directory, durable=True), Cache(directory)
        try:
            database.start()
            cache.start()
            pids |= {"postgres": database.pid, "valkey": cache.pid}
            child = await Child.start("sink", ["benchmarks.sink"], checkout_env("LOG_LEVEL"), logs)
            port = int(await child.first_line())
            pids["sink"] = child.pid
            async with aiohttp.ClientSession() as session:
                found = Stand(servers, database.url, cache.url, SinkClient(child, port, session), logs, pids)
                try:
                    yield found
                finally:
                    for one in [*found.children, child]:
                        await one.stop(5.0)
        finally:
            cache.stop()
            database.stop()
            if broker is not None:
                await broker.stop()


class Installation:
    """Topics, an empty database, registered companies: what one run has to itself on a stand."""

    def __init__(self, place: Stand, topics: Topics, database_url: str, publisher: KafkaPublisher, ids: list[UUID]):
        self.stand = place
        self.topics = topics
        self.database_url = database_url
        self.events = Labelled(ids)
        self.publisher = publisher
        self.env: dict[str, str] = {}
        self.workers: list[Child] = []

    async def publish(self, count: int) -> None:
        await self.publish_all(self.events.many(self.topics.metrics, count))

    async def publish_all(self, records: Iterable[OutgoingRecord]) -> None:
        batch: list[OutgoingRecord] = []
        for record in records:
            batch.append(record)
            if len(batch) >= 1000:
                await self.publisher.publish(batch)
                batch = []
        await self.publisher.publish(batch)

    async def worker(
        self,
        *roles: str,
        ready: bool = True,
        processes: int = 1,
        program: Sequence[str] = ("impact_in",),
        **variables: str,
    ) -> Child:
        """Through the real command line. Returns when it is ready: every role has joined its group."""
        port = free_port()
        env = self.env | {"IMPACT_IN_WORKER_PORT": str(port)} | variables
        arguments = [*program, "worker", *(word for role in roles for word in ("--role", role))]
        if processes > 1:
            arguments += ["--processes", str(processes)]
        child = await self.stand.child("worker", arguments, env)
        self.workers.append(child)
        if ready:
            await _ready(child, f"http://127.0.0.1:{port}/health/ready")
        return child

    async def baseline(self) -> Child:
        url = f"{self.stand.sink.url}/baseline"
        arguments = ["benchmarks.baseline", self.stand.kafka, self.topics.metrics, url]
        child = await self.stand.child("baseline", arguments, checkout_env("LOG_LEVEL"))
        await child.first_line()
        return child

    async def tally(self) -> dict[str, int]:
        """Deliveries by status, in the ledger."""
        connection = await asyncpg.connect(self.database_url)
        try:
            rows = await connection.fetch("select status, count(*) as n from impact_deliveries group by status")
            return {row["status"]: row["n"] for row in rows}
        finally:
            await connection.close()

    async def settled(self, count: int, *, timeout: float = 30.0) -> None:
        """Returns when the ledger says of so many that they are delivered: what the sink has seen was written down."""
        until = time.monotonic() + timeout
        while (tally := await self.tally()).get("delivered", 0) < count:
            if time.monotonic() > until:
                raise Stalled(f"the ledger has {tally} instead of {count} delivered")
            await asyncio.sleep(0.1)

    async def requested(self, count: int, *, timeout: float = 120.0) -> None:
        """Returns when so many deliveries are in the ledger and published."""
        until = time.monotonic() + timeout
        while sum((await self.tally()).values()) < count:
            if time.monotonic() > until:
                raise Stalled(f"{count} requests were not written within {timeout:g} s")
            await asyncio.sleep(0.2)
        await asyncio.sleep(2.0)


@asynccontextmanager
async def installation(
    place: Stand,
    *,
    company_count: int = 500,
    delays: Sequence[timedelta] = (timedelta(seconds=5),),
    platform: str = PLATFORM,
    limits: Mapping[str, bool | int | None] = UNLIMITED,
    **variables: str,
) -> AsyncIterator[Installation]:
    run = uuid4().hex[:8]
    topics = Topics(f"b{run}.")
    connection = KafkaConnection(bootstrap_servers=place.kafka)
    ids = companies(company_count)
    admin = await asyncpg.connect(place.database_url)
    name = f"bench_{run}"
    await admin.execute(f'create database "{name}"')
    url = urlunsplit(urlsplit(place.database_url)._replace(path=f"/{name}"))
    wanted = [topic.name for topic in wanted_topics(topics, [platform], delays)]
    publisher: KafkaPublisher | None = None
    found: Installation | None = None
    try:
        async with await LedgerDatabase.open(url) as database:
            await migrate(database)
            await PostgresCompanyRegistry(database).set_company_platforms(
                [
                    CompanyPlatform(company_id=company, platform=platform, organization_id=f"org-{number}")
                    for number, company in enumerate(ids)
                ]
            )
            # The platform's own 100 a minute is another benchmark's matter.
            await PostgresPlatformLog(database).set_control(platform, limits)
        await create_topics(connection, topics, [platform], delays, partitions=PARTITIONS)
        await _leaders(connection, wanted)
        publisher = await KafkaPublisher.open(connection)
        found = Installation(place, topics, url, publisher, ids)
        found.env = checkout_env("LOG_LEVEL") | {
            "KAFKA_BOOTSTRAP_SERVERS": place.kafka,
            "DATABASE_URL": url,
            "REDIS_URL": place.redis_url,
            "IMPACT_IN_TOPIC_PREFIX": topics.prefix,
            **{f"IMPACT_IN_{name.upper()}_ENABLED": str(name == platform).lower() for name in PLATFORMS},
            "IMPACT_IN_RETRY_DELAYS": ",".join(f"{delay.total_seconds():g}s" for delay in delays),
            "BENEVITY_API_KEY": "benchmark",
            "BENEVITY_WEBHOOK_URL": f"{place.sink.url}/benevity",
            "GOODERA_API_KEY": "benchmark",
            "GOODERA_API_URL": f"{place.sink.url}/v1",
            **variables,
        }
        await place.sink.reset()
        yield found
    except Stalled as why:
        # The logs go with the stand.
        tails = [worker.log.read_text(errors="replace")[-2_000:] for worker in (found.workers if found else [])[-1:]]
        raise Stalled("\n".join([str(why), *tails])) from why
    finally:
        for worker in found.workers if found is not None else []:
            await worker.stop(15.0)
        if publisher is not None:
            await publisher.close()
        with suppress(Exception):
            await _delete_topics(connection, wanted)
        # Autovacuum may be at work in it, which only a superuser may end; the whole server goes with the stand.
        with suppress(asyncpg.InsufficientPrivilegeError):
            await admin.execute(f'drop database "{name}" with (force)')
        await admin.close()


async def _leaders(connection: KafkaConnection, names: list[str]) -> None:
    """Returns when every partition of these topics has a leader."""
    client = AIOKafkaAdminClient(**connection.for_aiokafka())
    await client.start()
    try:
        while True:
            described = await client.describe_topics(names)
            if all(partition["leader"] >= 0 for topic in described for partition in topic["partitions"]):
                return
            await asyncio.sleep(0.1)
    finally:
        await client.close()


async def _delete_topics(connection: KafkaConnection, names: list[str]) -> None:
    client = AIOKafkaAdminClient(**connection.for_aiokafka())
    await client.start()
    try:
        await client.delete_topics(names)
    finally:
        await client.close()


async def _ready(child: Child, url: str, timeout: float = 60.0) -> None:
    ended = asyncio.create_task(child.wait())
    until = time.monotonic() + timeout
    try:
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < until and not ended.done():
                with suppress(aiohttp.ClientError):
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return
                await asyncio.wait([ended], timeout=0.02)
    finally:
        ended.cancel()
    raise Stalled(f"the worker was not ready within {timeout:g} s, or ended")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process; without that of children which it has not waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_mib(pid: int) -> float:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024
