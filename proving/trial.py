"""One row's own world on a ground: topics, an empty database, companies, simulated platforms, workers; and at the end
the equations over all of it."""

import asyncio
import json
import os
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import aiokafka
import asyncpg
import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from delivery_log.postgres.companies import PostgresCompanyRegistry
from delivery_log.postgres.database import Database
from delivery_log.postgres.migrations import migrate
from delivery_log.postgres.platforms import PostgresPlatformLog
from impact_in.children import Child
from impact_in.demo.events import registrations
from impact_in.demo.stage import DELAYS, PLATFORMS
from impact_in.ledger_check.facts import read_positions
from impact_in.local_stack.ports import free_port
from impact_in.operations.platforms import UNLIMITED
from impact_in.operations.topics import create_topics, wanted_topics
from proving.checker.facts import Conditions as Judged
from proving.checker.reading import Source, read_facts
from proving.checker.verdict import judge
from proving.ground import Ground
from proving.publisher.events import Intended, Mixture, companies, intended
from proving.publisher.sending import confirm, send
from schemas.durations import format_duration
from schemas.topics import Topics
from streams.connection import KafkaConnection
from tests.servers.environment import checkout_env

_PARTITIONS = 6
SESSION = 3.0
LEASE = 12.0
# Longer than any row: no delivery dies of the fault that is looked at.
_DEADLINE = 600.0


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What a row wants. `through`: servers that its workers reach by way of the proxy. `limits`: quotas of all
    platforms; none where empty."""

    events: int = 1_000
    companies: int = 40
    through: tuple[str, ...] = ()
    faults: str = "some"
    latency_ms: int = 5
    limits: dict[str, int] = {}
    tight_disk: bool = False
    env: dict[str, str] = {}


class Unmet(Exception):
    """The row is red, or its fault did not fire; the message says why."""


class Trial:
    """A witness, a publisher's log, workers to fail, and a verdict. Seconds throughout."""

    def __init__(self, ground: Ground, conditions: Conditions, seed: int) -> None:
        self.ground = ground
        self.conditions = conditions
        self.seed = seed
        run = secrets.token_hex(4)
        self.topics = Topics(f"f{run}.")
        self._instance = f"f{run}"
        self._database_name = f"faults_{run}"
        self.companies = companies(seed, conditions.companies)
        self.events = list(intended(seed, conditions.events, self.companies, Mixture(), PLATFORMS))
        self.children: list[Child] = []
        self._published = 0
        self.workers: list[Child] = []
        self.platform_urls: dict[str, str] = {}
        self.logs = ground.directory / run
        self._log, self._receipts = self.logs / "published.jsonl", self.logs / "receipts.jsonl"
        self.evidence: list[str] = []
        self.lifted_at: float | None = None
        self._env: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        try:
            await self._set()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *ignored: object) -> None:
        await self._end()

    # ---- what a row does

    def fired(self, what: str) -> None:
        """The fault happened, and this shows it."""
        self.evidence.append(what)

    def lifted(self) -> None:
        """The fault is over: the time to the next delivery counts from now."""
        self.lifted_at = time.time()

    async def start(
        self,
        *faulty: str,
        name: str = "a",
        roles: Sequence[str] = (),
        ready: bool = True,
        **variables: str,
    ) -> Child:
        """Starts a worker; `faulty` are arguments of `proving.faulty_worker`. Two workers at once have two names."""
        port = free_port()
        env = self._env | {"IMPACT_IN_WORKER_PORT": str(port), "IMPACT_IN_INSTANCE": f"{self._instance}{name}"}
        command = ["worker", *(word for role in roles for word in ("--role", role))]
        if faulty:
            arguments = ["proving.faulty_worker", *faulty, "--fired", str(self.fired_file), "--", *command]
        else:
            arguments = ["impact_in", *command]
        child = await Child.start(f"worker-{name}", arguments, env | variables, self.logs, cwd=self.logs)
        self.workers.append(child)
        if ready:
            await child.until_ready(f"http://127.0.0.1:{port}/health/ready")
        return child

    @property
    def fired_file(self) -> Path:
        return self.logs / "fired.jsonl"

    def failpoints_fired(self) -> Counter[str]:
        """How often each point has acted so far, by what the process wrote before it did."""
        lines = self.fired_file.read_text().splitlines() if self.fired_file.exists() else []
        return Counter(json.loads(line)["point"] for line in lines)

    def note_failpoints(self, action: str) -> Counter[str]:
        """As `failpoints_fired`, and adds it to the evidence. Raises Unmet where none has acted."""
        found = self.failpoints_fired()
        if not found:
            raise Unmet("no failpoint fired")
        self.fired(f"{action} {', '.join(f'{point} ({count})' for point, count in found.items())}")
        return found

    async def publish(self, first: float, last: float) -> None:
        """What is to be published, from one share of it to another, 0 to 1. With its place in the publisher's log."""
        await self.publish_all(self._share(first, last))

    async def publish_again(self, first: float, last: float) -> None:
        """The events of that share once more, in another encoding."""
        again = [what for what in self._share(first, last) if what.kind == "event"]
        await self.publish_all([replace(what, kind="duplicate") for what in again])

    def _share(self, first: float, last: float) -> list[Intended]:
        count = len(self.events)
        return self.events[round(first * count) : round(last * count)]

    async def publish_all(self, records: Sequence[Intended]) -> None:
        waiting = []
        for what in records:
            self._published += 1
            waiting.append(await send(self._producer, self.topics.metrics, self._published, what))
        await confirm(self._log, waiting)

    async def tally(self) -> Counter[str]:
        """Deliveries by status."""
        rows = await self.database.fetch("select status, count(*) as n from impact_deliveries group by status")
        return Counter({row["status"]: row["n"] for row in rows})

    async def delivered(self) -> int:
        """Deliveries that reached an outcome so far."""
        tally = await self.tally()
        return tally["delivered"] + tally["failed"]

    async def received(self, platform: str) -> dict[str, Any]:
        """What the witness counted."""
        url = f"{self.platform_urls[platform]}/_received?keys=0"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def flowing(self, share: float, *, timeout: float = 60.0) -> None:
        """Returns once so much of all deliveries is made."""
        events = [what.event for what in self.events if what.kind == "event" and what.event is not None]
        wanted = int(share * sum(len(event.platforms or PLATFORMS) for event in events))
        await self.until(lambda: self._reached(wanted), timeout, f"{wanted} deliveries")

    async def _reached(self, wanted: int) -> bool:
        return await self.delivered() >= wanted

    async def until(self, condition: Any, timeout: float, what: str) -> None:
        give_up_at = time.monotonic() + timeout
        while not await condition():
            if time.monotonic() > give_up_at:
                raise Unmet(f"not within {timeout:g} s: {what}")
            await asyncio.sleep(0.05)

    async def requests_seen(self) -> int:
        """Requests at all platforms together, so far."""
        return sum([(await self.received(platform))["requests"] for platform in PLATFORMS])

    async def sql(self, statement: str, *arguments: Any) -> Any:
        """On a connection of its own, by no proxy, and writing whatever the database's default is."""
        writes = {"default_transaction_read_only": "off"}
        connection = await asyncpg.connect(self.database_url, timeout=10, server_settings=writes)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    async def lose_replies(self, road: str, count: int, every: int, what: str) -> None:
        """`count` replies on this road, one of `every`: the call arrived, and nobody hears of it. `what`: the calls in
        words."""
        await self.ground.road(road, f"drop-replies {count} {every}")
        await self.until(lambda: self._dropped(road, count), 60.0, f"{count} replies are lost")
        self.fired(f"{count} {what}, their replies were cut off")
        self.lifted()

    async def _dropped(self, road: str, count: int) -> bool:
        return bool((await self.ground.road(road, "state"))["dropped"] >= count)

    async def committed(self) -> int:
        """Offsets committed so far, all groups but the waiters' together: these move records without the ledger."""
        positions = await read_positions(self.connection, self.topics, PLATFORMS, self.delays)
        return sum(position.committed or 0 for position in positions if ".retry." not in position.topic)

    async def refuses_to_grow(self) -> str:
        """What Postgres says to somebody who wants room. Raises Unmet where it gives it."""
        try:
            await self.sql("create table hungry as select repeat('x', 1000) from generate_series(1, 400000)")
        except (asyncpg.PostgresError, OSError, asyncpg.InterfaceError) as error:
            return f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
        raise Unmet("the disk was not full")

    @property
    def delays(self) -> list[str]:
        return [format_duration(delay) for delay in DELAYS]

    async def make_topics(self) -> None:
        """Those that are missing."""
        await create_topics(self.connection, self.topics, PLATFORMS, DELAYS, partitions=_PARTITIONS)

    async def topics_gone(self, names: Sequence[str]) -> bool:
        async with _admin(self.connection) as admin:
            return not set(names) & set(await admin.list_topics())

    async def allow_large(self, *names: str) -> None:
        """Records of up to 16 MB on these topics."""
        async with _admin(self.connection) as admin:
            await admin.alter_configs(
                [
                    ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": str(16 * 1024 * 1024)})
                    for name in names
                ]
            )

    def rss_mib(self, worker: Child) -> float:
        return _status_mib(worker.pid, "VmRSS")

    def peak_mib(self, worker: Child) -> float:
        return _status_mib(worker.pid, "VmHWM")

    # ---- the end

    async def verdict(self, *, timeout: float = 90.0) -> None:
        """Waits for rest, then checks. Raises Unmet, naming the equations that do not hold."""
        try:
            await self.until(self._at_rest, timeout, "everything is finished")
        except Unmet as error:
            raise Unmet(f"{error}; {await self._unfinished()}") from None
        source = Source(
            bootstrap=self.connection.bootstrap_servers,
            database_url=self.database_url,
            topic_prefix=self.topics.prefix,
            published=str(self._log),
            receipts=str(self._receipts),
            conditions=Judged(delays=tuple(self.delays), last_delay=DELAYS[-1].total_seconds(), deadline=_DEADLINE),
        )
        verdict = judge(await read_facts(source))
        if not verdict.holds:
            (self.logs / "verdict.txt").write_text(verdict.explained(), encoding="utf-8")
            raise Unmet(
                "; ".join(
                    f"{name}: {len(verdict.violations[name])}, first {verdict.violations[name][0].what}"
                    for name in verdict.broken()
                )
            )

    async def _at_rest(self) -> bool:
        for worker in self.workers:
            if worker.returncode not in (None, 0, -9) and worker is self.workers[-1]:
                raise Unmet(await worker.epitaph())
        tally = await self.tally()
        if tally["pending"] or tally["retrying"]:
            return False
        positions = await read_positions(self.connection, self.topics, PLATFORMS, self.delays)
        return all(position.committed == position.end for position in positions) and tally == await self.tally()

    async def _unfinished(self) -> str:
        """What does not move, by how it stands."""
        rows = await self.database.fetch(
            "select platform, status, hop, published_hop, publish_delay, blocked, lease_until > now() as leased, "
            "count(*) as n from impact_deliveries where status in ('pending', 'retrying') "
            "group by 1, 2, 3, 4, 5, 6, 7 order by n desc limit 4"
        )
        return "unfinished: " + ("; ".join(str(dict(row)) for row in rows) or "none: events are missing")

    async def recovery(self) -> float | None:
        """From the fault's end to the next delivery by the ledger's clock, which is this machine's."""
        if self.lifted_at is None:
            return None
        rows = await self.database.fetch(
            "select extract(epoch from min(delivered_at))::float8 as first from impact_deliveries "
            "where delivered_at > to_timestamp($1::float8)",
            self.lifted_at,
        )
        first = rows[0]["first"]
        return None if first is None else cast("float", first) - self.lifted_at

    # ---- making it

    async def _set(self) -> None:
        self.logs.mkdir(parents=True)
        ground = self.ground
        self.connection = KafkaConnection(bootstrap_servers=ground.kafka.direct_bootstrap_servers)
        await self._on_server(f'create database "{self._database_name}"')
        self.database_url = self._of_this_trial(ground.database.url)
        self.database = await Database.open(self.database_url, application="faults")
        await migrate(self.database)
        await create_topics(self.connection, self.topics, PLATFORMS, DELAYS, partitions=_PARTITIONS)
        await PostgresCompanyRegistry(self.database).set_company_platforms(registrations(self.companies, PLATFORMS))
        limits: Mapping[str, Any] = UNLIMITED | self.conditions.limits
        for platform in PLATFORMS:
            await PostgresPlatformLog(self.database).set_control(platform, limits)
        self._env = await self._worker_env()
        self._producer = aiokafka.AIOKafkaProducer(
            **self.connection.for_aiokafka(), enable_idempotence=True, max_request_size=16 * 1024 * 1024
        )
        await self._producer.start()
        self._log.touch()

    async def _worker_env(self) -> dict[str, str]:
        ground, through = self.ground, self.conditions.through
        database, redis = self.database_url, ground.cache.url
        kafka = ground.kafka.bootstrap_servers if "kafka" in through else ground.kafka.direct_bootstrap_servers
        env = checkout_env("PORT_", "LOG_")
        env |= await self._platforms(env)
        return env | {
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "DATABASE_URL": ground.through_proxy("postgres", database) if "postgres" in through else database,
            "REDIS_URL": ground.through_proxy("redis", redis) if "redis" in through else redis,
            "IMPACT_IN_TOPIC_PREFIX": self.topics.prefix,
            "IMPACT_IN_RETRY_DELAYS": ",".join(self.delays),
            "IMPACT_IN_DELIVERY_DEADLINE": f"{_DEADLINE:g}s",
            "IMPACT_IN_SESSION_TIMEOUT": f"{SESSION:g}s",
            "IMPACT_IN_REQUEST_TIMEOUT": "5s",
            "IMPACT_IN_LEASE": f"{LEASE:g}s",
            "IMPACT_IN_DRAIN_SECONDS": "15",
            **self.conditions.env,
        }

    async def _platforms(self, env: Mapping[str, str]) -> dict[str, str]:
        arguments = ["proving.witness", "--receipts", str(self._receipts), "--faults", self.conditions.faults]
        arguments += ["--seed", str(self.seed), "--answer-ms", str(self.conditions.latency_ms)]
        witness = await Child.start("witness", arguments, env, self.logs, cwd=self.logs)
        self.children.append(witness)
        told = json.loads(await witness.first_line())
        credentials: dict[str, str] = {}
        for platform, found in told["platforms"].items():
            self.platform_urls[platform] = found["url"]
            credentials |= found["env"]
        return credentials

    def _of_this_trial(self, url: str) -> str:
        return urlunsplit(urlsplit(url)._replace(path=f"/{self._database_name}"))

    async def _on_server(self, statement: str) -> None:
        connection = await asyncpg.connect(self.ground.database.url, timeout=10)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _end(self) -> None:
        for child in self.workers:
            if child.returncode is None:
                os.kill(child.pid, signal.SIGCONT)  # a stopped one hears nothing
        await asyncio.gather(*(child.stop(20.0) for child in [*self.workers, *self.children]))
        if hasattr(self, "_producer"):
            await self._producer.stop()
        if hasattr(self, "database"):
            await self.database.close()
        await self._delete_topics()
        await self._on_server(f'drop database if exists "{self._database_name}" with (force)')

    async def _delete_topics(self) -> None:
        async with _admin(self.connection) as admin:
            await admin.delete_topics([topic.name for topic in wanted_topics(self.topics, PLATFORMS, DELAYS)])


@asynccontextmanager
async def _admin(connection: KafkaConnection) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**connection.for_aiokafka())
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def _status_mib(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    return 0.0
