"""What is no event becomes one visible outcome and stops nothing, on either broker."""

import asyncio
import json
import secrets
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from impact_in.demo.check import check
from impact_in.demo.events import demo_events
from impact_in.demo.options import DemoOptions
from impact_in.demo.progress import Progress
from impact_in.demo.stage import PLATFORMS, Stage
from impact_in.ledger_check import Violation
from impact_in.ledger_check.facts import StoredRecord, read_topic
from impact_in.local_stack import Servers
from schemas import ImpactMetricEvent, encode_single_object, headers
from schemas.event import to_avro
from schemas.reading import to_json_fields
from schemas.topics import Topics
from tests.product.bad_input import DIGITS, PLANTED, Bad, bad_records
from tests.product.running import finished
from tests.servers import eventually

pytestmark = pytest.mark.timeout(200)

T = TypeVar("T")
BAD = {bad.name: bad for bad in bad_records()}
COMPRESSIONS = ("gzip", "snappy", "lz4", "zstd")
BATCH = 10
GOOD = len(BAD) + 2 + len(COMPRESSIONS) * BATCH


@dataclass
class Played:
    """What was published, and what became of it."""

    places: dict[str, Any] = field(default_factory=dict)
    """Bad record → where the broker put it, with its key."""
    dead: dict[tuple[int, int], StoredRecord] = field(default_factory=dict)
    """Partition and offset of the original → its dead letter."""
    dead_letters: int = 0
    violations: dict[str, list[Violation]] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    tombstones: list[StoredRecord] = field(default_factory=list)
    logs: str = ""
    secrets: list[str] = field(default_factory=list)
    """Of the worker and the gateway."""

    def dead_letter(self, name: str) -> StoredRecord:
        place, _ = self.places[name]
        return self.dead[place.partition, place.offset]


async def play(stage: Stage) -> Played:
    played = Played()
    events = list(demo_events(1, GOOD, stage.companies))
    good = iter(events)
    async with producer(stage, None) as plain:
        for bad in BAD.values():
            event = next(good)
            key = bad.key or str(event.company_id).encode()
            sent = await plain.send(stage.topics.metrics, bad.value, key=key)
            # On the same partition, behind it.
            await plain.send_and_wait(stage.topics.metrics, in_turn(event, len(played.places)), key=key)
            played.places[bad.name] = (await sent, key)
        event = next(good)
        await plain.send_and_wait(stage.topics.metrics, None, key=str(event.company_id).encode())
        await plain.send_and_wait(stage.topics.metrics, as_json(event), key=str(event.company_id).encode())
        await plain.send_and_wait(stage.topics.metrics, as_json(next(good)), key=None)
    for compression in COMPRESSIONS:
        async with producer(stage, compression) as compressed:
            batch = compressed.create_batch()
            for _ in range(BATCH):
                assert batch.append(value=as_json(next(good)), key=b"any", timestamp=None) is not None
            await (await compressed.send_batch(batch, stage.topics.metrics, partition=0))

    played.progress = await finished(stage, GOOD, timeout=60)

    async def all_dead_letters() -> list[StoredRecord] | None:
        found = await read_topic(stage.connection, stage.topics.metrics_dlt)
        return found if len(found) >= len(BAD) else None

    dead = await eventually(all_dead_letters, timeout=30, what=f"{len(BAD)} dead letters")
    assert dead is not None
    played.violations = await check(stage, events)
    dead = await read_topic(stage.connection, stage.topics.metrics_dlt)
    played.dead_letters = len(dead)
    played.dead = {
        (int(one.headers[headers.ORIGINAL_PARTITION]), int(one.headers[headers.ORIGINAL_OFFSET])): one for one in dead
    }
    metrics = await read_topic(stage.connection, stage.topics.metrics)
    played.tombstones = [one for one in metrics if one.value is None]
    played.secrets = [value for name, value in stage._env.items() if name.endswith(("_KEY", "_SECRET"))]
    played.logs = "".join(file.read_text() for file in stage.logs.glob("*.log"))
    return played


