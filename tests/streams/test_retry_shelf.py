"""What a retry waiter holds, without a broker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.retry_shelf import Departure, RetryShelf, Waiting

pytestmark = pytest.mark.fast


def waiting(offset: int, due: float, *, partition: str = "p", size: int = 10) -> Waiting:
    return Waiting(offset, due, due - 5.0, size, (partition, offset))


def taken(departure: Departure | None) -> list[object]:
    return [] if departure is None else departure.records


def test_nothing_is_due_early_nor_before_its_elder() -> None:
    shelf = RetryShelf(most=10, most_bytes=1_000)
    shelf.put("p", [waiting(0, 2.0), waiting(1, 1.0)])
    assert shelf.next_due() == 2.0
    assert shelf.take_due(1.999, 10) is None
    assert taken(shelf.take_due(2.0, 10)) == [("p", 0), ("p", 1)]
    assert shelf.next_due() is None


def test_it_tells_when_each_was_due_and_which_is_the_first_that_has_not_gone() -> None:
    shelf = RetryShelf(most=10, most_bytes=1_000)
    assert shelf.first("p") is None
    shelf.put("p", [waiting(7, 1.0), waiting(8, 2.0), waiting(9, 9.0)])
    departure = shelf.take_due(3.0, 10)
    assert departure is not None
    assert departure.due == [1.0, 2.0]
    assert shelf.first("p") == 7  # it may come again
    shelf.confirmed([departure])
    assert shelf.first("p") == 9


def test_the_longest_due_goes_first_whichever_partition_it_is_in() -> None:
    shelf = RetryShelf(most=10, most_bytes=1_000)
    shelf.put("p", [waiting(n, float(n)) for n in (1, 3)])
    shelf.put("q", [waiting(n, float(n), partition="q") for n in (0, 2)])
    assert taken(shelf.take_due(9.0, 3)) == [("q", 0), ("p", 1), ("q", 2)]
    assert taken(shelf.take_due(9.0, 3)) == [("p", 3)]


def test_what_is_taken_back_goes_again_before_what_comes_after_it() -> None:
    shelf = RetryShelf(most=10, most_bytes=1_000)
    shelf.put("p", [waiting(n, 0.0) for n in range(5)])
    first, _ = shelf.take_due(1.0, 2), shelf.take_due(1.0, 2)
    assert first is not None
    assert shelf.confirmed([first]) == {"p": 2}
    shelf.take_back()
    assert taken(shelf.take_due(1.0, 10)) == [("p", 2), ("p", 3), ("p", 4)]


def test_a_confirmation_from_before_a_revocation_commits_nothing() -> None:
    shelf = RetryShelf(most=10, most_bytes=1_000)
    shelf.put("p", [waiting(0, 0.0)])
    before = shelf.take_due(1.0, 1)
    assert before is not None
    shelf.forget()
    shelf.put("p", [waiting(0, 0.0)])
    assert shelf.confirmed([before]) == {}
    assert taken(shelf.take_due(1.0, 1)) == [("p", 0)]


def test_a_partition_is_full_by_count_and_all_are_by_bytes() -> None:
    shelf = RetryShelf(most=4, most_bytes=100)
    shelf.put("p", [waiting(n, 0.0) for n in range(4)])
    assert shelf.full("p")
    assert not shelf.full("q")
    departure = shelf.take_due(1.0, 2)
    assert departure is not None
    assert not shelf.roomy("p")  # what is in the air still takes its room
    shelf.confirmed([departure])
    assert shelf.roomy("p")
    shelf.put("q", [waiting(0, 0.0, size=90)])
    assert shelf.full("p")
    assert not shelf.roomy("p")
    assert shelf.roomy("r")  # holds nothing: one fetch of it is always welcome


@given(
    st.lists(st.tuples(st.sampled_from("pqr"), st.floats(0, 10)), max_size=40),
    st.lists(st.tuples(st.sampled_from(["take", "confirm", "fail"]), st.floats(0, 12), st.integers(1, 5)), max_size=40),
)
def test_all_go_in_their_order_and_a_commit_never_passes_what_has_not_gone(
    puts: list[tuple[str, float]], steps: list[tuple[str, float, int]]
) -> None:
    shelf = RetryShelf(most=100, most_bytes=10_000)
    dues: dict[str, list[float]] = {"p": [], "q": [], "r": []}
    for partition, due in puts:
        shelf.put(partition, [waiting(len(dues[partition]), due, partition=partition)])
        dues[partition].append(due)
    air: list[Departure] = []
    next_of, committed = {"p": 0, "q": 0, "r": 0}, {"p": 0, "q": 0, "r": 0}
    for what, now, count in [*steps, ("take", 99.0, 1_000), ("confirm", 0.0, 1_000)]:
        if what == "take" and (departure := shelf.take_due(now, count)) is not None:
            for partition, offset in departure.records:  # type: ignore[misc]
                assert offset == next_of[partition]
                assert dues[partition][offset] <= now
                next_of[partition] += 1
            air.append(departure)
        elif what == "confirm":
            gone, air = air[:count], air[count:]
            for partition, offset in shelf.confirmed(gone).items():
                committed[str(partition)] = offset
        elif what == "fail":
            air.clear()
            shelf.take_back()
            next_of = dict(committed)
        assert all(committed[partition] <= next_of[partition] for partition in "pqr")
    assert committed == {partition: len(found) for partition, found in dues.items()}
    assert len(shelf) == 0
    assert not shelf.full("p")
