"""The stand: servers, a witness, a publisher, companies in the ledger, workers to kill, and a verdict at the end.

async with Stand(servers, Conditions(events=2000), directory) as stand:
    worker = await stand.start_worker()
    await stand.publish()
    worker.kill()
    await worker.wait()
    await stand.start_worker()
    await stand.rest(within=60)
    verdict = await stand.verdict()
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from uuid import uuid4

import aiohttp
import asyncpg

from delivery_log.contract import CompanyPlatform
from delivery_log.postgres.companies import PostgresCompanyRegistry
from delivery_log.postgres.database import Database as LedgerDatabase
from delivery_log.postgres.migrations import migrate
from delivery_log.postgres.platforms import PostgresPlatformLog
from impact_in.children import Child
from impact_in.ledger_check.facts import read_positions
from impact_in.local_stack import Cache, Database, Servers
from impact_in.local_stack.ports import free_port
from impact_in.operations.platforms import UNLIMITED
from impact_in.operations.topics import create_topics
from impact_in.set_up import SetUp
from proving.checker.facts import Conditions as Judged
from proving.checker.facts import Personality, seconds
from proving.checker.reading import Source, read_facts
from proving.checker.verdict import Verdict, judge
from proving.publisher.events import Mixture, companies
from schemas.topics import Topics
from streams.connection import KafkaConnection
from tests.servers.environment import checkout_env
from tests.servers.kafka import GivenKafka, NoKafka, find_kafka

PLATFORMS = ("benevity", "goodera", "workday")
WORKER = ("impact_in", "worker")
_LOOK = 0.1

Say = Callable[[str], None]


class NotAtRest(Exception):
    """Something was still under way when the time was over; the message says what, and what the workers said last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Of one run. `rate`: records a second, 0 is as fast as it goes. `answer_ms`: how long the platforms take.
    The rest are the workers' settings; `env` overrules them all."""

    events: int = 2_000
    companies: int = 50
    seed: int = 1
    faults: str = "none"
    personality: Personality = "keys"
    answer_ms: float = 5.0
    rate: float = 0.0
    mixture: Mixture = field(default_factory=Mixture)
    platforms: tuple[str, ...] = PLATFORMS
    partitions: int = 6
    delays: tuple[str, ...] = ("1s", "2s", "5s")
    deadline: str = "60s"
    lease: str = "10s"
    request_timeout: str = "4s"
    session: str = "4s"
    env: Mapping[str, str] = field(default_factory=dict)


class Worker:
    """One worker process, to be killed, stopped, frozen and started again under its name."""

    def __init__(self, child: Child, name: str, url: str) -> None:
        self.child, self.name, self.url = child, name, url

    @property
    def pid(self) -> int:
        return self.child.pid

    def kill(self) -> None:
        """SIGKILL. `await wait()` returns once it is gone."""
        self.child.kill()

    def freeze(self) -> None:
        """SIGSTOP, until `thaw`."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def wait(self) -> int:
        return await self.child.wait()

    async def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, and SIGKILL after `timeout` seconds; its exit status."""
        return await self.child.stop(timeout)


