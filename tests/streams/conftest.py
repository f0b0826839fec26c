"""Both brokers: the embedded one for speed, Apache Kafka for the truth."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from impact_in.local_stack import Broker
from streams.connection import KafkaConnection
from streams.publisher import KafkaPublisher


@pytest.fixture(scope="module")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Broker(tmp_path_factory.mktemp("tansu")) as broker:
        yield broker.url


@dataclass
class Road:
    """A broker, and a name that no other test uses."""

    connection: KafkaConnection
    name: str
    fetch_wait: float
    member: str | None
    """Static on Apache Kafka: the next member of this name has its partitions at once, as a restarted worker has. Not
    on the embedded broker, where it would wait for six seconds."""
    publisher: KafkaPublisher

    async def topic(self, suffix: str, partitions: int = 1, **config: str) -> str:
        name = f"{self.name}.{suffix}"
        admin = AIOKafkaAdminClient(**self.connection.for_aiokafka())
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
        finally:
            await admin.close()
        return name


@pytest.fixture(
    params=[
        pytest.param("embedded", marks=pytest.mark.servers),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ]
)
def broker(request: pytest.FixtureRequest) -> tuple[str, float]:
    if request.param == "embedded":
        return request.getfixturevalue("embedded_broker"), 0.02
    return request.getfixturevalue("kafka_bootstrap"), 0.5


@pytest.fixture
async def road(broker: tuple[str, float]) -> AsyncIterator[Road]:
    static = broker[1] > 0.1
    async with _road(broker[0], broker[1], "member" if static else None) as road:
        yield road


@pytest.fixture
async def kafka_road(kafka_bootstrap: str) -> AsyncIterator[Road]:
    """For what the embedded broker does otherwise, or not at all."""
    async with _road(kafka_bootstrap, 0.5, "member") as road:
        yield road


@asynccontextmanager
async def _road(bootstrap_servers: str, fetch_wait: float, member: str | None) -> AsyncIterator[Road]:
    connection = KafkaConnection(bootstrap_servers=bootstrap_servers)
    publisher = await KafkaPublisher.open(connection)
    try:
        yield Road(connection, f"t{secrets.token_hex(4)}", fetch_wait, member, publisher)
    finally:
        await publisher.close()
