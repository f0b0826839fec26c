"""The topics (contract, section 2): makes what is missing, says what is wrong with what is there, deletes nothing.

A topic that exists is never changed either: its settings may be somebody's decision, and more partitions would send a
company's records to another partition in the middle of their order. What should change is said, with the command.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidReplicationFactorError, KafkaError, TopicAlreadyExistsError, for_code

from schemas.durations import format_duration
from schemas.reading import MAX_RECORD_BYTES
from schemas.topics import Topics
from streams.connection import KafkaConnection
from streams.publisher import LARGEST_RECORD

DEFAULT_PARTITIONS = 12

CLEANUP, RETENTION, LARGEST = "cleanup.policy", "retention.ms", "max.message.bytes"
_CHECKED = frozenset({CLEANUP, RETENTION, LARGEST})
_WEEK = timedelta(days=7)
_MONTH = timedelta(days=30)  # a dead letter waits for a person
_MARGIN = timedelta(hours=1)  # beyond what a record waits by design: the time that workers may be away
_MIB = 1024 * 1024
# What is too large for an event still arrives, and becomes a dead letter instead of its producer's problem.
_LARGEST_INCOMING = 4 * _MIB
# An event of the largest size with its headers.
_LARGEST_OWN = 2 * _MIB
_SMALLEST_OWN = MAX_RECORD_BYTES + 64 * 1024

_ASKING_SECONDS = 3.0
_ADMIN_SECONDS = 30.0
_VISIBLE_SECONDS = 10.0
_POLL_SECONDS = 0.1

State = Literal["present", "created", "wrong", "failed"]


class KafkaUnavailable(Exception):
    """No broker answers. One line, without secrets."""


class TopicReport(msgspec.Struct, frozen=True, kw_only=True):
    """`problems`: one sentence each, that ends with what to do."""

    topic: str
    partitions: int | None
    state: State
    problems: tuple[str, ...] = ()


class TopicsReport(msgspec.Struct, frozen=True):
    """`notes`: what could not be checked."""

    items: tuple[TopicReport, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return all(item.state in ("present", "created") for item in self.items)


class WantedTopic(msgspec.Struct, frozen=True, kw_only=True):
    """What a topic gets when it is made, and the least that one which is there must have."""

    name: str
    retention: timedelta = _WEEK
    least_retention: timedelta = _MARGIN
    largest: int = _LARGEST_OWN
    least_largest: int = _SMALLEST_OWN

    def configuration(self) -> dict[str, str]:
        return {CLEANUP: "delete", RETENTION: str(_ms(self.retention)), LARGEST: str(self.largest)}

    def problems(self, found: dict[str, str]) -> list[str]:
        """What is wrong with these settings; those that the broker does not tell are passed over."""
        wrong: list[str] = []
        cleanup, retention, largest = found.get(CLEANUP), found.get(RETENTION), found.get(LARGEST)
        if cleanup is not None and cleanup != "delete":
            wrong.append(f"{CLEANUP}={cleanup} drops records of the same company: set delete")
        if retention is not None and -1 != int(retention) < _ms(self.least_retention):
            least = format_duration(self.least_retention)
            wrong.append(f"{RETENTION}={retention} is shorter than {least}: set {_ms(self.retention)}")
        if largest is not None and int(largest) < self.least_largest:
            wrong.append(f"{LARGEST}={largest} is below {self.least_largest}: set {self.largest}")
        return wrong


def wanted_topics(topics: Topics, platforms: Sequence[str], delays: Sequence[timedelta]) -> list[WantedTopic]:
    """All topics of an installation with these platforms and distinct retry delays."""
    dead_letters = {"retention": _MONTH, "largest": LARGEST_RECORD, "least_largest": LARGEST_RECORD}
    wanted = [
        # Upstream services may have made it as they like: whatever size they allow is fine.
        WantedTopic(name=topics.metrics, largest=_LARGEST_INCOMING, least_largest=0),
        msgspec.structs.replace(WantedTopic(name=topics.metrics_dlt), **dead_letters),
        WantedTopic(name=topics.status, least_largest=0),
    ]
    for platform in platforms:
        wanted.append(WantedTopic(name=topics.deliveries(platform)))
        for delay in delays:
            least = delay + _MARGIN
            name = topics.retry(platform, delay)
            wanted.append(WantedTopic(name=name, retention=max(_WEEK, 2 * least), least_retention=least))
        wanted.append(msgspec.structs.replace(WantedTopic(name=topics.deliveries_dlt(platform)), **dead_letters))
    return wanted


async def create_topics(
    connection: KafkaConnection,
    topics: Topics,
    platforms: Sequence[str],
    delays: Sequence[timedelta],
    *,
    partitions: int | None = None,
    replication: int | None = None,
) -> TopicsReport:
    """Makes what is missing and checks the rest.

    `partitions`: of new topics, 12 where not given; where given, topics that are there must have as many.
    `replication`: of new topics, the broker's default where not given. Raises KafkaUnavailable.
    """
    wanted = wanted_topics(topics, platforms, delays)
    async with _admin(connection, _ADMIN_SECONDS) as admin:
        counts = await _partition_counts(admin)
        missing = [topic for topic in wanted if topic.name not in counts]
        made, failures = await _create(admin, missing, partitions or DEFAULT_PARTITIONS, replication)
        there = [topic.name for topic in wanted if topic.name not in failures]
        counts = await _visible(admin, there)
        found, notes = await _configurations(admin, [name for name in there if name not in made])
    return TopicsReport(
        tuple(
            TopicReport(topic=topic.name, partitions=None, state="failed", problems=(failures[topic.name],))
            if topic.name in failures
            else _report(topic, counts.get(topic.name), topic.name in made, found.get(topic.name, {}), partitions)
            for topic in wanted
        ),
        tuple(notes),
    )


async def missing_topics(connection: KafkaConnection, names: Sequence[str]) -> list[str]:
    """Those of the names that are no topic. Makes none, answers within 3 s; raises KafkaUnavailable."""
    async with _admin(connection, _ASKING_SECONDS) as admin:
        present = await _partition_counts(admin)
    return [name for name in names if name not in present]


async def partition_counts(connection: KafkaConnection, names: Sequence[str]) -> dict[str, int]:
    """Partitions of those of the names that are topics. Answers within 3 s; raises KafkaUnavailable."""
    async with _admin(connection, _ASKING_SECONDS) as admin:
        present = await _partition_counts(admin)
    return {name: present[name] for name in names if name in present}


@asynccontextmanager
async def _admin(connection: KafkaConnection, within: float) -> AsyncIterator[Any]:
    """A client for at most so many seconds; what goes wrong with the brokers in that time is KafkaUnavailable."""
    admin = AIOKafkaAdminClient(
        **connection.for_aiokafka(), client_id="impact-in-topics", request_timeout_ms=round(within * 1000)
    )
    try:
        async with asyncio.timeout(within):
            await admin.start()
            yield admin
    except (KafkaError, OSError, TimeoutError) as error:
        servers = ",".join(connection.servers())
        raise KafkaUnavailable(f"Kafka at {servers} is out of reach ({type(error).__name__})") from error
    finally:
        await admin.close()


async def _partition_counts(admin: Any) -> dict[str, int]:
    # Asked by name, a broker may make what it does not know; asked for all, it never does.
    return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


async def _create(
    admin: Any, wanted: Sequence[WantedTopic], partitions: int, replication: int | None
) -> tuple[set[str], dict[str, str]]:
    """Those that were made, and those that could not be, with the reason."""
    if not wanted:
        return set(), {}
    errors = await _try_create(admin, wanted, partitions, replication or -1)
    refused = [topic for topic in wanted if errors[topic.name][0] is InvalidReplicationFactorError]
    if refused and replication is None:
        # A broker of before KIP-464, or one that knows no default: as safe as its number of brokers allows.
        brokers = len((await admin.describe_cluster())["brokers"])
        errors |= await _try_create(admin, refused, partitions, min(3, max(1, brokers)))
    # Neither where somebody else was quicker: then it is a topic like those that were there before.
    made = {name for name, (kind, _) in errors.items() if kind.errno == 0}
    failures = {
        name: f"the broker refuses to make it ({kind.__name__}{f': {message}' if message else ''})"
        for name, (kind, message) in errors.items()
        if name not in made and kind is not TopicAlreadyExistsError
    }
    return made, failures


async def _try_create(
    admin: Any, wanted: Sequence[WantedTopic], partitions: int, replication: int
) -> dict[str, tuple[Any, str | None]]:
    new = []
    for topic in wanted:
        one = NewTopic(topic.name, partitions, 1, topic_configs=topic.configuration())
        one.replication_factor = replication  # its constructor knows no -1, which brokers take for their default
        new.append(one)
    answer = await admin.create_topics(new)
    return {name: (for_code(code), message) for name, code, message in answer.topic_errors}


async def _visible(admin: Any, names: Sequence[str]) -> dict[str, int]:
    """All partition counts once these topics are known to the broker that we ask, or after ten seconds.

    A topic is made by the controller, and the others hear of it a little later.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + _VISIBLE_SECONDS
    while True:
        counts = await _partition_counts(admin)
        if all(name in counts for name in names) or loop.time() >= give_up_at:
            return counts
        await asyncio.sleep(_POLL_SECONDS)


