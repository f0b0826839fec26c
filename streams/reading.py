"""How far a consumer has read, as an age: what the sweeper needs to know before it calls a record missing. And
whether it still reads at all."""

import time
from typing import Any

# Milliseconds. A topic that was deleted and made again is found by whoever reads it when it next asks for the cluster's
# metadata: after 5 minutes by default, and what waits in a retry topic would wait as long.
METADATA_MAX_AGE = 10_000

CLOCK_SLACK = 10.0
"""Seconds by which a publisher's clock may be ahead of a reader's."""

_OLDEST = 10 * 365 * 86_400.0


def bounded_age(seconds: float) -> float:
    """From 0 to ten years: a record's timestamp can be anything."""
    return min(max(seconds, 0.0), _OLDEST)


def exhausted_for(consumer: Any, partition: Any) -> float | None:
    """Seconds since a fetch last showed that nothing is left to read; None where something is, or nobody knows yet.

    From the last fetch's high watermark: the embedded broker's `end_offsets` cannot be trusted (facts/embedded.md).
    """
    highwater = consumer.highwater(partition)
    polled = consumer.last_poll_timestamp(partition)
    state = consumer._subscription.subscription.assignment.state_value(partition)
    if highwater is None or not polled or state is None or not state.has_valid_position:
        return None
    return max(time.time() - polled / 1000, 0.0) if state.position >= highwater else None


def behind(consumer: Any, partition: Any, first: int | None) -> int:
    """Records of a partition that are not done. `first`: the first of those that were read, None where all are done."""
    highwater = consumer.highwater(partition)
    state = consumer._subscription.subscription.assignment.state_value(partition)
    if highwater is None or state is None or not state.has_valid_position:
        return 0  # nothing was fetched yet
    return max(int(highwater - (state.position if first is None else first)), 0)


def ended_parts(consumer: Any) -> str | None:
    """Which of aiokafka's own tasks has ended, in a consumer that was not stopped."""
    tasks = {"fetching": consumer._fetcher._fetch_task, "coordination": consumer._coordinator._coordination_task}
    ended = [name for name, task in tasks.items() if task is not None and task.done()]
    return f"the consumer's {ended[0]} has ended" if ended else None


def knows_coordinator(consumer: Any) -> bool:
    """False while no broker answers for the group."""
    return consumer._coordinator.coordinator_id is not None


def out_of_group(consumer: Any) -> bool:
    """Whether the broker answers, and the consumer is no member all the same: for a moment at each start."""
    return knows_coordinator(consumer) and consumer._coordinator.generation < 0
