"""What a process wrote itself is not decoded again; everything else is."""

import pytest
from hypothesis import given

from delivery.recent_events import RecentEvents
from schemas import Unreadable, UnreadableKind, avro, decode
from schemas.event import ImpactMetricEvent, to_avro
from tests.delivery.world import event
from tests.schemas.events import patient, valid_events

pytestmark = pytest.mark.fast


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def value_of(one: ImpactMetricEvent) -> bytes:
    return avro.encode_single_object(to_avro(one))


def test_what_is_kept_is_read_once_for_each_platform_that_is_read_here() -> None:
    recent, one = RecentEvents(["benevity", "workday"]), event()
    recent.keep(value_of(one), one, ["benevity", "workday", "goodera"])
    assert recent.read(value_of(one)) is one
    assert len(recent) == 1
    assert recent.read(value_of(one)) is one
    assert len(recent) == 0
    read = recent.read(value_of(one))
    assert read == one
    assert read is not one


def test_nothing_is_kept_for_platforms_that_others_read() -> None:
    recent, one = RecentEvents(["benevity"]), event()
    recent.keep(value_of(one), one, ["goodera"])
    assert len(recent) == 0


def test_what_another_worker_reads_is_forgotten() -> None:
    clock = Clock()
    recent, old, young = RecentEvents(["benevity"], clock=clock), event(), event()
    recent.keep(value_of(old), old, ["benevity"])
    clock.now = 11.0
    recent.keep(value_of(young), young, ["benevity"])
    assert recent.read(value_of(old)) is old
    recent.keep(value_of(old), old, ["benevity"])
    for clock.now in (22.0, 33.0):
        last = event()
        recent.keep(value_of(last), last, ["benevity"])
    assert len(recent) == 2
    assert recent.read(value_of(young)) is not young


def test_no_more_is_kept_than_memory_is_there_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delivery.recent_events._KEPT", 3)
    recent, made = RecentEvents(["benevity"]), [event() for _ in range(5)]
    for one in made:
        recent.keep(value_of(one), one, ["benevity"])
    assert len(recent) == 3
    assert [recent.read(value_of(one)) for one in made] == made


def test_bytes_that_are_no_event_are_none() -> None:
    read = RecentEvents(["benevity"]).read(b"")
    assert isinstance(read, Unreadable)
    assert read.kind is UnreadableKind.EMPTY


@patient
@given(valid_events)
def test_what_is_kept_is_what_its_bytes_say(one: ImpactMetricEvent) -> None:
    """Or a body built from it would not be the one that is built after a restart."""
    assert decode(value_of(one)) == one
