import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from impact_in.local_stack import LocalStack, LocalStackError, ports
from tests.local_stack.processes import alive, descendants, linux_only
from tests.servers.waiting import eventually

pytestmark = pytest.mark.servers

REDIS = frozenset({"redis"})
KAFKA = frozenset({"kafka"})


async def fetch_value(database_url: str, query: str) -> object:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_all_three_servers_do_their_work(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, durable=False) as stack:
        servers = stack.servers
        assert servers.as_env() == {
            "KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
            "DATABASE_URL": servers.database_url,
            "REDIS_URL": servers.redis_url,
        }

        async with AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap_servers) as producer:
            await producer.send_and_wait("greetings", b"hello")
        consumer = AIOKafkaConsumer(
            "greetings", bootstrap_servers=servers.kafka_bootstrap_servers, auto_offset_reset="earliest"
        )
        async with consumer:
            record = await asyncio.wait_for(consumer.getone(), 10)
            assert record.value == b"hello"

        assert await fetch_value(servers.database_url, "SHOW server_encoding") == "UTF8"
        assert await fetch_value(servers.database_url, "SELECT current_user || '@' || current_database()") == (
            "impact_in@impact_in"
        )
        async with redis.asyncio.Redis.from_url(servers.redis_url) as client:
            assert await client.set("key", "value")
            assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"


async def test_data_and_addresses_come_back_with_the_next_stack(tmp_path: Path) -> None:
    only = frozenset({"postgres", "redis"})
    async with LocalStack(tmp_path, only=only) as stack:
        first = stack.servers
        await fetch_value(first.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        async with redis.asyncio.Redis.from_url(first.redis_url) as client:
            await client.set("kept", "42")

    async with LocalStack(tmp_path, only=only) as stack:
        assert stack.servers == first
        assert await fetch_value(first.database_url, "SELECT answer FROM kept") == 42
        async with redis.asyncio.Redis.from_url(first.redis_url) as client:
            assert await client.get("kept") == b"42"


async def test_a_durable_database_syncs_and_another_does_not(tmp_path: Path) -> None:
    only = frozenset({"postgres"})
    async with LocalStack(tmp_path, only=only) as stack:
        assert await fetch_value(stack.servers.database_url, "SHOW fsync") == "on"
    async with LocalStack(tmp_path, only=only, durable=False) as stack:
        assert await fetch_value(stack.servers.database_url, "SHOW fsync") == "off"


async def test_passwords_are_needed_and_are_for_the_owner_only(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, only=frozenset({"postgres", "redis"}), durable=False) as stack:
        servers = stack.servers
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(servers.database_url.replace("impact_in:", "impact_in:not"))
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(servers.database_url.replace("impact_in:", "postgres:"))
        async with redis.asyncio.Redis.from_url(servers.redis_url.replace("//:", "//:not")) as client:
            with pytest.raises(redis.exceptions.AuthenticationError):
                await client.ping()
    for secret in (tmp_path / "postgres" / "password", tmp_path / "valkey" / "password"):
        assert secret.stat().st_mode & 0o077 == 0


async def test_two_stacks_run_side_by_side(tmp_path: Path) -> None:
    only = frozenset({"kafka", "redis"})
    async with LocalStack(tmp_path / "one", only=only) as one, LocalStack(tmp_path / "two", only=only) as two:
        for stack in (one, two):
            async with redis.asyncio.Redis.from_url(stack.servers.redis_url) as client:
                assert await client.ping()
        assert one.servers.kafka_bootstrap_servers != two.servers.kafka_bootstrap_servers
        assert one.servers.database_url == ""


async def test_a_second_stack_on_the_same_directory_is_refused_by_the_pid_of_the_first(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, only=REDIS) as first:
        with pytest.raises(LocalStackError, match=f"in use by pid {os.getpid()}: "):
            await LocalStack(tmp_path, only=REDIS).start()
        assert first.cache.running
    async with LocalStack(tmp_path, only=REDIS):
        pass


@linux_only
async def test_a_busy_port_is_refused_by_naming_its_holder(tmp_path: Path) -> None:
    async with LocalStack(tmp_path / "one", only=KAFKA) as stack:
        port = stack.broker.port
        with pytest.raises(LocalStackError, match=rf"port {port} .* in use by pid {stack.broker.pid} \(.*tansu "):
            await LocalStack(tmp_path / "two", only=KAFKA, kafka_port=port).start()


async def test_a_given_port_is_taken(tmp_path: Path, free_port: int) -> None:
    async with LocalStack(tmp_path, only=KAFKA, kafka_port=free_port) as stack:
        assert stack.servers.kafka_bootstrap_servers == f"127.0.0.1:{free_port}"


@linux_only
async def test_one_server_that_cannot_start_leaves_none_running(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    (tmp_path / "valkey").mkdir()
    (tmp_path / "valkey" / "dump.rdb").write_bytes(b"no such format")
    stack = LocalStack(tmp_path, durable=False)

    with pytest.raises(
        LocalStackError, match=r"valkey did not start \(exit status 1\): .*Fatal error.*valkey.log"
    ) as raised:
        await stack.start()

    assert any("Wrong signature" in line for line in raised.value.log_tail)
    assert not alive(descendants(os.getpid()) - before)
    (tmp_path / "valkey" / "dump.rdb").unlink()
    await stack.start()
    await stack.stop()


@linux_only
async def test_a_cancelled_start_leaves_none_running(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    starting = asyncio.create_task(LocalStack(tmp_path, durable=False).start())
    await eventually(lambda: descendants(os.getpid()) - before)

    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert not alive(descendants(os.getpid()) - before)


async def test_stop_can_be_repeated_and_goes_on_when_its_caller_is_cancelled(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, only=REDIS)
    await stack.stop()
    await stack.start()
    pid = stack.cache.pid
    hurried = asyncio.create_task(stack.stop())
    await asyncio.wait([hurried], timeout=0)
    hurried.cancel()
    await asyncio.gather(stack.stop(), stack.stop())
    assert not alive([pid])
    await stack.stop()
    with pytest.raises(LocalStackError, match="not running"):
        _ = stack.servers


async def test_a_server_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, only=frozenset({"kafka", "redis"})) as stack:
        died, unheeded = stack.died(), stack.died()
        unheeded.cancel()
        assert not died.done()
        os.kill(stack.cache.pid, signal.SIGKILL)
        message = await asyncio.wait_for(died, 5)
        assert message.startswith(f"valkey (pid {stack.cache.pid}) ended unexpectedly (SIGKILL)")
        assert "Ready to accept connections" in message
        assert stack.broker.running
        assert not stack.cache.running


async def test_a_server_that_is_restarted_on_purpose_has_not_died(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, only=REDIS) as stack:
        died = stack.died()
        await asyncio.to_thread(stack.cache.restart)
        await asyncio.to_thread(stack.cache.kill)
        await asyncio.to_thread(stack.cache.start)
        os.kill(stack.cache.pid, signal.SIGTERM)  # but the new one is watched as well
        assert f"pid {stack.cache.pid}" in await asyncio.wait_for(died, 5)


async def test_free_ports_lie_below_those_of_outgoing_connections() -> None:
    # Else a client that waits for its server to come back can take the port, even by connecting to itself.
    port = ports.free_port()
    assert ports.is_free(port)
    assert ports.LOWEST <= port < 32_768