class Stand(SetUp):
    """Use as an async context manager: what it started is gone when it ends. `directory` keeps receipts, the
    publisher's log and the workers' logs. Topics have a prefix of their own; the database must be empty."""

    def __init__(
        self, servers: Servers, conditions: Conditions, directory: Path, *, prefix: str | None = None,
        worker_bootstrap: str | None = None, say: Say = lambda _: None,
    ) -> None:  # fmt: skip
        """`worker_bootstrap`: where the workers reach Kafka, if not where the rest does (a proxy in between)."""
        super().__init__()
        self.servers, self.conditions, self.directory = servers, conditions, directory
        self.topics = Topics(prefix or f"p{uuid4().hex[:8]}.")
        self.connection = KafkaConnection(bootstrap_servers=servers.kafka_bootstrap_servers)
        self.published, self.receipts = directory / "published.jsonl", directory / "receipts.jsonl"
        self.logs = directory / "logs"
        self.companies = companies(conditions.seed, conditions.companies)
        self.workers: list[Worker] = []
        self.env: dict[str, str] = {}
        self.witness: Child
        self.witness_urls: dict[str, str] = {}
        self._bootstrap, self._say = worker_bootstrap or servers.kafka_bootstrap_servers, say
        self._ports: dict[str, str] = {}

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            with suppress(ProcessLookupError):
                worker.thaw()  # a frozen one would not hear that it is to stop
        await super().__aexit__(kind, error, trace)

    async def _set_up(self) -> None:
        asked = self.conditions
        self.logs.mkdir(parents=True, exist_ok=True)
        self.published.touch()
        async with await LedgerDatabase.open(self.servers.database_url) as database:
            await migrate(database)
            await PostgresCompanyRegistry(database).set_company_platforms(
                [
                    CompanyPlatform(company_id=company, platform=platform, organization_id=f"{platform}-org-{number}")
                    for number, company in enumerate(self.companies, 1)
                    for platform in asked.platforms
                ]
            )
            for platform in asked.platforms:
                await PostgresPlatformLog(database).set_control(platform, UNLIMITED)
        delays = [timedelta(seconds=seconds(delay)) for delay in asked.delays]
        await create_topics(self.connection, self.topics, asked.platforms, delays, partitions=asked.partitions)
        await self.start_witness()

    async def start_witness(self) -> None:
        """Also after it was killed: it goes on from its receipts, on the same ports."""
        asked = self.conditions
        self.witness = await self.child(
            "witness",
            [
                "proving.witness", "--receipts", str(self.receipts), "--seed", str(asked.seed),
                "--faults", asked.faults, "--personality", asked.personality, "--answer-ms", str(asked.answer_ms),
                *(word for name, port in self._ports.items() for word in ("--port", f"{name}={port}")),
            ],
        )  # fmt: skip
        ready = json.loads(await self.witness.first_line())
        found: dict[str, str] = {}
        for platform, at in ready["platforms"].items():
            self.witness_urls[platform] = at["url"]
            self._ports[platform] = at["url"].rpartition(":")[2]
            if platform in asked.platforms:
                found |= at["env"]
            else:
                found[f"IMPACT_IN_{platform.upper()}_ENABLED"] = "false"
        self.env = {
            **checkout_env(),
            "KAFKA_BOOTSTRAP_SERVERS": self._bootstrap,
            "DATABASE_URL": self.servers.database_url,
            "REDIS_URL": self.servers.redis_url,
            "IMPACT_IN_TOPIC_PREFIX": self.topics.prefix,
            "IMPACT_IN_RETRY_DELAYS": ",".join(asked.delays),
            "IMPACT_IN_DELIVERY_DEADLINE": asked.deadline,
            "IMPACT_IN_LEASE": asked.lease,
            "IMPACT_IN_REQUEST_TIMEOUT": asked.request_timeout,
            "IMPACT_IN_SESSION_TIMEOUT": asked.session,
            **found,
            **asked.env,
        }

    async def start_worker(
        self, name: str = "one", *, command: Sequence[str] = WORKER, ready: bool = True, **variables: str
    ) -> Worker:
        """`command` is what follows `python -m`. Under a name that a dead worker had, it takes over at once (static
        membership). Returns when every role has joined its group, or at once without `ready`."""
        port = free_port()
        # A name of this run alone: on a Kafka that has seen another run, its static members would be given back theirs.
        instance = f"{self.topics.prefix.rstrip('.')}-{name}"
        env = {**self.env, "IMPACT_IN_INSTANCE": instance, "IMPACT_IN_WORKER_PORT": str(port), **variables}
        child = await self.child(f"worker-{name}", command, env)
        worker = Worker(child, name, f"http://127.0.0.1:{port}")
        self.workers.append(worker)
        if ready:
            await child.until_ready(f"{worker.url}/health/ready")
        return worker

    async def start_publisher(self, *, events: int | None = None, rate: float | None = None) -> Child:
        """Returns at once. `events`: fewer, if the same seed shall publish only the first so many."""
        asked = self.conditions
        shares = ("duplicates", "conflicts", "poison", "tombstones", "limited")
        arguments = [
            "proving.publisher", "--bootstrap", self.servers.kafka_bootstrap_servers,
            "--topic-prefix", self.topics.prefix, "--events", str(asked.events if events is None else events),
            "--companies", str(asked.companies), "--seed", str(asked.seed),
            "--rate", str(asked.rate if rate is None else rate), "--log", str(self.published),
            *(word for name in shares for word in (f"--{name}", str(getattr(asked.mixture, name)))),
            *(word for name in asked.platforms for word in ("--platform", name)),
        ]  # fmt: skip
        return await self.child("publisher", arguments)

    async def publish(self) -> None:
        """Returns when the broker has confirmed everything. Raises NotAtRest where it did not."""
        publisher = await self.start_publisher()
        if await publisher.wait() != 0:
            raise NotAtRest(await publisher.epitaph())

    async def child(self, name: str, arguments: Sequence[str], env: Mapping[str, str] | None = None) -> Child:
        child = await Child.start(name, arguments, env or checkout_env(), self.logs, cwd=self.directory)
        self._stack.push_async_callback(child.stop, 15.0)
        return child

    async def records(self) -> int:
        """How many records the platforms have accepted: a batch has many in one request."""
        async with aiohttp.ClientSession() as session:
            found = 0
            for platform in self.conditions.platforms:
                async with session.get(f"{self.witness_urls[platform]}/_received?keys=0") as answer:
                    found += int((await answer.json())["records"])
            return found

    async def until_records(self, least: int, *, within: float = 30.0) -> None:
        """Returns once the platforms have accepted so many: in full flow. Raises NotAtRest."""
        give_up = time.monotonic() + within
        while (found := await self.records()) < least:
            if time.monotonic() > give_up:
                raise NotAtRest(f"{found} of {least} records accepted within {within:g} s\n{self._last_words()}")
            await asyncio.sleep(0.02)

    async def tally(self) -> dict[str, int]:
        """Deliveries by status."""
        connection = await asyncpg.connect(self.servers.database_url)
        try:
            rows = await connection.fetch("select status, count(*) as n from impact_deliveries group by status")
            return {row["status"]: row["n"] for row in rows}
        finally:
            await connection.close()

    async def rest(self, *, within: float = 120.0) -> float:
        """Returns when nothing is unfinished in the ledger and every committed offset is the end, twice in a row; the
        seconds that it took. Raises NotAtRest."""
        started, told, quiet = time.monotonic(), 0.0, 0
        last: Counter[str] | None = None
        while True:
            tally = Counter(await self.tally())
            unfinished = tally["pending"] + tally["retrying"]
            behind = -1 if unfinished else await self._behind()
            quiet = quiet + 1 if not unfinished and not behind and tally == last else 0
            last, now = tally, time.monotonic()
            if quiet:
                return now - started
            if now - told >= 2:
                told = now
                lag = "" if behind < 0 else f", {behind} offsets not committed"
                counts = ", ".join(f"{count} {status}" for status, count in sorted(tally.items())) or "nothing"
                self._say(f"{now - started:5.1f} s  in the ledger: {counts}{lag}")
            if now - started > within:
                raise NotAtRest(f"after {within:g} s: {dict(tally)}, {behind} offsets behind\n{self._last_words()}")
            await asyncio.sleep(_LOOK)

    async def _behind(self) -> int:
        positions = await read_positions(
            self.connection, self.topics, self.conditions.platforms, list(self.conditions.delays)
        )
        return sum(position.end - position.committed for position in positions)

    async def verdict(self) -> Verdict:
        """Of what is there now: at rest, or it speaks of what is under way."""
        return judge(await read_facts(self.source()))

    def source(self) -> Source:
        asked = self.conditions
        return Source(
            bootstrap=self.servers.kafka_bootstrap_servers,
            database_url=self.servers.database_url,
            topic_prefix=self.topics.prefix,
            published=str(self.published),
            receipts=str(self.receipts),
            conditions=Judged(
                platforms=asked.platforms,
                personality=asked.personality,
                delays=asked.delays,
                last_delay=seconds(asked.delays[-1]),
                deadline=seconds(asked.deadline),
            ),
        )

    def _last_words(self) -> str:
        tails = [log.read_text(errors="replace")[-1_500:] for log in sorted(self.logs.glob("worker-*.log"))]
        return "\n".join(tails)


@asynccontextmanager
async def own_servers(directory: Path) -> AsyncIterator[Servers]:
    """Apache Kafka as the tests find it, PostgreSQL that syncs, Valkey: started here, gone afterwards. Raises
    SystemExit where there is no Kafka."""
    source = find_kafka()
    if isinstance(source, NoKafka):
        raise SystemExit(source.reason)
    async with AsyncExitStack() as stack:
        if isinstance(source, GivenKafka):
            bootstrap = source.bootstrap_servers
        else:
            broker = source.server(directory / "kafka")
            await broker.start()
            stack.push_async_callback(broker.stop)
            bootstrap = broker.bootstrap_servers
        database, cache = Database(directory), Cache(directory)
        for server in (database, cache):
            server.start()
            stack.callback(server.stop)
        yield Servers(kafka_bootstrap_servers=bootstrap, database_url=database.url, redis_url=cache.url)


@asynccontextmanager
async def scratch(keep: Path | None = None) -> AsyncIterator[Path]:
    """A directory with a short path (PostgreSQL's socket is in it), or the one to keep."""
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="impact-in-proof-") as name:
        yield Path(name)


def say_on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
