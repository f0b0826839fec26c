"""What topics and tables say, read once and whole."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import aiokafka
import msgspec
from aiokafka import TopicPartition

from delivery_log.postgres.database import Database
from schemas.topics import INGEST_GROUP, Topics, deliver_group, retry_group
from streams.connection import KafkaConnection

Coordinates = tuple[str, int, int]


class StoredRecord(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]

    @property
    def coordinates(self) -> Coordinates:
        return self.topic, self.partition, self.offset


class GroupPosition(msgspec.Struct, frozen=True):
    group: str
    topic: str
    partition: int
    committed: int
    end: int


class KafkaFacts(msgspec.Struct, frozen=True):
    metrics: list[StoredRecord]
    metrics_dlt: list[StoredRecord]
    deliveries_dlt: dict[str, list[StoredRecord]]
    positions: list[GroupPosition]


class EventFact(msgspec.Struct, frozen=True):
    id: UUID
    content_hash: str
    disposition: str
    coordinates: Coordinates | None


class DeliveryFact(msgspec.Struct, frozen=True):
    id: UUID
    event_id: UUID
    platform: str
    status: str
    outcome: str | None
    mocked: bool
    idempotency_key: str | None
    uncertain: bool
    """An attempt of it ended without a known fate."""
    replays: int
    platform_status: str | None
    refused: bool = False
    """Its last attempt was."""


class LedgerFacts(msgspec.Struct, frozen=True):
    events: dict[UUID, EventFact]
    deliveries: list[DeliveryFact]
    status_events: int


async def read_ledger(database: Database) -> LedgerFacts:
    events = await database.fetch(
        'select id, content_hash, disposition, topic, "partition", "offset" from impact_events'
    )
    deliveries = await database.fetch(
        "select d.id, d.event_id, d.platform, d.status, d.outcome, d.mocked, d.idempotency_key, d.replays, "
        "d.platform_status, exists (select from delivery_attempts a where a.delivery_id = d.id "
        "and a.outcome in ('unknown_outcome', 'uncertain', 'unavailable')) as uncertain, "
        "coalesce((select a.outcome = 'refused' from delivery_attempts a where a.delivery_id = d.id "
        "order by a.attempt desc limit 1), false) as refused from impact_deliveries d"
    )
    statuses = await database.fetch("select count(*) as stored from status_events")
    return LedgerFacts(
        events={
            row["id"]: EventFact(
                row["id"],
                row["content_hash"],
                row["disposition"],
                None if row["topic"] is None else (row["topic"], row["partition"], row["offset"]),
            )
            for row in events
        },
        deliveries=[DeliveryFact(**dict(row)) for row in deliveries],
        status_events=statuses[0]["stored"],
    )


async def read_kafka(
    connection: KafkaConnection, topics: Topics, platforms: Sequence[str], delays: Sequence[str]
) -> KafkaFacts:
    """`delays` as in the names of the retry topics."""
    dead = {platform: await read_topic(connection, topics.deliveries_dlt(platform)) for platform in platforms}
    return KafkaFacts(
        metrics=await read_topic(connection, topics.metrics),
        metrics_dlt=await read_topic(connection, topics.metrics_dlt),
        deliveries_dlt=dead,
        positions=await read_positions(connection, topics, platforms, delays),
    )


async def read_topic(connection: KafkaConnection, topic: str) -> list[StoredRecord]:
    """Every record, of all partitions, up to the high watermark of a fetch."""
    consumer = aiokafka.AIOKafkaConsumer(
        **connection.for_aiokafka(), enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=50
    )
    await consumer.start()
    try:
        partitions = await _partitions(consumer, topic)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        records: list[StoredRecord] = []
        while not await _read_to_end(consumer, partitions):
            fetched = await consumer.getmany(timeout_ms=100)
            records.extend(_stored(record) for batch in fetched.values() for record in batch)
        return sorted(records, key=lambda record: record.coordinates)
    finally:
        await consumer.stop()


async def read_positions(
    connection: KafkaConnection, topics: Topics, platforms: Sequence[str], delays: Sequence[str]
) -> list[GroupPosition]:
    """Committed offset and end of every partition that a group reads."""
    reads = {INGEST_GROUP: [topics.metrics]}
    for platform in platforms:
        reads[deliver_group(platform)] = [topics.deliveries(platform)]
        reads[retry_group(platform)] = [f"{topics.deliveries(platform)}.retry.{delay}" for delay in delays]
    positions: list[GroupPosition] = []
    for group, names in reads.items():
        positions.extend(await _group_positions(connection, group, names))
    return positions


async def _group_positions(connection: KafkaConnection, group: str, topics: Sequence[str]) -> list[GroupPosition]:
    # Assigned by hand: it looks at the group's offsets without becoming a member.
    consumer = aiokafka.AIOKafkaConsumer(
        **connection.for_aiokafka(), group_id=group, enable_auto_commit=False, auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )  # fmt: skip
    await consumer.start()
    try:
        partitions = [partition for topic in topics for partition in await _partitions(consumer, topic)]
        consumer.assign(partitions)
        committed = {partition: await consumer.committed(partition) or 0 for partition in partitions}
        for partition in partitions:
            consumer.seek(partition, committed[partition])
        while any(consumer.highwater(partition) is None for partition in partitions):
            await consumer.getmany(timeout_ms=100)
        return [
            GroupPosition(
                group, partition.topic, partition.partition, committed[partition], consumer.highwater(partition)
            )
            for partition in partitions
        ]
    finally:
        await consumer.stop()


async def _partitions(consumer: aiokafka.AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    # aiokafka fetches a topic's metadata only once somebody is interested in it.
    consumer._client.add_topic(topic)
    while not (numbers := consumer.partitions_for_topic(topic)):
        await consumer._client.force_metadata_update()
        await asyncio.sleep(0.05)
    return [TopicPartition(topic, number) for number in sorted(numbers)]


async def _read_to_end(consumer: aiokafka.AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> bool:
    for partition in partitions:
        highwater = consumer.highwater(partition)
        if highwater is None or await consumer.position(partition) < highwater:
            return False
    return True


def _stored(record: aiokafka.ConsumerRecord) -> StoredRecord:
    headers = {name: value.decode(errors="replace") for name, value in record.headers if value is not None}
    return StoredRecord(record.topic, record.partition, record.offset, record.key, record.value, headers)
