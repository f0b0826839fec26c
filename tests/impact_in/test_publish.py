"""Publishing a file: every good event arrives as an upstream service would send it, every bad line is named."""

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from connectors.registry import REGISTRY
from delivery.ports import OutgoingRecord, PublishFailed, RecordTooLarge
from impact_in.operations.companies import read_companies
from impact_in.operations.event_files import read_events
from impact_in.operations.publish import Progress, PublishInterrupted, publish_file
from impact_in.operations.topics import create_topics
from schemas import ImpactMetricEvent, Topics, decode, encode_single_object
from schemas.avro import SCHEMA_JSON
from schemas.event import to_avro
from schemas.reading import MAX_RECORD_BYTES
from schemas.trace import valid_traceparent
from streams.connection import KafkaConnection
from tests.impact_in.conftest import Command

EXAMPLES = Path(__file__).parents[2] / "examples"
LINES = (EXAMPLES / "events.jsonl").read_bytes().splitlines()
STANDARD = {
    "volunteer_hours",
    "participants",
    "volunteers",
    "sessions",
    "integration_score",
    "language_level",
    "job_readiness",
}


def events(*lines: bytes) -> list[ImpactMetricEvent]:
    read = [decode(line) for line in lines]
    assert all(isinstance(event, ImpactMetricEvent) for event in read)
    return [event for event in read if isinstance(event, ImpactMetricEvent)]


def container(records: Sequence[dict[str, Any]], codec: str = "null", schema: Any = None) -> bytes:
    written = io.BytesIO()
    fastavro.writer(written, schema or json.loads(SCHEMA_JSON), records, codec=codec)
    return written.getvalue()


def as_records(*lines: bytes) -> list[dict[str, Any]]:
    """As somebody else's program has them: Python values with the schema's logical types."""
    plain = (date, datetime, Decimal, UUID)
    records = [msgspec.to_builtins(event, builtin_types=plain) for event in events(*lines)]
    # A tuple is a branch of a union to fastavro.
    return [record | {"platforms": record["platforms"] and list(record["platforms"])} for record in records]


# ---------------------------------------------------------------- reading


@pytest.mark.fast
def test_the_examples_are_good_varied_and_understood() -> None:
    found = events(*LINES)
    assert len(found) == 20
    assert len({event.event_id for event in found}) == 20
    metrics = {entry.metric for event in found for entry in event.metrics}
    assert metrics > STANDARD
    companies, wrong = read_companies((EXAMPLES / "companies.jsonl").read_bytes().splitlines())
    assert not wrong
    assert {event.company_id for event in found} == {entry.company_id for entry in companies}
    for name, platform in REGISTRY.items():
        understood = [event for event in found if _understands(platform, event)]
        assert understood, name


def _understands(platform: Any, event: ImpactMetricEvent) -> bool:
    return bool(platform.connector.understands(None, event))


@pytest.mark.fast
def test_a_bad_line_is_named_by_its_number_and_stops_nothing_else() -> None:
    file = b"\xef\xbb\xbf" + b"\r\n".join(
        [LINES[0], b"nonsense", b"", b"  ", b'{"event_id": 3}', b"[" * 100_000, b"x" * (MAX_RECORD_BYTES * 3), LINES[1]]
    )
    read = list(read_events(io.BytesIO(file)))
    assert [(entry.line, entry.event is not None) for entry in read] == [
        (1, True),
        (2, False),
        (5, False),
        (6, False),
        (7, False),
        (8, True),
    ]
    assert all(entry.reason for entry in read if entry.event is None)
    assert read[4].reason == f"the line has more than {MAX_RECORD_BYTES} bytes"


@pytest.mark.fast
def test_a_line_of_the_largest_size_is_read() -> None:
    line = LINES[0][:-1] + b" " * (MAX_RECORD_BYTES - len(LINES[0])) + b"}"
    assert len(line) == MAX_RECORD_BYTES
    for end in (b"", b"\n"):
        (entry,) = read_events(io.BytesIO(line + end))
        assert entry.event == events(LINES[0])[0]
    (entry,) = read_events(io.BytesIO(line[:-1] + b" }\n"))
    assert entry.event is None


@pytest.mark.fast
@pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
def test_an_avro_container_holds_the_same_events(codec: str) -> None:
    read = list(read_events(io.BytesIO(container(as_records(*LINES), codec))))
    assert [entry.event for entry in read] == events(*LINES)
    assert [entry.line for entry in read] == list(range(1, 21))