def producer(stage: Stage, compression: str | None) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        **stage.connection.for_aiokafka(), acks="all", compression_type=compression, max_request_size=4 * 1024 * 1024
    )


def as_json(event: ImpactMetricEvent) -> bytes:
    return json.dumps(to_json_fields(event)).encode()


def in_turn(event: ImpactMetricEvent, turn: int) -> bytes:
    """Avro, JSON, or JSON with a field that nobody knows."""
    match turn % 3:
        case 0:
            return encode_single_object(to_avro(event))
        case 1:
            return as_json(event)
        case _:
            return as_json(event)[:-1] + b', "extra": ' + DIGITS + b"}"


@pytest.fixture(
    scope="module",
    params=[pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)],
)
def played(request: pytest.FixtureRequest) -> Iterator[Played]:
    """One run for all tests: a worker and a gateway in processes of their own, and simulated platforms."""
    if request.param == "embedded":
        yield run(on_stage(None, Topics()))
        return
    kafka = request.getfixturevalue("_kafka")
    server = request.getfixturevalue("postgres_server_url")
    name = f"impact_in_test_{secrets.token_hex(6)}"
    run(execute(server, f"CREATE DATABASE {name} TEMPLATE template0"))
    servers = Servers(
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        database_url=urlsplit(server)._replace(path=f"/{name}").geturl(),
        redis_url=request.getfixturevalue("_redis_server_url"),
    )
    try:
        yield run(on_stage(servers, Topics(f"t{secrets.token_hex(3)}.")))
    finally:
        run(execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


async def on_stage(servers: Servers | None, topics: Topics) -> Played:
    options = DemoOptions(events=GOOD, faults="none")
    async with Stage(options, servers=servers, topics=topics) as stage:
        return await play(stage)


async def execute(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    # On a loop of its own, leaving the current loop alone, which is pytest-asyncio's.
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_it_becomes_one_dead_letter_with_its_bytes_its_key_and_the_reason(bad: Bad, played: Played) -> None:
    place, key = played.places[bad.name]
    dead = played.dead_letter(bad.name)
    assert dead.value == bad.value
    assert dead.key == key
    found = dead.headers
    assert found[headers.ERROR_KIND] == bad.kind
    assert found[headers.ERROR_CODE] == bad.kind.upper()
    assert found[headers.ORIGINAL_TOPIC] == place.topic
    assert found[headers.ORIGINAL_PARTITION] == str(place.partition)
    assert found[headers.ORIGINAL_OFFSET] == str(place.offset)
    assert datetime.fromisoformat(found[headers.ORIGINAL_TIMESTAMP]).utcoffset() is not None
    assert 0 < len(found[headers.ERROR_MESSAGE].encode()) <= 1024


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_the_reason_repeats_nothing_of_it(bad: Bad, played: Played) -> None:
    message = played.dead_letter(bad.name).headers[headers.ERROR_MESSAGE]
    assert PLANTED not in message
    assert "99999" not in message
    assert not any(secret in message for secret in played.secrets)


def test_nothing_else_becomes_a_dead_letter(played: Played) -> None:
    assert played.dead_letters == len(played.dead) == len(BAD)


def test_every_good_record_between_them_without_a_key_or_compressed_is_delivered(played: Played) -> None:
    assert played.progress.events == GOOD
    assert {name: count.delivered for name, count in played.progress.platforms.items()} == dict.fromkeys(
        PLATFORMS, GOOD
    )


def test_a_null_value_asks_for_nothing(played: Played) -> None:
    assert len(played.tombstones) == 1
    place = played.tombstones[0].partition, played.tombstones[0].offset
    assert place not in played.dead


def test_the_ledger_holds_and_every_offset_is_committed(played: Played) -> None:
    assert set(played.violations) == {"E1", "E2", "E3", "E5", "E9"}
    assert not any(played.violations.values()), played.violations


def test_no_log_repeats_anything_of_a_bad_record_or_a_secret(played: Played) -> None:
    assert "record.dead_lettered" in played.logs
    assert PLANTED not in played.logs
    assert len(played.secrets) >= 6
    assert not any(secret in played.logs for secret in played.secrets)
