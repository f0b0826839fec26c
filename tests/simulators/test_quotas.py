"""The platforms' own limits, in sliding windows (contract section 4)."""

import random

import pytest

from impact_in.simulators.quotas import Limit, SlidingWindow
from tests.simulators import bodies
from tests.simulators.conftest import Start

pytestmark = pytest.mark.fast


async def test_benevity_counts_each_organization(start: Start) -> None:
    simulated = (await start("--platform", "benevity", "--quotas", "real"))["benevity"]
    for _ in range(100):
        assert (await simulated.post(bodies.BENEVITY, bodies.benevity("org-1"))).status == 200
    answer = await simulated.post(bodies.BENEVITY, bodies.benevity("org-1"))
    assert (answer.status, answer.json["errorCode"]) == (429, "RATE_LIMIT")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert (await simulated.post(bodies.BENEVITY, bodies.benevity("org-2"))).status == 200
    found = await simulated.received()
    assert (found["quotaExceeded"], found["effects"]) == (1, 101)


async def test_workday_counts_the_account(start: Start) -> None:
    simulated = (await start("--platform", "workday", "--quotas", "real"))["workday"]
    statuses = [(await simulated.post(bodies.WORKDAY, bodies.workday(f"org-{number}"))).status for number in range(11)]
    assert statuses == [200] * 10 + [429]


async def test_goodera_counts_a_batch_as_one_request(start: Start) -> None:
    simulated = (await start("--platform", "goodera", "--quotas", "real"))["goodera"]
    batch = {"records": [bodies.goodera()] * 2}
    statuses = [(await simulated.post(bodies.GOODERA_BATCH, batch)).status for _ in range(101)]
    assert statuses == [200] * 100 + [429]


def test_no_window_holds_more_than_the_limit() -> None:
    now = 0.0
    window = SlidingWindow((Limit(2, 10), Limit(3, 100)), clock=lambda: now)
    assert [window.wait_for("a"), window.wait_for("a"), window.wait_for("b")] == [None, None, None]
    assert window.wait_for("a") == 10
    now = 9.5
    assert window.wait_for("a") == 1
    now = 10.0
    assert window.wait_for("a") is None
    now = 25.0
    assert window.wait_for("a") == 75  # the longer window
    now = 100.0
    assert window.wait_for("a") is None


def test_a_request_is_refused_only_where_a_window_is_full() -> None:
    now, limits, granted = 0.0, (Limit(2, 10), Limit(5, 60)), list[float]()
    window, chance = SlidingWindow(limits, clock=lambda: now), random.Random(1)
    for _ in range(2000):
        now += chance.choice((0.0, 1.0, 4.0, 15.0))
        fits = all(sum(now - limit.seconds < at for at in granted) < limit.requests for limit in limits)
        wait = window.wait_for("a")
        assert (wait is None) is fits
        if wait is None:
            granted.append(now)