@pytest.mark.fast
def test_a_bad_record_in_a_container_is_named_by_its_number() -> None:
    records = as_records(*LINES[:3])
    records[1]["program_id"] = " "
    read = list(read_events(io.BytesIO(container(records))))
    assert [entry.event is None for entry in read] == [False, True, False]
    assert read[1].reason == "program_id must not be empty"


@pytest.mark.fast
def test_a_container_that_breaks_off_says_where() -> None:
    whole = container(as_records(*LINES[:3]))
    read = list(read_events(io.BytesIO(whole[:-40])))
    assert read[-1].event is None
    assert "cannot be read further" in read[-1].reason


@pytest.mark.fast
def test_a_container_of_something_else_is_no_event() -> None:
    schema = {"type": "record", "name": "Other", "fields": [{"name": "a", "type": "double"}]}
    (entry,) = read_events(io.BytesIO(container([{"a": float("nan")}], schema=schema)))
    assert entry.event is None


@pytest.mark.fast
def test_one_single_object_record_is_a_file_too() -> None:
    (expected,) = events(LINES[3])
    whole = encode_single_object(to_avro(expected))
    assert [entry.event for entry in read_events(io.BytesIO(whole))] == [expected]
    assert [entry.event for entry in read_events(io.BytesIO(whole[:-1]))] == [None]


@pytest.mark.fast
@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda rest: b"Obj\x01" + rest))
def test_no_bytes_make_it_raise(file: bytes) -> None:
    assert [entry for entry in read_events(io.BytesIO(file)) if entry.event is not None] == []


# ---------------------------------------------------------------- publishing


class Recorder:
    """A publisher that keeps what it gets; `refuses` and `fails_at` are counted in records."""

    def __init__(self, *, refuses: int | None = None, fails_at: int | None = None) -> None:
        self.records: list[OutgoingRecord] = []
        self._refuses = refuses
        self._fails_at = fails_at

    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        refused = []
        for record in records:
            if len(self.records) == self._fails_at:
                raise PublishFailed("the broker did not confirm (KafkaTimeoutError)")
            self.records.append(record)
            if len(self.records) == self._refuses:
                refused.append(record)
        if refused:
            raise RecordTooLarge(refused)


@pytest.mark.fast
@pytest.mark.parametrize("encoding", ["avro", "json"])
async def test_events_go_out_keyed_each_with_a_trace_of_its_own(encoding: Any) -> None:
    publisher = Recorder()
    summary = await publish_file(io.BytesIO(b"\n".join(LINES)), publisher, "t", encoding=encoding)
    assert (summary.published, summary.invalid) == (20, [])
    assert [decode(record.value) for record in publisher.records] == events(*LINES)
    assert [record.key for record in publisher.records] == [str(event.company_id).encode() for event in events(*LINES)]
    assert all(record.value.startswith(b"\xc3\x01" if encoding == "avro" else b"{") for record in publisher.records)
    traces = {valid_traceparent(dict(record.headers)["traceparent"].decode()) for record in publisher.records}
    assert len(traces - {None}) == 20


@pytest.mark.fast
async def test_what_the_broker_finds_too_large_is_named() -> None:
    file = io.BytesIO(b"\n".join([b"?", *LINES[:4]]))
    reports: list[Progress] = []
    summary = await publish_file(file, Recorder(refuses=2), "t", report=reports.append)
    assert summary.published == 3
    assert [wrong.line for wrong in summary.invalid] == [1, 3]
    assert "size" in summary.invalid[1].reason
    assert [wrong.line for report in reports for wrong in report.invalid] == [1, 3]


@pytest.mark.fast
async def test_a_broker_that_stops_confirming_ends_it_with_what_was_published() -> None:
    file = io.BytesIO(b"\n".join(LINES * 20))
    with pytest.raises(PublishInterrupted, match="200 events are published"):
        await publish_file(file, Recorder(fails_at=250), "t")


@pytest.mark.fast
async def test_a_rate_is_kept() -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    summary = await publish_file(io.BytesIO(b"\n".join(LINES)), Recorder(), "t", rate=100.0)
    assert summary.published == 20
    assert 0.19 <= loop.time() - started < 2.0


@pytest.mark.fast
async def test_a_line_from_a_pipe_is_published_before_the_next_one_comes() -> None:
    reading, writing = os.pipe()
    arrived = asyncio.Event()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as pipe:
        publishing = asyncio.create_task(publish_file(stream, Recorder(), "t", report=lambda progress: arrived.set()))
        for line in LINES[:3]:
            pipe.write(line + b"\n")
            await asyncio.wait_for(arrived.wait(), 10)
            arrived.clear()
        pipe.close()
        assert (await publishing).published == 3


