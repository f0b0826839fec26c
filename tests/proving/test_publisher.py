"""The publisher: our decoder agrees with its encoder, and its log with what an independent consumer reads."""

import asyncio
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from impact_in.ledger_check.facts import read_topic
from impact_in.operations.topics import create_topics
from proving.checker.reading import read_published
from proving.publisher.encoding import PREFIX, as_avro, as_json, content_sha256
from proving.publisher.events import Mixture, companies, intended
from schemas import ImpactMetricEvent, avro, decode
from schemas.topics import Topics
from streams.connection import KafkaConnection

MANY = Mixture(duplicates=0.2, conflicts=0.1, poison=0.1, tombstones=0.1)


@pytest.mark.fast
def test_both_encodings_are_what_the_contract_says_and_poison_is_no_event() -> None:
    assert PREFIX == avro.PREFIX
    for what in intended(3, 300, companies(3, 5), MANY, ("benevity", "workday")):
        if what.event is not None:
            found = decode(as_avro(what.event))
            assert isinstance(found, ImpactMetricEvent)
            assert found == decode(as_json(what.event))
            assert (found.program_id, str(found.company_id)) == (what.event.label, str(what.company_id))
            assert [entry.value for entry in found.metrics] == [metric.value for metric in what.event.metrics]
        elif what.raw is not None:
            assert not isinstance(decode(what.raw), ImpactMetricEvent)


@pytest.mark.fast
def test_a_seed_publishes_the_same_and_a_conflict_differs_in_content_alone() -> None:
    runs = [list(intended(5, 200, companies(5, 5), MANY, ())) for _ in range(2)]
    assert runs[0] == runs[1]
    first = {}
    for what in runs[0]:
        if what.event is not None:
            known = first.setdefault(what.event.event_id, content_sha256(what.event))
            assert (content_sha256(what.event) == known) is (what.kind != "conflict")
    assert {what.kind for what in runs[0]} == {"event", "duplicate", "conflict", "poison", "tombstone"}


async def test_the_log_agrees_with_what_an_independent_consumer_reads(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    connection, topics, log = KafkaConnection(bootstrap_servers=kafka_bootstrap), Topics(topic_prefix), tmp_path / "log"
    await create_topics(connection, topics, [], [], partitions=3)
    publisher = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proving.publisher", "--bootstrap", kafka_bootstrap, "--topic-prefix", topic_prefix,
        "--events", "300", "--companies", "7", "--log", str(log), "--poison", "0.1", "--tombstones", "0.1",
    )  # fmt: skip
    assert await asyncio.wait_for(publisher.wait(), 60) == 0
    there = {
        record.coordinates: (record.key, None if record.value is None else sha256(record.value).hexdigest())
        for record in await read_topic(connection, topics.metrics)
    }
    entries = read_published(log)
    assert there == {entry.place: (str(entry.key).encode(), entry.value_sha256) for entry in entries}
    assert len(there) == len(entries) > 300
