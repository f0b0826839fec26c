"""When to try again: pure, by properties."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.retry_schedule import DEFAULT_DELAYS, LONGEST_RETRY_AFTER, RetrySchedule, schedule
from tests.schemas.events import patient

pytestmark = pytest.mark.fast

schedules = st.lists(st.integers(1, 7_200).map(lambda s: timedelta(seconds=s)), min_size=1, max_size=6).map(
    lambda delays: RetrySchedule(tuple(delays))
)
counts = st.integers(0, 30)
wishes = st.none() | st.floats(0, 10_000)


@patient
@given(schedules, counts, wishes)
def test_the_topic_is_one_that_exists_and_never_shorter_than_the_counts_tier(
    plan: RetrySchedule, counted: int, after: float | None
) -> None:
    own = plan.delays[min(max(counted, 1), len(plan.delays)) - 1]
    assert plan.tier(counted, after) in plan.topics()
    assert plan.tier(counted, after) >= own


@patient
@given(schedules, counts, wishes)
def test_the_wait_is_never_shorter_than_the_topics_or_the_platforms_capped_wish(
    plan: RetrySchedule, counted: int, after: float | None
) -> None:
    wait = plan.wait(counted, after)
    assert wait >= plan.tier(counted, after).total_seconds()
    assert wait >= min(after or 0.0, LONGEST_RETRY_AFTER)
    assert wait <= max(LONGEST_RETRY_AFTER, plan.topics()[-1].total_seconds())


@patient
@given(schedules, counts, st.floats(0, 10_000))
def test_a_longer_wish_takes_the_shortest_topic_that_is_not_shorter(
    plan: RetrySchedule, counted: int, after: float
) -> None:
    own = plan.tier(counted, None)
    wish = timedelta(seconds=min(after, LONGEST_RETRY_AFTER))
    long_enough = [delay for delay in plan.topics() if delay >= max(own, wish)]
    assert plan.tier(counted, after) == (long_enough[0] if long_enough else max(own, plan.topics()[-1]))


@patient
@given(schedules, st.integers(1, 30))
def test_each_count_has_its_tier_and_the_last_is_reused(plan: RetrySchedule, counted: int) -> None:
    assert plan.tier(counted, None) == plan.delays[min(counted, len(plan.delays)) - 1]


@patient
@given(schedules, counts)
def test_an_absurd_wish_is_an_hours(plan: RetrySchedule, counted: int) -> None:
    assert plan.wait(counted, 1e12) == plan.wait(counted, LONGEST_RETRY_AFTER)


def test_equal_delays_share_a_topic() -> None:
    plan = schedule([timedelta(seconds=5), timedelta(minutes=1), timedelta(seconds=5)], timedelta(hours=1))
    assert plan.topics() == [timedelta(seconds=5), timedelta(minutes=1)]
    assert plan.deadline == 3600.0
    assert [plan.tier(counted, None).seconds for counted in (1, 2, 3, 4)] == [5, 60, 5, 5]


@pytest.mark.parametrize("delays", [[], [timedelta()], [timedelta(seconds=5), timedelta(seconds=-1)]])
def test_a_schedule_needs_a_delay_and_no_empty_one(delays: list[timedelta]) -> None:
    with pytest.raises(ValueError, match="delay"):
        schedule(delays, timedelta(hours=1))


@pytest.mark.parametrize(
    ("counted", "after", "seconds"),
    [(0, None, 5), (1, None, 5), (2, None, 60), (4, None, 3600), (9, None, 3600), (1, 3, 5), (1, 6, 60), (1, 61, 600),
     (4, 5, 3600), (1, 10**9, 3600)],
)  # fmt: skip
def test_the_default_tiers(counted: int, after: float | None, seconds: int) -> None:
    assert RetrySchedule(DEFAULT_DELAYS).tier(counted, after) == timedelta(seconds=seconds)
