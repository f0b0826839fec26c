"""Workers, platforms, a broker and a ledger in one loop of virtual time, and all that may befall them."""

import asyncio
import contextvars
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from connectors.contract import (
    CredentialsRejected,
    Forbidden,
    Outcome,
    Refused,
    Shipment,
    Throttled,
    Unavailable,
    Uncertain,
)
from connectors.recording import RecordingConnector, Scripted
from delivery.batch_delivery import BatchDelivery
from delivery.engine import DeliveryEngine, EngineSettings
from delivery.ingest import Ingest, IngestPipeline
from delivery.intake import Intake
from delivery.ports import IncomingRecord
from delivery.publication import Publication
from delivery.sweeper import Sweeper, SweptPlatform
from delivery_log.contract import Owner, Progress
from delivery_log.memory import MemoryState
from guards.memory import MemorySeenBefore
from tests.delivery.broker import Broker, Consumer, RetryTopics
from tests.delivery.virtual_time import VirtualLoop, utc
from tests.delivery.world import SCHEDULE, TOPICS, CheckedLedger, Watcher, gate

INGEST = "ingest"
POISON = "poison"
BATCH_SIZE = 4
IN_MEMORY = 12
"""So few that a company's share is soon full."""
_WORKER: contextvars.ContextVar["Worker | None"] = contextvars.ContextVar("worker", default=None)

MOODS: dict[str, Scripted | Outcome] = {
    "lost_answer": Scripted(Uncertain(error_code="TIMEOUT"), effect=True),
    "applied_503": Scripted(Unavailable(http_status=503), effect=True),
    "503": Unavailable(http_status=503),
    "503_after": Unavailable(http_status=503, after=30.0),
    "refused_connection": Unavailable(fate_known=True),
    "uncertain": Uncertain(),
    "429": Throttled(),
    "429_after": Throttled(after=20.0),
    "401": CredentialsRejected(),
    "403": Forbidden(),
}
HOLD = "hold"
"""The effect happens, the answer waits until it is released (or the worker's patience ends)."""


class Platform(RecordingConnector):
    """Honours keys, refuses poison, and is in a mood with some requests: by chance, of which a seed decides."""

    def __init__(self, name: str, ordering: Any, batch_size: int = 1) -> None:
        super().__init__(name, ordering, batch_size, script=self._moody, whole=self._moody_with_all)
        self.chance = random.Random(0)
        self.moodiness = 0.0
        self.first_effects: list[UUID] = []
        self.asked: Counter[UUID] = Counter()
        self._held: list[asyncio.Event] = []

    def _moody(self, shipment: Shipment) -> Outcome | Scripted:
        if shipment.event.program_name == POISON:
            return Refused(http_status=400, error_code="INVALID_METRIC")
        mood = self.chance.choice([*MOODS, HOLD, HOLD, HOLD]) if self.chance.random() < self.moodiness else ""
        if mood == HOLD:
            self._held.append(asyncio.Event())
        return MOODS.get(mood) or self._accepted(shipment)

    def _moody_with_all(self, shipments: Sequence[Shipment]) -> Outcome | Scripted | None:
        """Of a batch with poison in it either all is refused, or each is answered for itself."""
        poisoned = any(shipment.event.program_name == POISON for shipment in shipments)
        if poisoned and self.chance.random() < 0.7:
            return Refused(
                http_status=400, error_code=self.chance.choice(["DIMENSION_INVALID", "HTTP_400"]), whole=True
            )
        if poisoned or self.chance.random() >= self.moodiness:
            return None
        return MOODS[self.chance.choice([*MOODS])]

    async def send(self, shipments: Sequence[Shipment], idempotency_key: UUID) -> list[Outcome]:
        held = len(self._held)
        self.asked.update(shipment.delivery_id for shipment in shipments)
        outcomes = await super().send(shipments, idempotency_key)
        self.first_effects.extend(identifier for identifier in self.effects if identifier not in self.first_effects)
        for event in self._held[held:]:
            await event.wait()
        return outcomes

    def release(self) -> None:
        for event in self._held:
            event.set()


