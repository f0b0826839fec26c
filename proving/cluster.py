"""A second broker beside the ground's own, which stays the only controller: enough to move leaders."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from impact_in.demo.stage import DELAYS, PLATFORMS
from impact_in.local_stack.ports import free_port
from impact_in.operations.topics import wanted_topics
from proving.ground import Ground
from proving.row import NotRun
from schemas.topics import Topics
from streams.connection import KafkaConnection
from tests.servers import kafka_node
from tests.servers.kafka import SMALL_JVM, JavaKafka, find_kafka

_PARTITIONS = 6


class SecondNode:
    def __init__(self, node: kafka_node.ProcessNode, admin: AIOKafkaAdminClient) -> None:
        self._node = node
        self._admin = admin

    def kill(self) -> None:
        self._node.kill()

    async def replicate(self, topics: Topics, connection: KafkaConnection) -> None:
        """The trial's topics anew, each partition on both brokers, led by either in turn."""
        names = [topic.name for topic in wanted_topics(topics, PLATFORMS, DELAYS)]
        await self._admin.delete_topics(names)
        await _until(lambda: self._gone(names))
        assignment = {number: [1, 2] if number % 2 else [2, 1] for number in range(_PARTITIONS)}
        await self._admin.create_topics(
            [
                NewTopic(name, -1, -1, replica_assignments=assignment, topic_configs={"min.insync.replicas": "1"})
                for name in names
            ]
        )
        await _until(lambda: self._led(names))

    async def leads(self, topic: str) -> list[int]:
        described = await self._admin.describe_topics([topic])
        return [partition["partition"] for partition in described[0]["partitions"] if partition["leader"] == 2]

    async def leads_nothing(self, topics: Topics) -> bool:
        names = [topic.name for topic in wanted_topics(topics, PLATFORMS, DELAYS)]
        described = await self._admin.describe_topics(names)
        return all(partition["leader"] == 1 for topic in described for partition in topic["partitions"])

    async def _gone(self, names: list[str]) -> bool:
        return not set(names) & set(await self._admin.list_topics())

    async def _led(self, names: list[str]) -> bool:
        described = await self._admin.describe_topics(names)
        return all(
            len(topic["partitions"]) == _PARTITIONS
            and all(partition["leader"] > 0 and len(partition["isr"]) == 2 for partition in topic["partitions"])
            for topic in described
        )


@asynccontextmanager
async def second_node(ground: Ground) -> AsyncIterator[SecondNode]:
    """Raises NotRun where Kafka does not run as Java processes of this machine."""
    source = find_kafka()
    if not isinstance(source, JavaKafka):
        raise NotRun("a second broker is started from jars only, and Kafka runs in a container here")
    first = ground.kafka
    port, direct = free_port(), free_port()
    properties = {
        **first.properties,
        "process.roles": "broker",
        "node.id": "2",
        "listeners": f"CLIENT://127.0.0.1:{port},DIRECT://127.0.0.1:{direct}",
        "advertised.listeners": f"CLIENT://127.0.0.1:{port},DIRECT://127.0.0.1:{direct}",
    }
    directory = ground.directory / f"kafka-2-{direct}"
    node = kafka_node.ProcessNode(source.java, source.jars, directory, SMALL_JVM)
    node.join(first.cluster_id())
    admin = AIOKafkaAdminClient(bootstrap_servers=first.direct_bootstrap_servers, request_timeout_ms=20_000)
    # In this thread: the process dies with the thread that starts it.
    node.start(properties, [])
    try:
        await admin.start()

        async def registered() -> bool:
            cluster: dict[str, Any] = await admin.describe_cluster()
            return len(cluster["brokers"]) == 2

        await _until(registered)
        yield SecondNode(node, admin)
    finally:
        await admin.close()
        node.kill()


async def _until(condition: Callable[[], Any], seconds: float = 40.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - another process is asked
            await asyncio.sleep(0.2)