async def _configurations(admin: Any, names: Sequence[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Topic → setting → value, and what could not be read."""
    if not names:
        return {}, []
    # All settings of each: the embedded broker hangs up on whoever asks for some.
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        answers = await admin.describe_configs(resources)
    except (KafkaError, OSError) as error:
        return {}, [f"the broker does not tell its topics' settings ({type(error).__name__}): not checked"]
    found: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    for answer in answers:
        for code, message, _, name, entries, *_ in (tuple(resource) for resource in answer.resources):
            if code:
                notes.append(
                    f"{name}: settings not checked ({for_code(code).__name__}{f', {message}' if message else ''})"
                )
                continue
            found[name] = {entry[0]: entry[1] for entry in entries if entry[0] in _CHECKED and entry[1] is not None}
    untold = {key for key in _CHECKED for settings in found.values() if key not in settings}
    if untold:  # the embedded broker tells what was set, and no defaults
        notes.append(f"the broker does not tell {', '.join(sorted(untold))} of every topic: not checked there")
    return found, notes


def _report(
    topic: WantedTopic, count: int | None, made: bool, found: dict[str, str], partitions: int | None
) -> TopicReport:
    if made:
        return TopicReport(topic=topic.name, partitions=count, state="created")
    problems = topic.problems(found)
    if partitions is not None and count != partitions:
        problems.append(
            f"{count} partitions, not {partitions}: let it run empty before you add some, "
            "a company's records would move to another one"
        )
    state: State = "wrong" if problems else "present"
    return TopicReport(topic=topic.name, partitions=count, state=state, problems=tuple(problems))


def _ms(duration: timedelta) -> int:
    return round(duration / timedelta(milliseconds=1))
