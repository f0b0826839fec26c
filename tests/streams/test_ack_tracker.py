"""Acks in offset order, whatever order the work ends in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.ack_tracker import AckTracker

pytestmark = pytest.mark.fast


def opened(offsets: list[int], partition: int = 0) -> tuple[AckTracker[int], list[int]]:
    acked: list[int] = []
    tracker: AckTracker[int] = AckTracker(acked.append)
    for offset in offsets:
        tracker.open("t", partition, offset, float(offset), offset)
    return tracker, acked


def test_a_message_is_acked_only_after_all_before_it() -> None:
    tracker, acked = opened([5, 6, 7])
    tracker.done("t", 0, 6)
    tracker.done("t", 0, 7)
    assert acked == []
    tracker.done("t", 0, 5)
    assert acked == [5, 6, 7]
    assert len(tracker) == 0


def test_the_first_that_is_not_acked_is_known() -> None:
    tracker, _ = opened([5, 6, 7])
    tracker.done("t", 0, 6)
    assert (tracker.first("t", 0), tracker.first("t", 1)) == (5, None)
    tracker.done("t", 0, 5)
    assert tracker.first("t", 0) == 7
    tracker.done("t", 0, 7)
    assert tracker.first("t", 0) is None


def test_partitions_do_not_wait_for_each_other() -> None:
    acked: list[tuple[int, int]] = []
    tracker: AckTracker[tuple[int, int]] = AckTracker(acked.append)
    for partition in (0, 1):
        for offset in (0, 1):
            tracker.open("t", partition, offset, 0.0, (partition, offset))
    tracker.done("t", 1, 0)
    tracker.done("t", 0, 1)
    assert acked == [(1, 0)]


def test_a_revoked_partition_acks_nothing_any_more() -> None:
    tracker, acked = opened([0, 1])
    tracker.revoke([("t", 0), ("t", 9)])
    tracker.done("t", 0, 0)
    assert acked == []
    assert len(tracker) == 0
    tracker.open("t", 0, 0, 0.0, 100)
    tracker.done("t", 0, 0)
    assert acked == [100]


def test_done_twice_or_of_a_stranger_is_nothing() -> None:
    tracker, acked = opened([0])
    tracker.done("t", 0, 7)
    tracker.done("other", 0, 0)
    tracker.done("t", 0, 0)
    tracker.done("t", 0, 0)
    assert acked == [0]


def test_an_offset_opened_twice_is_acked_once_and_holds_nobody_up() -> None:
    tracker, acked = opened([0, 1, 1, 2])
    for offset in (0, 1, 2):
        tracker.done("t", 0, offset)
    assert acked == [0, 1, 2]


def test_the_oldest_record_still_to_come_is_known() -> None:
    tracker, _ = opened([3, 4])
    assert tracker.oldest("t", 0) == 3.0
    tracker.done("t", 0, 4)
    assert tracker.oldest("t", 0) == 3.0
    tracker.done("t", 0, 3)
    assert tracker.oldest("t", 0) is None


@given(
    st.lists(st.integers(0, 50), unique=True, min_size=1)
    .map(sorted)
    .flatmap(lambda o: st.tuples(st.just(o), st.permutations(o)))
)
def test_any_order_of_work_acks_in_the_order_of_offsets(offsets_and_order: tuple[list[int], list[int]]) -> None:
    offsets, order = offsets_and_order
    tracker, acked = opened(offsets)
    finished: set[int] = set()
    for offset in order:
        tracker.done("t", 0, offset)
        finished.add(offset)
        expected = []
        for candidate in offsets:
            if candidate not in finished:
                break
            expected.append(candidate)
        assert acked == expected
    assert acked == offsets
