"""The servers do for a test what it may rely on."""

import asyncio
import sys
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.servers import eventually
from tests.servers.kafka import KafkaServer


async def create_topic(bootstrap_servers: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1)])
    finally:
        await admin.close()


async def publish(bootstrap_servers: str, topic: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, key=b"company")


async def consume(bootstrap_servers: str, topic: str, group: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap_servers, group_id=group, auto_offset_reset="earliest"
    ) as consumer:
        values = [(await consumer.getone()).value for _ in range(count)]
        await consumer.commit()
    return values


@pytest.mark.timeout(60)
async def test_a_group_reads_what_was_published_with_acks_all(kafka_bootstrap: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}events"
    await create_topic(kafka_bootstrap, topic)
    sent = [b"%d" % number for number in range(200)]

    await publish(kafka_bootstrap, topic, sent)

    assert await consume(kafka_bootstrap, topic, f"{topic_prefix}group", len(sent)) == sent


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_broker_that_comes_back_has_its_topics_records_and_offsets(
    kafka_server: KafkaServer, topic_prefix: str, how: str
) -> None:
    topic, group = f"{topic_prefix}events", f"{topic_prefix}group"
    await create_topic(kafka_server.bootstrap_servers, topic)
    await publish(kafka_server.bootstrap_servers, topic, [b"1", b"2", b"3"])
    assert await consume(kafka_server.bootstrap_servers, topic, group, 2) == [b"1", b"2"]

    if how == "stop":
        await kafka_server.stop()
    else:
        kafka_server.kill()
    assert not kafka_server.is_running()
    await kafka_server.start()

    assert await consume(kafka_server.bootstrap_servers, topic, group, 1) == [b"3"]


@pytest.mark.timeout(60)
async def test_a_paused_broker_answers_when_it_is_resumed(kafka_server: KafkaServer, topic_prefix: str) -> None:
    topic = f"{topic_prefix}events"
    await create_topic(kafka_server.bootstrap_servers, topic)
    async with AIOKafkaProducer(bootstrap_servers=kafka_server.bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait(topic, b"before")

        kafka_server.pause()
        answer = await producer.send(topic, b"while paused")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(answer), 0.5)
        kafka_server.resume()

        assert (await answer).topic == topic


@pytest.mark.parametrize("turn", [1, 2])
async def test_every_test_has_an_empty_database_of_its_own(database_url: str, turn: int) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TABLE mine (turn int)")
    await connection.execute("INSERT INTO mine VALUES ($1)", turn)
    assert await connection.fetchval("SELECT array_agg(turn) FROM mine") == [turn]
    # Left open: a forgotten connection does not keep the database from being dropped.


@pytest.mark.parametrize("turn", [1, 2])
async def test_every_test_finds_valkey_empty(redis_url: str, turn: int) -> None:
    async with redis.Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        await client.set("left behind", turn)


@pytest.mark.fast
async def test_eventually_returns_the_first_truthy_answer() -> None:
    answers = iter([None, 0, "done"])
    assert await eventually(lambda: next(answers)) == "done"


@pytest.mark.fast
async def test_eventually_says_what_did_not_happen() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(AssertionError, match=r"not within 0\.1 s: the moon is blue \(last answer: False\)"):
        await eventually(never, timeout=0.1, what="the moon is blue")


@pytest.mark.fast
async def test_a_broker_does_not_outlive_a_test_run_that_was_killed(tmp_path: Path) -> None:
    java = tmp_path / "java"  # it need not be Kafka, and this starts at once
    java.write_text("#!/bin/sh\nexec sleep 60\n")
    java.chmod(0o755)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").touch()
    script = f"""
import time
from pathlib import Path
from tests.servers.kafka_node import ProcessNode
node = ProcessNode(Path({str(java)!r}), Path("jars"), Path({str(tmp_path)!r}), [])
node.start({{}}, [])
print(node.pid, flush=True)
time.sleep(60)
"""
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert run.stdout is not None
    pid = int(await run.stdout.readline())
    await eventually(lambda: command_line(pid).startswith(b"sleep"), what="the broker runs")

    run.kill()
    await run.wait()

    await eventually(lambda: command_line(pid) == b"", what="the broker has ended")


def command_line(pid: int) -> bytes:
    """Empty where the process has ended, even if nobody has collected it (in a container that may be never)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
