"""The demo's stage: servers, simulated platforms, gateway and worker, all of them processes of their own."""

import json
import secrets
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp

from delivery_log.postgres.companies import PostgresCompanyRegistry
from delivery_log.postgres.database import Database
from delivery_log.postgres.migrations import migrate
from delivery_log.postgres.platforms import PostgresPlatformLog
from impact_in.children import OWN_CONDITIONS, Child, inherited_env
from impact_in.demo.events import demo_companies, registrations
from impact_in.demo.options import DemoOptions
from impact_in.embedded import EMBEDDED_BROKER
from impact_in.local_stack import LocalStack, Servers
from impact_in.local_stack.ports import free_port
from impact_in.operations.platforms import UNLIMITED
from impact_in.operations.topics import create_topics
from impact_in.set_up import SetUp
from schemas.topics import Topics
from streams.connection import KafkaConnection
from streams.publisher import KafkaPublisher

PLATFORMS = ("benevity", "goodera", "workday")
DELAYS = (timedelta(seconds=1), timedelta(seconds=2), timedelta(seconds=5))
DEADLINE = "30s"
_PARTITIONS = 6


class Stage(SetUp):
    """Use as an async context manager: everything that it started is gone when it ends."""

    def __init__(self, options: DemoOptions, *, servers: Servers | None = None, topics: Topics | None = None) -> None:
        """`servers`: given ones, on which nothing but the topics and an empty database is asked for; else embedded."""
        self._options = options
        self._given = servers
        super().__init__()
        self._env: dict[str, str] = {}
        self.topics = topics or Topics()
        self.companies = demo_companies(options.seed, options.events)
        self.children: list[Child] = []
        self.platform_urls: dict[str, str] = {}
        self.gateway_url = ""
        self.worker_url = ""
        self.logs = Path()
        self.database: Database
        self.connection: KafkaConnection
        self.publisher: KafkaPublisher
        self.worker: Child

    async def _set_up(self) -> None:
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="impact-in-demo-")))
        self.logs = directory / "logs"
        servers = self._given
        if servers is None:
            stack = await self._stack.enter_async_context(LocalStack(directory, durable=False))
            servers = stack.servers
        self.logs.mkdir(exist_ok=True)
        self.connection = KafkaConnection(bootstrap_servers=servers.kafka_bootstrap_servers)
        self.database = await self._stack.enter_async_context(await Database.open(servers.database_url))
        await migrate(self.database)
        await create_topics(self.connection, self.topics, PLATFORMS, DELAYS, partitions=_PARTITIONS)
        registry = PostgresCompanyRegistry(self.database)
        await registry.set_company_platforms(registrations(self.companies, PLATFORMS))
        if self._options.quotas == "none":
            platforms = PostgresPlatformLog(self.database)
            for platform in PLATFORMS:
                await platforms.set_control(platform, UNLIMITED)

        worker_port = free_port()
        webhook_secrets = {f"{platform.upper()}_WEBHOOK_SECRET": secrets.token_hex(24) for platform in PLATFORMS}
        env = inherited_env(without_prefixes=OWN_CONDITIONS) | servers.as_env() | webhook_secrets
        env |= {
            "IMPACT_IN_RETRY_DELAYS": "1s,2s,5s",
            "IMPACT_IN_DELIVERY_DEADLINE": DEADLINE,
            "IMPACT_IN_INSTANCE": "demo",
            "IMPACT_IN_TOPIC_PREFIX": self.topics.prefix,
            **(EMBEDDED_BROKER if self._given is None else {}),
            "IMPACT_IN_WORKER_PORT": str(worker_port),
            "PORT_IMPACT_IN": "0",
        }
        gateway = await self._child("gateway", ["impact_in", "gateway"], env)
        self.gateway_url = await gateway.first_line()
        self._env = env | await self._simulators(env)
        self.worker_url = f"http://127.0.0.1:{worker_port}"
        await self.start_worker()
        self.publisher = await KafkaPublisher.open(self.connection)
        self._stack.push_async_callback(self.publisher.close)

    async def start_worker(self) -> None:
        """Returns when every role has joined its group."""
        self.worker = await self._child("worker", ["impact_in", "worker"], self._env)
        await self.worker.until_ready(f"{self.worker_url}/health/ready")

    async def _simulators(self, env: Mapping[str, str]) -> dict[str, str]:
        """Starts the platforms; the variables by which the worker finds them."""
        credentials = {
            "BENEVITY_API_KEY": secrets.token_hex(16),
            "GOODERA_API_KEY": secrets.token_hex(16),
            "WORKDAY_CLIENT_ID": "demo",
            "WORKDAY_CLIENT_SECRET": secrets.token_hex(16),
            "WORKDAY_TENANT_ID": "demo",
        }
        arguments = ["impact_in.simulators", "--faults", self._options.faults, "--seed", str(self._options.seed)]
        arguments += ["--quotas", self._options.quotas, "--webhook-url", self.gateway_url]
        simulators = await self._child("simulators", arguments, dict(env) | credentials)
        ready = json.loads(await simulators.first_line())
        for platform, found in ready["platforms"].items():
            self.platform_urls[platform] = found["url"]
            credentials |= found["env"]
        return credentials

    async def _child(self, name: str, arguments: list[str], env: Mapping[str, str]) -> Child:
        # In a directory of the demo's: the user's may hold a .env, and is not ours to leave anything in.
        child = await Child.start(name, arguments, env, self.logs, cwd=self.logs.parent)
        self.children.append(child)
        self._stack.push_async_callback(child.stop, 15.0)
        return child

    async def received(self, platform: str, *, keys: bool) -> dict[str, Any]:
        """What a simulated platform has seen: its `/_received`."""
        url = f"{self.platform_urls[platform]}/_received{'' if keys else '?keys=0'}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            found: dict[str, Any] = await answer.json(loads=json.loads)
            return found

    async def requests(self, platform: str) -> list[dict[str, Any]]:
        """Every request that a simulated platform has seen, in its order."""
        requests: list[dict[str, Any]] = []
        async with aiohttp.ClientSession() as session:
            while True:
                after = requests[-1]["n"] if requests else 0
                url = f"{self.platform_urls[platform]}/_received/requests?after={after}&limit=1000"
                async with session.get(url) as answer:
                    page: dict[str, Any] = await answer.json(loads=json.loads)
                requests += page["items"]
                if not page["items"]:
                    return requests
