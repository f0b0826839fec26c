"""Group commit over the twin: who waits for which commit, and who fails with whom."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from delivery_log.contract import LedgerUnavailable, StatusEvent
from delivery_log.memory import MemoryState
from tests.servers import eventually
from tests.webhook_gateway.conftest import GatedStatusLog
from webhook_gateway.group_commit import GroupCommit

pytestmark = pytest.mark.fast


def event(payload: str = "{}") -> StatusEvent:
    return StatusEvent(
        id=uuid4(),
        platform="plain",
        event_type="changed",
        transaction_id="t1",
        activity_id=None,
        platform_status="confirmed",
        payload=payload,
        error_message=None,
        occurred_at=datetime(2026, 11, 24, 12, tzinfo=UTC),
    )


@pytest.fixture
async def status_log() -> GatedStatusLog:
    return GatedStatusLog(MemoryState())


async def test_one_alone_goes_at_once_and_many_go_together(status_log: GatedStatusLog) -> None:
    commit = GroupCommit(status_log)
    assert await commit.record(event()) is True
    assert await asyncio.gather(*(commit.record(event()) for _ in range(300))) == [True] * 300
    assert status_log.calls == [1, 256, 44]


async def test_what_the_ledger_cannot_hold_harms_none_beside_it(status_log: GatedStatusLog) -> None:
    commit = GroupCommit(status_log)
    answers: list[Any] = await asyncio.gather(
        commit.record(event()), commit.record(event('{"a": "\\u0000"}')), commit.record(event()), return_exceptions=True
    )
    assert (answers[0], type(answers[1]), answers[2]) == (True, ValueError, True)


async def test_a_ledger_that_is_away_fails_a_batch_and_not_the_next(status_log: GatedStatusLog) -> None:
    commit = GroupCommit(status_log)
    status_log.away = True
    answers = await asyncio.gather(*(commit.record(event()) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [LedgerUnavailable] * 3
    status_log.away = False
    assert await commit.record(event()) is True


async def test_a_client_that_left_takes_nobody_with_him_and_is_stored(status_log: GatedStatusLog) -> None:
    commit = GroupCommit(status_log)
    status_log.open.clear()
    leaves, stays = asyncio.create_task(commit.record(event())), asyncio.create_task(commit.record(event()))
    await eventually(lambda: status_log.calls)
    leaves.cancel()
    status_log.open.set()
    assert await stays is True
    with pytest.raises(asyncio.CancelledError):
        await leaves
    assert len(status_log.state.status_events) == 2


async def test_closing_waits_for_what_was_handed_over(status_log: GatedStatusLog) -> None:
    commit = GroupCommit(status_log)
    await commit.close()
    answer = asyncio.create_task(commit.record(event()))
    await asyncio.sleep(0)
    await commit.close()
    assert len(status_log.state.status_events) == 1
    assert await answer is True


async def test_a_bug_in_the_ledger_is_told_to_who_waits(status_log: GatedStatusLog, monkeypatch: Any) -> None:
    async def broken(_: Any) -> list[bool]:
        raise KeyError

    monkeypatch.setattr(status_log, "record_status_events", broken)
    with pytest.raises(KeyError):
        await GroupCommit(status_log).record(event())
