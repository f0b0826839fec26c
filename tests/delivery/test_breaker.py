"""The breaker tells a sick platform from a sick company."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.breaker import Breaker

pytestmark = pytest.mark.fast


def sick(breaker: Breaker, *organizations: str, now: float = 0.0) -> None:
    for organization in organizations:
        breaker.failed(organization, now)


def test_one_failing_company_among_others_opens_nothing() -> None:
    breaker = Breaker()
    for second in range(100):
        breaker.failed("sick", float(second))
        breaker.answered("well", float(second))
        assert breaker.state(float(second)) == "closed"
        assert breaker.admit(float(second)) == 0.0


def test_more_than_half_of_the_companies_with_only_failures_open_it() -> None:
    breaker = Breaker()
    breaker.answered("a", 0.0)
    breaker.answered("b", 0.0)
    sick(breaker, "c", "d")
    assert breaker.state(0.0) == "closed"  # two of four are no more than half
    sick(breaker, "e")
    assert breaker.state(0.0) == "open"


def test_one_answer_within_the_window_speaks_for_a_company() -> None:
    breaker = Breaker()
    breaker.answered("a", 0.0)
    sick(breaker, "a", "b", now=1.0)
    assert breaker.state(1.0) == "closed"
    sick(breaker, "a", "b", now=31.0)  # the answer has left the window
    assert breaker.state(31.0) == "open"


def test_where_only_one_was_tried_five_failures_running_open_it() -> None:
    breaker = Breaker()
    sick(breaker, "a", "a", "a", "a")
    breaker.answered("a", 0.0)
    sick(breaker, "a", "a", "a", "a")
    assert breaker.state(0.0) == "closed"
    sick(breaker, "a", now=31.0)
    assert breaker.state(31.0) == "open"


def test_probes_go_one_at_a_time_after_waits_that_double_to_a_minute() -> None:
    breaker, now = Breaker(), 0.0
    sick(breaker, "a", "b")
    for wait in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
        assert breaker.admit(now) == pytest.approx(wait)
        now += wait
        assert breaker.state(now) == "half_open"
        assert breaker.admit(now) == 0.0
        assert breaker.admit(now) > 0.0  # a second one waits for the first
        breaker.failed("a", now)


def test_a_probe_that_is_answered_closes_it_and_the_waits_begin_anew() -> None:
    breaker = Breaker()
    sick(breaker, "a", "b")
    assert breaker.admit(1.0) == 0.0
    breaker.failed("a", 1.0)
    assert breaker.admit(3.0) == 0.0
    breaker.answered("a", 3.0)
    assert breaker.state(3.0) == "closed"
    sick(breaker, "c", "d", now=4.0)
    assert breaker.admit(4.0) == pytest.approx(1.0)


def test_a_probe_that_was_not_sent_leaves_its_place() -> None:
    breaker = Breaker()
    sick(breaker, "a", "b")
    assert breaker.admit(1.0) == 0.0
    breaker.released()
    assert breaker.admit(1.0) == 0.0


def test_what_was_in_the_air_when_it_opened_says_nothing_new() -> None:
    breaker = Breaker()
    sick(breaker, "a", "b")
    sick(breaker, "c", "d", "e", now=0.5)
    assert breaker.admit(0.5) == pytest.approx(0.5)
    breaker.answered("f", 0.6)  # no probe's answer: it was sent before
    assert breaker.state(0.6) == "open"


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.floats(0, 5)), max_size=60))
def test_an_open_breaker_admits_at_most_one_at_a_time(steps: list[tuple[str, bool, float]]) -> None:
    breaker, now, probing = Breaker(), 0.0, False
    for organization, fails, pause in steps:
        now += pause
        if breaker.state(now) != "closed" and breaker.admit(now) == 0.0:
            assert not probing
            probing = True
        (breaker.failed if fails else breaker.answered)(organization, now)
        probing = False