class Gated:
    """A port of a worker: nothing goes in or out while the worker stands still."""

    def __init__(self, port: Any, gate: asyncio.Event) -> None:
        self._port, self._gate = port, gate

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        if not asyncio.iscoroutinefunction(attribute):
            return attribute

        async def through(*positional: Any, **named: Any) -> Any:
            await self._gate.wait()
            answer = await attribute(*positional, **named)
            await self._gate.wait()
            return answer

        return through


class Worker:
    """One process with any of the roles."""

    def __init__(self, house: "House", name: str, epoch: int) -> None:
        self.house, self.name, self.epoch = house, name, epoch
        self.gate = asyncio.Event()
        self.gate.set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.consumers: dict[str, tuple[Consumer, asyncio.Task[None]]] = {}
        self._context = contextvars.copy_context()
        self._context.run(_WORKER.set, self)
        self._ledger: Any = Gated(house.ledger, self.gate)
        self._publication = Publication(Gated(house.broker, self.gate), self._ledger, house.watcher)
        self._run(self._publication.run())
        self._roles: dict[str, Callable[[Consumer], Any]] = {INGEST: self._ingest}

    def _run(self, coroutine: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coroutine, context=self._context)

    def take(self, role: str) -> None:
        topic = TOPICS.metrics if role == INGEST else TOPICS.deliveries(role)
        consumer = Consumer(self.house.broker, topic)
        body = self._ingest(consumer) if role == INGEST else self._deliver(consumer, role)
        self.consumers[role] = (consumer, self._run(body))

    def leave(self, role: str) -> None:
        """A rebalance: reads no more, and its acks have no effect; what it has begun goes on."""
        consumer, task = self.consumers.pop(role)
        consumer.closed = True
        task.cancel()

    def die(self) -> None:
        for consumer, _ in self.consumers.values():
            consumer.closed = True
        for task in list(self.tasks):
            task.cancel()

    async def _ingest(self, consumer: Consumer) -> None:
        def done(records: Sequence[IncomingRecord]) -> None:
            for record in records:
                consumer.ack(record)

        pipeline = IngestPipeline(
            Ingest(
                ledger=self._ledger,
                seen=Gated(self.house.seen, self.gate),  # type: ignore[arg-type]
                publication=self._publication,
                topics=TOPICS,
                connectors=self.house.platforms,
                observer=self.house.watcher,
            ),
            done,
            largest=3,
        )
        running = self._run(self._guarded(pipeline.run()))
        try:
            while True:
                await pipeline.put(await consumer.next())
        finally:
            running.cancel()

    async def _deliver(self, consumer: Consumer, name: str) -> None:
        platform = self.house.platforms[name]
        common: dict[str, Any] = {
            "connector": Gated(platform, self.gate),
            "gate": gate(platform, self.house.watcher),
            "ledger": self._ledger,
            "publication": self._publication,
            "topics": TOPICS,
            "schedule": SCHEDULE,
            "owner": Owner(f"{self.name}-deliver-{name}", self.epoch),
            "observer": self.house.watcher,
            "settings": EngineSettings(lease=60.0, request_timeout=30.0, key_memory=900.0),
        }
        intake: Any
        if platform.ordering == "additive":
            intake = BatchDelivery(
                **common, done=consumer.ack, on_defect=self.house.defects.append, in_memory=IN_MEMORY
            )
        else:
            intake = Intake(
                DeliveryEngine(**common),
                ordered=True,
                done=consumer.ack,
                on_defect=self.house.defects.append,
                in_memory=IN_MEMORY,
            )
        while True:
            await intake.accept(await consumer.next())

    async def _guarded(self, coroutine: Any) -> None:
        try:
            await coroutine
        except Exception as error:
            self.house.defects.append(error)


