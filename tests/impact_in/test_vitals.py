"""What tells a worker that is stuck from one that waits for a reason; and a parent that gives up on a child."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from delivery.observer import RecordSkipped, Trouble
from impact_in import processes
from impact_in.vitals import TroubleCount, Vitals
from impact_in.worker import _engine_settings

pytestmark = pytest.mark.fast


class Role:
    """A running role, as far as its vitals go."""

    name = "deliver:benevity"

    def __init__(self) -> None:
        self.waiting: dict[str, object] = {}
        self.ended: str | None = None

    def dead(self) -> str | None:
        return self.ended

    def stalls(self) -> dict[str, object]:
        return dict(self.waiting)


def vitals(role: Any) -> tuple[Vitals, TroubleCount]:
    troubles = TroubleCount()
    return Vitals([role], troubles, patience=100.0), troubles


def looks(watched: Vitals, times: int) -> str | None:
    return next((found for _ in range(times) if (found := watched.look(1.0)) is not None), None)


def test_what_waits_without_progress_is_stuck_after_a_while() -> None:
    role = Role()
    watched, _ = vitals(role)
    role.waiting = {"records are in hand": 7}
    assert looks(watched, 100) is None
    assert looks(watched, 1) == "deliver:benevity: records are in hand, for 100 s"


def test_progress_and_an_end_of_the_waiting_begin_the_count_anew() -> None:
    role = Role()
    watched, _ = vitals(role)
    for done in range(5):
        role.waiting = {"records are in hand": done}
        assert looks(watched, 99) is None
    role.waiting = {}
    assert looks(watched, 1) is None
    role.waiting = {"records are in hand": 4}
    assert looks(watched, 99) is None


def test_who_tells_of_a_server_that_is_away_is_not_stuck() -> None:
    role = Role()
    watched, troubles = vitals(role)
    role.waiting = {"records are in hand": 7}
    for _ in range(10):
        assert looks(watched, 60) is None
        troubles.notice(Trouble("begin", "Postgres is out of reach"))
    troubles.notice(RecordSkipped("benevity", None, "stale"))
    assert looks(watched, 102) is not None


def test_a_part_that_has_ended_is_told_at_once() -> None:
    role = Role()
    watched, _ = vitals(role)
    role.ended = "the consumer's thread has ended"
    assert watched.look(0.0) == "deliver:benevity: the consumer's thread has ended"


class Mortal:
    """A child that ends as soon as it is started."""

    number = 1

    def __init__(self) -> None:
        self.lives = 0

    async def start(self) -> None:
        self.lives += 1

    async def ended(self) -> int:
        return 1

    def send(self, number: int) -> None: ...


async def test_a_child_that_keeps_ending_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_FIRST_DELAY", 0.001)
    child: Any = Mortal()
    assert await processes._supervise([child], asyncio.Event(), 1.0) == 1
    assert child.lives == 5


def test_the_requests_in_flight_are_shared_among_the_processes_of_a_worker() -> None:
    settings: Any = SimpleNamespace(lease=60.0, request_timeout=30.0)
    assert [_engine_settings(settings, count).in_flight for count in (1, 2, 3)] == [100, 50, 34]
