"""One role: a Faust app with a group of its own that reads one topic and hands each record on.

The four musts of facts/faust.md: acks in offset order by our tracker; no waiting for empty streams, but a drain of our
own with a bound; a poll interval that never ends a membership, and buffers that never stop the fetcher; no pausing of
partitions through Faust.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from delivery.ports import IncomingRecord
from streams.ack_tracker import AckTracker
from streams.connection import KafkaConnection
from streams.faust_transport import StreamApp
from streams.reading import CLOCK_SLACK, METADATA_MAX_AGE, behind, bounded_age, ended_parts, exhausted_for, out_of_group

# So many records are taken without letting anything else run.
_PASS_EVERY = 100
# As many as a fetch brings: each poll is a way to the consumer's thread and back, for all partitions.
_POLL_RECORDS = 10_000
IN_HAND = "records are in hand and none is finished"
"""A stall's name: one that a hold explains."""


class RoleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, and how many partitions the topic has."""

    partitions: int
    instance: str | None = None
    session_timeout: float = 30.0
    commit_interval: float = 0.5
    fetch_wait: float = 0.5
    drain: float = 20.0


class Role:
    """`accept` takes a record (and waits where there is no room); call `done` when its outcome is durable."""

    def __init__(
        self,
        *,
        group: str,
        topic: str,
        connection: KafkaConnection,
        settings: RoleSettings,
        accept: Callable[[IncomingRecord], Awaitable[None]],
        drain: Callable[[float], Awaitable[object]],
    ) -> None:
        self.group = group
        self.topic = topic
        self._settings = settings
        self._accept = accept
        self._drain = drain
        self._joined = False
        self._opened = 0
        self._done = 0
        self._accepting = False
        self._stream: Any = None
        self._idle = asyncio.Event()
        self._tracker: AckTracker[Any] = AckTracker(self._ack)
        self.app = _build_app(group, connection, settings)
        self._declare_agent()
        self.app.on_partitions_revoked.connect(self._on_revoked)
        self.app.on_partitions_assigned.connect(self._on_assigned)
        self.app.on_before_shutdown.connect(self._on_before_shutdown)

    @property
    def ready(self) -> bool:
        """Whether the group was joined."""
        return self._joined and not self.app.crashed

    async def start(self) -> None:
        await self.app.start()

    async def stop(self) -> None:
        """Stops reading, drains for a bounded time, commits."""
        await self.app.stop()

    async def crashed(self) -> BaseException | None:
        """Returns when the app has crashed, with the reason where Faust tells it."""
        await self.app._crashed.wait()
        reason: BaseException | None = self.app._crash_reason
        return reason

    def done(self, record: IncomingRecord) -> None:
        self._done += 1
        self._tracker.done(record.topic, record.partition, record.offset)
        if not self._tracker:
            self._idle.set()

    async def settled(self, seconds: float) -> None:
        """Returns once every record read is done, or the time is over."""
        if self._tracker:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)

    def progress(self) -> dict[tuple[str, int], float]:
        """(topic, partition) → age in seconds of what has been worked off. Absent: not known at the moment."""
        consumer = self._consumer()
        if consumer is None:
            return {}
        now, answer = time.time(), {}
        for partition in consumer.assignment():
            oldest = self._tracker.oldest(partition.topic, partition.partition)
            if oldest is not None:
                # By the publisher's clock, which may be ahead of ours, or anything.
                answer[partition.topic, partition.partition] = bounded_age(now - oldest + CLOCK_SLACK)
            elif self._handed_over(consumer, partition):
                age = exhausted_for(consumer, partition)
                if age is not None:
                    answer[partition.topic, partition.partition] = age
        return answer

    def lag(self) -> dict[str, int]:
        """Topic → records without an outcome, of the partitions that are ours."""
        consumer = self._consumer()
        partitions = [] if consumer is None else consumer.assignment()
        return {
            self.topic: sum(
                behind(consumer, partition, self._tracker.first(partition.topic, partition.partition))
                for partition in partitions
            )
        }

    def share(self) -> float:
        """This member's part of the topic: its partitions of all."""
        consumer = self._consumer()
        return 0.0 if consumer is None else len(consumer.assignment()) / self._settings.partitions

    def dead(self) -> str | None:
        """What of the consumer has ended although nobody stopped it."""
        thread = getattr(getattr(self.app.consumer, "_thread", None), "_thread", None)
        if thread is not None and not thread.is_alive():
            return "the consumer's thread has ended"
        consumer = self._consumer()
        return None if consumer is None else ended_parts(consumer)

    def stalls(self) -> dict[str, object]:
        """What waits at the moment, and how far it has come: see `impact_in.vitals`. What waits for room is no stall of
        the consumer's."""
        found: dict[str, object] = {}
        consumer = self._consumer()
        if consumer is None:
            return found
        if self._joined and out_of_group(consumer):
            found["out of its group"] = ()
        room = not (self._accepting or self.app.in_hand.full)
        queued = self._stream is not None and not self._stream.channel.queue.empty()
        if room and (queued or consumer._fetcher._records):
            found["records are fetched and not taken"] = self._opened
        if self._tracker:
            found[IN_HAND] = self._done
        return found

    def _consumer(self) -> Any:
        thread = getattr(self.app.consumer, "_thread", None)
        return getattr(thread, "_consumer", None)

    def _handed_over(self, consumer: Any, partition: Any) -> bool:
        """Whether all that was fetched has reached the tracker: nothing is on its way through Faust's buffers."""
        state = consumer._subscription.subscription.assignment.state_value(partition)
        if state is None or not state.has_valid_position or self._stream is None:
            return False
        return self.app.handed_over.get(partition) == state.position and bool(self._stream.channel.queue.empty())

    def _declare_agent(self) -> None:
        source = self.app.topic(
            self.topic,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            allow_empty=True,
            internal=False,
        )

        @self.app.agent(source, name=self.group)
        async def read(stream: Any) -> None:
            self._stream = stream
            queue = stream.channel.queue
            async for event in stream.noack().events():
                await self._take(event)
                # A stream hands over one record a pass of the loop, and under load a pass takes a millisecond: what
                # else its queue holds is taken at once.
                taken = 1
                while not queue.empty():
                    await self._take(queue.get_nowait())
                    taken += 1
                    if taken % _PASS_EVERY == 0:
                        await asyncio.sleep(0)

    async def _take(self, event: Any) -> None:
        message = event.message
        if message.generation_id != self.app.consumer_generation_id or not self.app.flow_control.is_active():
            return  # read before a rebalance: it comes again, to its new owner
        self._tracker.open(message.topic, message.partition, message.offset, message.timestamp, event)
        self._opened += 1
        self._accepting = True
        await self._accept(_incoming(message))
        self._accepting = False

    def _ack(self, event: Any) -> None:
        self.app.in_hand.remove(event.message.value)
        event.ack()

    async def _on_revoked(self, app: Any, revoked: Any, **_: Any) -> None:
        # The rebalance is eager: all partitions are revoked, and Faust empties its buffers.
        self.app.in_hand.clear()
        self.app.handed_over.clear()
        self._tracker.revoke((partition.topic, partition.partition) for partition in revoked)

    async def _on_assigned(self, app: Any, assigned: Any, **_: Any) -> None:
        self._joined = True

    async def _on_before_shutdown(self, app: Any, **_: Any) -> None:
        # Faust has stopped reading by now, and commits afterwards.
        await self._drain(self._settings.drain)
        await asyncio.sleep(0)


def _build_app(group: str, connection: KafkaConnection, settings: RoleSettings) -> StreamApp:
    app = StreamApp(
        group,
        **connection.for_faust(),
        processing_guarantee="at_least_once",
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=max(4096, 5 * settings.partitions * _POLL_RECORDS),
        broker_max_poll_records=_POLL_RECORDS,
        broker_max_poll_interval=1e6,
        broker_commit_interval=settings.commit_interval,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 10,
        broker_request_timeout=max(90.0, settings.session_timeout + 10),
        producer_request_timeout=30.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance,
        consumer_metadata_max_age_ms=METADATA_MAX_AGE,
        # Our own watch looks at whether records move (roles are asked for progress); these would only warn.
        stream_processing_timeout=1e6,
        broker_commit_livelock_soft_timeout=1e6,
        fetch_wait=settings.fetch_wait,
    )
    app.finalize()
    return app


def _incoming(message: Any) -> IncomingRecord:
    headers: Sequence[tuple[str, bytes]] = message.headers or ()
    return IncomingRecord(
        message.topic, message.partition, message.offset, message.timestamp, message.key, message.value, headers
    )