class House:
    """Made within its loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        loop.set_task_factory(_track)
        self.state = MemoryState(clock=utc)
        self.ledger = CheckedLedger(self.state)
        self.broker = Broker()
        self.seen = MemorySeenBefore()
        self.watcher = Watcher()
        self.platforms = {
            "benevity": Platform("benevity", "keyed"),
            "goodera": Platform("goodera", "additive", BATCH_SIZE),
        }
        self.roles = (INGEST, *self.platforms)
        self.defects: list[Exception] = []
        self.workers = {name: Worker(self, name, self._epoch()) for name in ("w1", "w2")}
        self.held_by = dict.fromkeys(self.roles, "w1")
        for role in self.roles:
            self.workers["w1"].take(role)
        self.waiters = {
            name: RetryTopics(
                self.broker,
                TOPICS.deliveries(name),
                {TOPICS.retry(name, delay): delay.total_seconds() for delay in SCHEDULE.topics()},
            )
            for name in self.platforms
        }
        self._swept = Publication(self.broker, self.ledger, self.watcher)
        self.sweeper = Sweeper(
            ledger=self.ledger,
            publication=self._swept,
            topics=TOPICS,
            platforms=[
                SweptPlatform(
                    name,
                    platform.ordering == "keyed",
                    TOPICS.deliveries(name),
                    {delay.total_seconds(): TOPICS.retry(name, delay) for delay in SCHEDULE.topics()},
                )
                for name, platform in self.platforms.items()
            ],
            observer=self.watcher,
        )
        for topic in self._read_topics():
            self.sweeper.know_partitions(topic, 1)

    def _epoch(self) -> int:
        self.state.epoch += 1
        return self.state.epoch

    def _read_topics(self) -> list[str]:
        return [
            topic
            for name in self.platforms
            for topic in (TOPICS.deliveries(name), *(TOPICS.retry(name, delay) for delay in SCHEDULE.topics()))
        ]

    def own_topics(self) -> list[str]:
        return [topic for topic in self._read_topics() if self.broker.topics.get(topic)]

    # ---- what befalls it

    async def restart(self, name: str) -> None:
        """SIGKILL, and a new process under the same static name."""
        self.workers[name].die()
        for _ in range(5):
            await asyncio.sleep(0)
        self.workers[name] = Worker(self, name, self._epoch())
        for role, holder in self.held_by.items():
            if holder == name:
                self.workers[name].take(role)

    def rebalance(self, role: str) -> None:
        old = self.held_by[role]
        new = "w2" if old == "w1" else "w1"
        self.workers[old].leave(role)
        self.held_by[role] = new
        self.workers[new].take(role)

    async def turn(self) -> None:
        """Progress is reported, and the sweeper has its turn."""
        now = utc().timestamp()
        progress = []
        for topic in self._read_topics():
            eldest = self.broker.unread_since(topic)
            age = 0.0 if eldest is None else now - eldest
            progress.append(Progress(topic=topic, partition=0, age=age))
        await self.ledger.report_progress(progress)
        await self._swept.flush()  # what is never told looks like a broker that is ever slower
        await self.sweeper.sweep()

    async def pass_time(self, seconds: float, *, forward_twice: bool = False) -> None:
        while seconds > 0:
            step = min(seconds, 5.0)
            await asyncio.sleep(step)
            for waiter in self.waiters.values():
                waiter.forward_due(twice=forward_twice)
            await asyncio.sleep(1e-6)
            seconds -= step

    async def come_to_rest(self) -> bool:
        """No more faults: whether everything ends."""
        for platform in self.platforms.values():
            platform.moodiness = 0.0
            platform.release()
        for worker in self.workers.values():
            worker.gate.set()
        self.ledger.failures = self.broker.refusals = 0
        for _ in range(800):
            await self.pass_time(5.0)
            await self.turn()
            await asyncio.sleep(1e-6)
            topics = [TOPICS.metrics, *self._read_topics()]
            if not any(row.unfinished for row in self.state.deliveries.values()) and all(
                self.broker.committed.get(topic, 0) == len(self.broker.topics.get(topic, [])) for topic in topics
            ):
                return True
        return False


def _track(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    worker = _WORKER.get() if context is None else context.get(_WORKER)
    if worker is not None:
        worker.tasks.add(task)
        task.add_done_callback(worker.tasks.discard)
    return task