# ---------------------------------------------------------------- the command, on a broker


@pytest.fixture(
    params=[pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)]
)
def broker(request: pytest.FixtureRequest, environment: pytest.MonkeyPatch, topic_prefix: str) -> KafkaConnection:
    """A broker with topics, named in the environment."""
    bootstrap = str(request.getfixturevalue(f"{request.param}_bootstrap"))
    environment.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    environment.setenv("IMPACT_IN_TOPIC_PREFIX", topic_prefix)
    connection = KafkaConnection(bootstrap_servers=bootstrap)
    asyncio.run(create_topics(connection, Topics(topic_prefix), [], [], partitions=2))
    return connection


def on_topic(connection: KafkaConnection, topic: str, count: int) -> list[Any]:
    async def read() -> list[Any]:
        consumer = AIOKafkaConsumer(**connection.for_aiokafka(), auto_offset_reset="earliest")
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, number) for number in range(2)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            return [await asyncio.wait_for(consumer.getone(), 20) for _ in range(count)]
        finally:
            await consumer.stop()

    return asyncio.run(read())


def test_the_examples_are_published(impact_in: Command, broker: KafkaConnection, topic_prefix: str) -> None:
    ended = impact_in("publish", str(EXAMPLES / "events.jsonl"))
    assert ended.status == 0
    assert ended.out == ""
    assert ended.err.startswith("published 20 events in ")
    records = on_topic(broker, f"{topic_prefix}metrics", 20)
    read = events(*(record.value for record in records))
    by_id = {event.event_id: event for event in events(*LINES)}
    assert {event.event_id: event for event in read} == by_id
    assert [record.key for record in records] == [str(event.company_id).encode() for event in read]
    assert all(valid_traceparent(dict(record.headers)["traceparent"].decode()) for record in records)


def test_bad_lines_make_the_status_1(impact_in: Command, broker: KafkaConnection, topic_prefix: str) -> None:
    file = b"\n".join([LINES[0], b"nonsense", LINES[1], b"{}"])
    plain = impact_in("publish", "-", stdin=file)
    assert (plain.status, plain.out) == (1, "")
    lines = plain.err.splitlines()
    assert lines[0].startswith("line 2: the record is no JSON")
    assert lines[1].startswith("line 4: ")
    assert lines[2].startswith("published 2 events in ")
    as_json = impact_in("publish", "-", "--json", "--encoding", "json", stdin=file)
    summary = json.loads(as_json.out)
    assert (as_json.status, as_json.err) == (1, "")
    assert summary["published"] == 2
    assert [wrong["line"] for wrong in summary["invalid"]] == [2, 4]
    assert summary["seconds"] > 0
    assert len(on_topic(broker, f"{topic_prefix}metrics", 4)) == 4


@pytest.mark.embedded
def test_a_missing_topic_is_named(
    impact_in: Command, environment: pytest.MonkeyPatch, embedded_bootstrap: str, topic_prefix: str
) -> None:
    environment.setenv("KAFKA_BOOTSTRAP_SERVERS", embedded_bootstrap)
    environment.setenv("IMPACT_IN_TOPIC_PREFIX", topic_prefix)
    for _ in range(2):  # and it is not made by asking
        ended = impact_in("publish", str(EXAMPLES / "events.jsonl"))
        assert ended.status == 1
        assert ended.err == f"impact-in: topic {topic_prefix}metrics is missing; run `impact-in topics`\n"


@pytest.mark.embedded
def test_it_ends_though_its_standard_input_does_not(
    environment: pytest.MonkeyPatch, embedded_bootstrap: str, topic_prefix: str
) -> None:
    # The broker goes away while a thread waits for the next line: nobody may wait for that thread.
    code = (
        "import asyncio\n"
        "from impact_in.cli.publishing import open_input\n"
        "from impact_in.operations import publish\n"
        "from delivery.ports import PublishFailed\n"
        "class Away:\n"
        "    async def publish(self, records):\n"
        "        raise PublishFailed('away')\n"
        "try:\n"
        "    with open_input('-') as stream:\n"
        "        asyncio.run(publish.publish_file(stream, Away(), 't'))\n"
        "except PublishFailed:\n"
        "    print('ended')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(LINES[0] + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ended\n"
        assert process.wait(20) == 0
