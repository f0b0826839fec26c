"""When to try again: attempt count and the platform's wish in, a retry topic's delay out. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import timedelta

import msgspec

DEFAULT_DELAYS = (timedelta(seconds=5), timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1))
LONGEST_RETRY_AFTER = 3600.0


class RetrySchedule(msgspec.Struct, frozen=True):
    """`delays`: one tier for each counted attempt, the last reused; equal delays share a topic. `deadline`: seconds."""

    delays: tuple[timedelta, ...] = DEFAULT_DELAYS
    deadline: float = 24 * 3600.0

    def topics(self) -> list[timedelta]:
        """The distinct delays, shortest first: one retry topic each."""
        return sorted(set(self.delays))

    def tier(self, counted: int, after: float | None) -> timedelta:
        """The retry topic for a delivery with so many counted attempts.

        Where the platform asked for a longer wait (`after`, seconds, capped at an hour): the shortest topic that is
        not shorter, or the longest there is. Never a shorter one than the count's.
        """
        own = self.delays[min(max(counted - 1, 0), len(self.delays) - 1)]
        if after is None or after <= own.total_seconds():
            return own
        topics = self.topics()
        wish = timedelta(seconds=min(after, LONGEST_RETRY_AFTER))
        return max(own, topics[min(bisect_left(topics, wish), len(topics) - 1)])

    def topic_for(self, wait: float) -> timedelta:
        """The shortest retry topic that is not shorter than what `wait` answered (seconds), or the longest there is."""
        topics = self.topics()
        return topics[min(bisect_left(topics, timedelta(seconds=wait)), len(topics) - 1)]

    def wait(self, counted: int, after: float | None) -> float:
        """Seconds until the next attempt: the tier's delay, or the platform's wish where no topic is as long."""
        return max(self.tier(counted, after).total_seconds(), min(after or 0.0, LONGEST_RETRY_AFTER))


def schedule(delays: Sequence[timedelta], deadline: timedelta) -> RetrySchedule:
    """Raises ValueError where there is no delay, or one of nothing."""
    if not delays or any(delay <= timedelta() for delay in delays):
        raise ValueError("at least one delay, each longer than nothing")
    return RetrySchedule(tuple(delays), deadline.total_seconds())
