"""Apache Kafka for the tests that the guarantees rest on: one broker in KRaft mode, wherever it is from."""

import asyncio
import functools
import importlib.util
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from impact_in.local_stack.ports import free_port
from tests.servers.kafka_jars import KafkaUnavailableError, ensure_jars, find_java, kafka_version
from tests.servers.kafka_node import ContainerNode, Node, ProcessNode

# The first compiler alone: it starts quicker, and leaves the two cores to what is tested.
SMALL_JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "DIRECT",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # Topics are created with the partitions and retention that we say, or not at all.
    "auto.create.topics.enable": "false",
    # One node holds the only replica of everything; few partitions, for a quick first join.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Tests wait for rebalances and for sessions to expire: none of it longer than they ask for.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # A killed broker may register again only when its former session has run out: 9 s by default.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    # The cleaner's buffer is 128 MB by default, a quarter of our heap.
    "log.cleaner.dedupe.buffer.size": "8388608",
}


class KafkaServer:
    """One Kafka broker that a test may stop, kill, pause and start again, on the same port, with its topics.

    `bootstrap_servers` leads clients through `advertised_port`, where a test puts a proxy in front of the
    broker; `direct_bootstrap_servers` never does. Start and end may come from different event loops.
    """

    def __init__(
        self,
        node: Node,
        *,
        port: int | None = None,
        advertised_port: int | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self._node = node
        self.port = port or free_port()
        self._direct_port = free_port()
        self._controller_port = free_port()
        advertised_port = advertised_port or self.port
        self.bootstrap_servers = f"127.0.0.1:{advertised_port}"
        self.direct_bootstrap_servers = f"127.0.0.1:{self._direct_port}"
        self.properties = {
            **_SETTINGS,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"CLIENT://{node.bind_host}:{self.port},DIRECT://{node.bind_host}:{self._direct_port}"
            f",CONTROLLER://{node.bind_host}:{self._controller_port}",
            "advertised.listeners": f"CLIENT://127.0.0.1:{advertised_port},DIRECT://127.0.0.1:{self._direct_port}",
            **(properties or {}),
        }

    async def start(self, timeout: float = 60.0) -> None:
        """Start it and return when it serves all its topics.

        Raises RuntimeError, with the end of its log, where it does not within `timeout` seconds.
        """
        if self._node.is_running():
            raise RuntimeError("this broker runs already")
        # In this thread, not in a pool's: the process dies with the thread that starts it.
        self._node.start(self.properties, [self.port, self._direct_port])
        deadline = time.monotonic() + timeout
        while not await self._serves_all_topics():
            if not self._node.is_running():
                raise RuntimeError(f"Kafka ended while it started:\n{self._node.log_tail()}")
            if time.monotonic() > deadline:
                self._node.kill()
                raise RuntimeError(f"Kafka did not answer within {timeout:g} s:\n{self._node.log_tail()}")
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """End it in order: groups and offsets are written, clients see their connections close."""
        await asyncio.to_thread(self._node.terminate)

    def kill(self) -> None:
        """SIGKILL, paused or not."""
        self._node.kill()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, requests find no answer."""
        self._node.pause()

    def resume(self) -> None:
        self._node.resume()

    def is_running(self) -> bool:
        return self._node.is_running()

    def cluster_id(self) -> str:
        """Once it has been started."""
        return self._node.cluster_id()

    async def _serves_all_topics(self) -> bool:
        # A bare connection first: aiokafka logs an error for each attempt of its own that fails.
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._direct_port)
        except OSError:
            return False
        writer.close()
        admin = AIOKafkaAdminClient(bootstrap_servers=self.direct_bootstrap_servers, request_timeout_ms=5000)
        try:
            await admin.start()
            cluster: dict[str, Any] = await admin.describe_cluster()
            topics: list[dict[str, Any]] = await admin.describe_topics()
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()
        if cluster["cluster_id"] != self._node.cluster_id():
            raise RuntimeError(f"port {self._direct_port} is answered by another cluster, {cluster['cluster_id']}")
        leaders = [partition["leader"] for topic in topics for partition in topic["partitions"]]
        return bool(cluster["brokers"]) and all(leader == 1 for leader in leaders)


@dataclass(frozen=True)
class GivenKafka:
    """A cluster that somebody runs for us: used as it is, never stopped."""

    bootstrap_servers: str


@dataclass(frozen=True)
class DockerKafka:
    image: str

    def server(self, directory: Path, *, jvm_options: Sequence[str] = SMALL_JVM, **options: Any) -> KafkaServer:
        """A broker in a container, which keeps its data itself: `directory` stays empty."""
        return KafkaServer(ContainerNode(self.image, jvm_options), **options)


@dataclass(frozen=True)
class JavaKafka:
    java: Path
    jars: Path

    def server(self, directory: Path, *, jvm_options: Sequence[str] = SMALL_JVM, **options: Any) -> KafkaServer:
        """A broker with its data and its log, kafka.log, in `directory`. Options: those of KafkaServer."""
        return KafkaServer(ProcessNode(self.java, self.jars, directory, jvm_options), **options)


@dataclass(frozen=True)
class NoKafka:
    reason: str


KafkaSource = GivenKafka | DockerKafka | JavaKafka | NoKafka


@functools.cache
def find_kafka() -> KafkaSource:
    """Where this run takes Kafka from: the environment's variable, else Docker, else Java.

    For Java, Maven fetches the jars where they are absent.
    """
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return GivenKafka(given)
    no_docker = _why_not_docker()
    if no_docker is None:
        return DockerKafka(f"apache/kafka:{kafka_version()}")
    try:
        return JavaKafka(find_java(), ensure_jars())
    except KafkaUnavailableError as why:
        return NoKafka(f"no Apache Kafka: KAFKA_BOOTSTRAP_SERVERS is not set; {no_docker}; {why}")


def _why_not_docker() -> str | None:
    if importlib.util.find_spec("testcontainers") is None:
        return "testcontainers is not installed"
    docker = importlib.import_module("docker")  # comes with testcontainers
    try:
        docker.from_env(timeout=5).ping()
    except (docker.errors.DockerException, OSError) as why:
        return f"no Docker engine answers ({why})"
    return None
