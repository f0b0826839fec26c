"""How far a consumer has read, as an age: what the sweeper needs to know before it calls a record missing."""

import time
from typing import Any

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
