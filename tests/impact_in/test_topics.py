"""Topics are made where missing, judged where present, and never changed; on both brokers."""

import asyncio
import json
import socket
import time
from datetime import timedelta
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from impact_in.operations.topics import (
    CLEANUP,
    LARGEST,
    RETENTION,
    KafkaUnavailable,
    TopicsReport,
    WantedTopic,
    create_topics,
    missing_topics,
    partition_counts,
    wanted_topics,
)
from schemas.topics import Topics
from streams.connection import KafkaConnection
from tests.impact_in.conftest import Command

DELAYS = [timedelta(seconds=5), timedelta(hours=1)]


@pytest.fixture(
    params=[pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)]
)
def bootstrap(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_bootstrap"))


@pytest.fixture
def connection(bootstrap: str) -> KafkaConnection:
    return KafkaConnection(bootstrap_servers=bootstrap)


@pytest.fixture
def topics(topic_prefix: str) -> Topics:
    return Topics(topic_prefix)


async def made(connection: KafkaConnection, topics: Topics, **more: Any) -> TopicsReport:
    return await create_topics(connection, topics, ["benevity", "goodera"], DELAYS, **more)


async def make_topic(connection: KafkaConnection, name: str, **settings: str) -> None:
    configuration = {key.replace("_", "."): value for key, value in settings.items()}
    admin = AIOKafkaAdminClient(**connection.for_aiokafka())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 2, 1, topic_configs=configuration)])
    finally:
        await admin.close()


def names(topics: Topics) -> list[str]:
    found = [topics.metrics, topics.metrics_dlt, topics.status]
    for platform in ("benevity", "goodera"):
        found += [topics.deliveries(platform), *(topics.retry(platform, delay) for delay in DELAYS)]
        found.append(topics.deliveries_dlt(platform))
    return found


async def test_all_topics_are_made_and_then_found_good(connection: KafkaConnection, topics: Topics) -> None:
    assert await missing_topics(connection, names(topics)) == names(topics)
    first = await made(connection, topics)
    assert [item.topic for item in first.items] == names(topics)
    assert {(item.state, item.partitions) for item in first.items} == {("created", 12)}
    assert first.ok
    assert await missing_topics(connection, [*names(topics), "another"]) == ["another"]
    assert await partition_counts(connection, [topics.metrics, "another"]) == {topics.metrics: 12}
    again = await made(connection, topics)
    assert {item.state for item in again.items} == {"present"}
    assert again.ok
    assert again.notes == ()


async def test_only_what_is_missing_is_made_and_nothing_is_changed(connection: KafkaConnection, topics: Topics) -> None:
    await make_topic(connection, topics.metrics, retention_ms="86400000", cleanup_policy="delete")
    report = await made(connection, topics, partitions=3, replication=1)
    states = {item.topic: (item.state, item.partitions) for item in report.items}
    assert states.pop(topics.metrics) == ("wrong", 2)
    assert set(states.values()) == {("created", 3)}
    assert "2 partitions, not 3" in report.items[0].problems[0]
    assert (await made(connection, topics)).ok  # not asked for a number, any will do
    assert await partition_counts(connection, [topics.metrics]) == {topics.metrics: 2}


async def test_what_is_wrong_is_named_with_what_to_set(connection: KafkaConnection, topics: Topics) -> None:
    hour = topics.retry("benevity", DELAYS[1])
    await make_topic(connection, topics.deliveries("benevity"), cleanup_policy="compact")
    await make_topic(connection, hour, retention_ms="3600000")
    await make_topic(connection, topics.metrics_dlt, max_message_bytes="1048588")
    report = await made(connection, topics)
    wrong = {item.topic: item.problems for item in report.items if item.state == "wrong"}
    assert not report.ok
    assert wrong.keys() == {topics.deliveries("benevity"), hour, topics.metrics_dlt}
    assert any("cleanup.policy=compact" in problem for problem in wrong[topics.deliveries("benevity")])
    assert any("retention.ms=3600000 is shorter than 2h: set 604800000" in problem for problem in wrong[hour])
    assert any("set 16777216" in problem for problem in wrong[topics.metrics_dlt])


async def test_a_factor_that_the_brokers_cannot_keep_is_said(kafka_bootstrap: str, topic_prefix: str) -> None:
    connection = KafkaConnection(bootstrap_servers=kafka_bootstrap)
    report = await made(connection, Topics(topic_prefix), replication=99)
    assert not report.ok
    assert {item.state for item in report.items} == {"failed"}
    assert "InvalidReplicationFactorError" in report.items[0].problems[0]


@pytest.mark.parametrize(
    ("found", "problems"),
    [
        ({CLEANUP: "delete", RETENTION: "-1", LARGEST: "2097152"}, 0),
        ({}, 0),
        ({CLEANUP: "compact,delete", RETENTION: "604800000", LARGEST: "2097152"}, 1),
        ({CLEANUP: "compact", RETENTION: "1000", LARGEST: "1000"}, 3),
    ],
)
@pytest.mark.fast
def test_a_topic_is_judged_by_what_the_broker_tells(found: dict[str, str], problems: int) -> None:
    assert len(WantedTopic(name="t").problems(found)) == problems


@pytest.mark.fast
def test_a_topic_as_it_is_made_has_no_problems() -> None:
    for topic in wanted_topics(Topics(), ["benevity"], [*DELAYS, timedelta(days=30)]):
        assert topic.problems(topic.configuration()) == []


@pytest.mark.fast
async def test_a_kafka_that_is_not_there_is_out_of_reach(free_port: int) -> None:
    with pytest.raises(KafkaUnavailable, match=f"127.0.0.1:{free_port} is out of reach"):
        await missing_topics(KafkaConnection(bootstrap_servers=f"127.0.0.1:{free_port}"), ["t"])


@pytest.mark.fast
async def test_a_kafka_that_never_answers_is_out_of_reach_within_three_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(KafkaUnavailable):
            await missing_topics(KafkaConnection(bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}"), ["t"])
        assert time.monotonic() - started < 4.0


def test_the_command_prints_a_table_and_json(
    impact_in: Command, environment: pytest.MonkeyPatch, bootstrap: str, topic_prefix: str
) -> None:
    environment.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    environment.setenv("IMPACT_IN_TOPIC_PREFIX", topic_prefix)
    environment.setenv("IMPACT_IN_WORKDAY_ENABLED", "false")
    environment.setenv("IMPACT_IN_RETRY_DELAYS", "60s,1m,2h")
    first = impact_in("topics", "--partitions", "2")
    assert (first.status, first.err) == (0, "")
    assert f"{topic_prefix}deliveries.goodera.retry.2h" in first.out
    assert "workday" not in first.out
    second = impact_in("topics", "--json", "--partitions", "4")
    assert second.status == 1
    found = json.loads(second.out)
    assert found.keys() == {"items", "nextCursor", "notes"}
    assert len(found["items"]) == 3 + 2 * 4
    assert {item["state"] for item in found["items"]} == {"wrong"}
    assert {item["partitions"] for item in found["items"]} == {2}


@pytest.mark.embedded
def test_nothing_is_made_by_looking(embedded_bootstrap: str, topic_prefix: str) -> None:
    # The embedded broker makes a topic that somebody asks for by name.
    connection = KafkaConnection(bootstrap_servers=embedded_bootstrap)
    name = f"{topic_prefix}none"
    for _ in range(2):
        assert asyncio.run(missing_topics(connection, [name])) == [name]
        assert asyncio.run(partition_counts(connection, [name])) == {}
