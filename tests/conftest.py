"""The servers that tests ask for, and the small things that keep tests apart.

A test asks by naming a fixture, and gets the marker that goes with it:

==============================  =========  ==============================================================
`database_url`                  `servers`  an empty database of its own on PostgreSQL
`redis_url`                     `servers`  an empty Valkey (or Redis) database
`kafka_bootstrap`               `kafka`    bootstrap servers of Apache Kafka; use it with `topic_prefix`
`kafka_server`                  `kafka`    the broker itself, to kill, pause and restart
==============================  =========  ==============================================================

Servers given by DATABASE_URL, REDIS_URL and KAFKA_BOOTSTRAP_SERVERS are used; others are started at first use, for
each test process its own.
"""

import asyncio
import os
import secrets
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import hypothesis
import pytest
import redis

from impact_in.local_stack.cache import Cache
from impact_in.local_stack.database import Database
from impact_in.local_stack.ports import free_port as find_free_port
from tests.servers.kafka import GivenKafka, KafkaServer, NoKafka, find_kafka

pytest_plugins = ["tests.servers.skips"]

# No stop-watch: hypothesis' 200 ms an example fail a test where the machine is busy, and say nothing of the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

T = TypeVar("T")

_MARKER_OF_FIXTURE = {
    "postgres_server_url": "servers",
    "database_url": "servers",
    "redis_url": "servers",
    "kafka_bootstrap": "kafka",
    "kafka_server": "kafka",
    "kafka_road": "kafka",
}


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, marker in _MARKER_OF_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
                if item.get_closest_marker("fast"):
                    raise pytest.UsageError(f"{item.nodeid} is marked fast, and asks for {fixture}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("kafka") and isinstance(source := find_kafka(), NoKafka):
        pytest.skip(source.reason)


@pytest.fixture(scope="session")
def _stack_directory() -> Iterator[Path]:
    # Not pytest's own: a socket in it would have too long a path.
    with tempfile.TemporaryDirectory(prefix="impact-in-tests-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def postgres_server_url(_stack_directory: Path) -> Iterator[str]:
    """A database on PostgreSQL from which others can be created: DATABASE_URL, or the embedded server's."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    with Database(_stack_directory, durable=False) as server:
        yield server.url


@pytest.fixture
def database_url(postgres_server_url: str) -> Iterator[str]:
    """A new, empty database for this test alone; dropped when it ends, whoever is still connected."""
    name = f"impact_in_test_{secrets.token_hex(6)}"

    async def on_server(statement: str) -> None:
        connection = await asyncpg.connect(postgres_server_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    _run(on_server(f"CREATE DATABASE {name} TEMPLATE template0"))
    server = urlsplit(postgres_server_url)
    yield f"{server.scheme}://{server.netloc}/{name}" + (f"?{server.query}" if server.query else "")
    _run(on_server(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def _redis_server_url(_stack_directory: Path) -> Iterator[str]:
    if given := os.environ.get("REDIS_URL"):
        yield given
        return
    with Cache(_stack_directory) as server:
        yield server.url


@pytest.fixture
def redis_url(_redis_server_url: str) -> str:
    """A logical database, flushed. On a server given by REDIS_URL it is number 15, and for pytest-xdist's further
    workers 14, 13, and so on down: whatever number the URL names is left alone."""
    number = 15 - int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    url = urlsplit(_redis_server_url)._replace(path=f"/{number}").geturl()
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
def _kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GivenKafka | KafkaServer]:
    source = find_kafka()
    if isinstance(source, NoKafka):
        pytest.skip(source.reason)
    if isinstance(source, GivenKafka):
        yield source
        return
    server = source.server(tmp_path_factory.mktemp("kafka"))
    _run(server.start())
    yield server
    server.kill()


@pytest.fixture
def kafka_bootstrap(_kafka: GivenKafka | KafkaServer) -> str:
    """Bootstrap servers of an Apache Kafka that other tests use too: name topics with `topic_prefix`."""
    return _kafka.bootstrap_servers


@pytest.fixture
def kafka_server(_kafka: GivenKafka | KafkaServer) -> Iterator[KafkaServer]:
    """The broker behind `kafka_bootstrap`. However the test leaves it, the next one finds it running."""
    if isinstance(_kafka, GivenKafka):
        pytest.skip("KAFKA_BOOTSTRAP_SERVERS names a Kafka that is not ours to stop")
    yield _kafka
    _kafka.resume()
    if not _kafka.is_running():
        _run(_kafka.start())


@pytest.fixture
def topic_prefix() -> str:
    """What the names of this test's topics and consumer groups begin with, such as `t1a2b3c.`"""
    return f"t{secrets.token_hex(3)}."


@pytest.fixture
def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    return find_free_port()


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    # On a loop of its own, in this thread, leaving the current loop alone, which is pytest-asyncio's.
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()
