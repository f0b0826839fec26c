"""What every status log promises: one suite for the twin and for Postgres."""

import asyncio
import random
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery_log.contract import StatusEvent
from delivery_log.memory.statuses import judge
from delivery_log.postgres.statuses import PostgresStatusLog
from delivery_log.storable import check_storable
from tests.delivery_log.conftest import NOON, Books, memory_books
from tests.delivery_log.ledger_backends import PostgresBackend

MOVED = ("status", "outcome", "platform_status", "platform_status_contradicted", "error_code")


async def moved(books: Books, delivery: UUID) -> dict[str, Any]:
    row = await books.backend.row(delivery)
    return {name: row[name] for name in MOVED} | {"message": row.get("error_msg", row.get("error_message"))}


async def test_a_webhook_counts_once_however_often_it_comes(books: Books, status_event: Any) -> None:
    first, second = status_event("t1"), status_event("t2")
    assert await books.statuses.record_status_events([first]) == [True]
    assert await books.statuses.record_status_events([second, first, second]) == [True, False, False]
    assert await books.statuses.record_status_events([]) == []


async def test_a_confirmation_moves_its_delivery_and_is_in_its_history(books: Books, status_event: Any) -> None:
    delivery, other = await books.delivered("t1"), await books.delivered("t2")
    await books.statuses.record_status_events([status_event("t1")])
    assert await books.statuses.link_status_events(10) == 1
    assert await books.statuses.link_status_events(10) == 0
    row = await books.inspection.delivery(delivery)
    assert row is not None
    assert (row.status, row.outcome, row.platform_status) == ("delivered", "delivered", "confirmed")
    assert [status.platform_status for status in row.status_events] == ["confirmed"]
    assert (await moved(books, other))["platform_status"] is None


async def test_a_status_that_comes_before_its_delivery_is_linked_once_that_is_accepted(
    books: Books, status_event: Any
) -> None:
    await books.statuses.record_status_events([status_event("t1")])
    assert await books.statuses.link_status_events(10) == 0
    delivery = await books.pending()
    attempt = await books.begin(delivery)
    assert await books.statuses.link_status_events(10) == 0
    await books.finish(delivery, attempt, outcome="accepted", counted=True, then="delivered", transaction_id="t1")
    assert await books.statuses.link_status_events(10) == 1
    assert (await moved(books, delivery))["platform_status"] == "confirmed"


async def test_the_same_transaction_id_at_another_platform_is_another_transaction(
    books: Books, status_event: Any
) -> None:
    delivery = await books.delivered("t1", "goodera")
    await books.statuses.record_status_events([status_event("t1", platform="benevity")])
    assert await books.statuses.link_status_events(10) == 0
    assert (await moved(books, delivery))["platform_status"] is None


async def test_what_changes_nothing_is_linked_and_changes_nothing(books: Books, status_event: Any) -> None:
    delivery = await books.delivered("t1")
    await books.statuses.record_status_events([status_event("t1", None)])
    assert await books.statuses.link_status_events(10) == 1
    assert await moved(books, delivery) == {
        "status": "delivered",
        "outcome": "delivered",
        "platform_status": None,
        "platform_status_contradicted": False,
        "error_code": None,
        "message": None,
    }


@pytest.mark.parametrize(
    ("history", "status", "contradicted"),
    [
        ([("received", 0)], "received", False),
        ([("confirmed", 0), ("received", 5)], "confirmed", False),
        ([("rejected", 0), ("received", 5)], "rejected", False),
        ([("confirmed", 0), ("rejected", 5)], "rejected", True),
        ([("rejected", 0), ("confirmed", 5)], "confirmed", True),
        ([("confirmed", 5), ("rejected", 5)], "rejected", True),
    ],
)
async def test_the_later_word_of_a_platform_wins_in_any_order_of_arrival(
    books: Books, status_event: Any, history: list[tuple[str, float]], status: str, contradicted: bool
) -> None:
    for order in permutations(history):
        transaction = str(uuid4())
        delivery = await books.delivered(transaction)
        for word, minute in order:
            await books.statuses.record_status_events([status_event(transaction, word, minute)])
            assert await books.statuses.link_status_events(10) == 1
        rejected = status == "rejected"
        assert await moved(books, delivery) == {
            "status": "failed" if rejected else "delivered",
            "outcome": "rejected" if rejected else "delivered",
            "platform_status": status,
            "platform_status_contradicted": contradicted,
            "error_code": "PLATFORM_REJECTED" if rejected else None,
            "message": "Not on our books" if rejected else None,
        }


async def test_one_rejected_activity_rejects_a_workday_delivery_without_contradiction(
    books: Books, status_event: Any
) -> None:
    delivery = await books.delivered("t1", "workday")
    await books.statuses.record_status_events(
        [
            status_event("t1", "rejected", 0, platform="workday", activity_id="a"),
            status_event("t1", "confirmed", 5, platform="workday", activity_id="b"),
        ]
    )
    assert await books.statuses.link_status_events(10) == 2
    found = await moved(books, delivery)
    assert (found["outcome"], found["platform_status_contradicted"]) == ("rejected", False)

    await books.statuses.record_status_events([status_event("t1", "confirmed", 9, platform="workday", activity_id="a")])
    await books.statuses.link_status_events(10)
    found = await moved(books, delivery)
    assert (found["outcome"], found["platform_status_contradicted"]) == ("delivered", True)


async def test_a_dead_delivery_stays_dead_whatever_the_platform_says(books: Books, status_event: Any) -> None:
    delivery = await books.pending()
    attempt = await books.begin(delivery)
    await books.finish(
        delivery,
        attempt,
        outcome="refused",
        counted=True,
        then="dead",
        error_code="INVALID_METRIC",
        transaction_id="t1",
    )
    await books.statuses.record_status_events([status_event("t1")])
    assert await books.statuses.link_status_events(10) == 1
    found = await moved(books, delivery)
    assert (found["outcome"], found["platform_status"], found["error_code"]) == ("dead", "confirmed", "INVALID_METRIC")


async def test_while_a_replay_runs_late_statuses_wait(books: Books, status_event: Any) -> None:
    delivery = await books.delivered("t1")
    await books.statuses.record_status_events([status_event("t1", "rejected")])
    await books.statuses.link_status_events(10)
    await books.backend.set_row(delivery, status="pending", outcome=None)
    await books.statuses.record_status_events([status_event("t1", "confirmed", 5)])
    assert await books.statuses.link_status_events(10) == 0
    assert (await moved(books, delivery))["status"] == "pending"


async def test_only_the_current_transaction_moves_a_delivery(books: Books, status_event: Any) -> None:
    delivery = await books.delivered("t1")
    await books.statuses.record_status_events([status_event("t1", "rejected", 9)])
    await books.statuses.link_status_events(10)
    await books.backend.set_row(delivery, transaction_id="t2", status="delivered", outcome="delivered")
    await books.statuses.record_status_events([status_event("t2", "confirmed", 0)])
    assert await books.statuses.link_status_events(10) == 1
    found = await moved(books, delivery)
    assert (found["outcome"], found["platform_status_contradicted"]) == ("delivered", False)
    row = await books.inspection.delivery(delivery)
    assert row is not None
    assert [status.platform_status for status in row.status_events] == ["confirmed", "rejected"]


async def test_a_batch_status_moves_every_member(books: Books, status_event: Any) -> None:
    members = [await books.delivered("batch-1", "goodera") for _ in range(3)]
    await books.statuses.record_status_events([status_event("batch-1", platform="goodera")])
    assert await books.statuses.link_status_events(1) == 1
    assert await books.statuses.link_status_events(1) == 0
    for member in members:
        row = await books.inspection.delivery(member)
        assert row is not None
        assert (row.platform_status, len(row.status_events)) == ("confirmed", 1)


async def test_orphans_do_not_keep_others_from_being_linked(books: Books, status_event: Any) -> None:
    await books.statuses.record_status_events([status_event(f"nobody-{n}") for n in range(20)])
    deliveries = [await books.delivered(f"t{n}") for n in range(4)]
    await books.statuses.record_status_events([status_event(f"t{n}") for n in range(4)])
    linked = 0
    while one := await books.statuses.link_status_events(2):
        linked += one
    assert linked == 4
    assert {(await moved(books, delivery))["platform_status"] for delivery in deliveries} == {"confirmed"}


UNSTORABLE = [
    '{"a": "\\u0000"}',
    '{"a": "\\ud800"}',
    '{"\\udfff": 1}',
    '{"a": NaN}',
    '{"a": 1e999999}',
    "[" * 40_000,
    "[" * 100 + "]" * 100,
    '{"a": "\x00"}',
    "no json",
    "",
]


@pytest.mark.parametrize("payload", UNSTORABLE[:4] + UNSTORABLE[7:])
async def test_what_cannot_be_held_is_refused_and_nothing_of_its_call_is_stored(
    books: Books, status_event: Any, payload: str
) -> None:
    good = status_event("t1")
    with pytest.raises(ValueError, match=r"cannot hold|JSON|text"):
        await books.statuses.record_status_events([good, status_event("t2", payload=payload)])
    assert await books.statuses.record_status_events([good]) == [True]


@pytest.mark.fast
@pytest.mark.parametrize("payload", [*UNSTORABLE, '{"a": "\\u0000", "a": 1}', "1" * 5_000, "0." + "1" * 20_000])
def test_what_jsonb_may_refuse_is_told_beforehand(payload: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_storable(payload)


async def test_what_is_called_storable_is_taken_by_jsonb(real_books: Books) -> None:
    assert isinstance(real_books.backend, PostgresBackend)
    for payload in (
        '{"a": "\\ud83d\\ude00 \\\\u0000", "b": [1e1000, -1e-1000, 0.5], "b": null}',
        "9" * 1_000,
        "0." + "3" * 998,
        "[" * 31 + "]" * 31,
        ' "\u2028" ',
    ):
        check_storable(payload)
        await real_books.backend.database.fetch("select $1::text::jsonb", payload)


# ---------------------------------------------------------------- the rule over all histories and orders

_WORDS = st.sampled_from(["received", "confirmed", "rejected", None])


@st.composite
def histories(draw: st.DrawFn) -> list[StatusEvent]:
    return [
        StatusEvent(
            id=uuid4(),
            platform="workday",
            event_type="activity.updated",
            transaction_id="t",
            activity_id=draw(st.sampled_from([None, "a", "b"])),
            platform_status=draw(_WORDS),
            payload="{}",
            error_message=draw(st.sampled_from([None, "x", "y"])),
            occurred_at=NOON.replace(minute=draw(st.integers(0, 3))),
        )
        for _ in range(draw(st.integers(1, 6)))
    ]


@pytest.mark.fast
@settings(max_examples=200, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_a_status_is_a_function_of_the_history_not_of_its_order(
    history: list[StatusEvent], chance: random.Random
) -> None:
    """However webhooks arrive, however often they are linked in between, and whenever the delivery is accepted."""

    async def play(order: list[StatusEvent], links: list[bool], accepted_after: int) -> dict[str, Any]:
        books = memory_books()
        delivery = await books.pending("workday")
        for index, event in enumerate(order):
            if index == accepted_after:
                await books.accept(delivery, "t")
            await books.statuses.record_status_events([event])
            if links[index]:
                await books.statuses.link_status_events(1)
        if accepted_after >= len(order):
            await books.accept(delivery, "t")
        while await books.statuses.link_status_events(1):
            pass
        return await moved(books, delivery)

    shuffled = chance.sample(history, len(history))
    expected = asyncio.run(play(history, [False] * len(history), 0))
    links = [chance.random() < 0.5 for _ in history]
    assert asyncio.run(play(shuffled, links, chance.randint(0, len(history)))) == expected
    assert expected["platform_status"] == judge(history).status


async def test_postgres_judges_as_the_rule_does(real_books: Books) -> None:
    chance = random.Random(20261124)
    expected: dict[UUID, Any] = {}
    everything: list[StatusEvent] = []
    for number in range(60):
        history = [
            StatusEvent(
                id=UUID(int=chance.getrandbits(128)),
                platform="workday",
                event_type="activity.updated",
                transaction_id=f"t{number}",
                activity_id=chance.choice([None, "a", "b"]),
                platform_status=chance.choice(["received", "confirmed", "rejected", None]),
                payload="{}",
                error_message=chance.choice([None, "x", "y"]),
                occurred_at=NOON.replace(minute=chance.randint(0, 3)),
            )
            for _ in range(chance.randint(1, 6))
        ]
        expected[await real_books.delivered(f"t{number}", "workday")] = judge(history)
        everything += history
    chance.shuffle(everything)

    # Gateways store and link at the same time.
    async def gateway(share: list[StatusEvent]) -> None:
        for start in range(0, len(share), 5):
            await real_books.statuses.record_status_events(share[start : start + 5])
            await real_books.statuses.link_status_events(3)

    await asyncio.gather(*(gateway(everything[n::4]) for n in range(4)))
    while await real_books.statuses.link_status_events(50):
        pass
    for delivery, verdict in expected.items():
        found = await moved(real_books, delivery)
        rejected = verdict.status == "rejected"
        assert found["platform_status"] == verdict.status
        assert found["platform_status_contradicted"] == verdict.contradicted
        assert found["outcome"] == ("rejected" if rejected else "delivered")
        assert found["message"] == (verdict.error_message if rejected else None)


async def test_a_call_repeated_after_a_lost_reply_answers_alike(real_books: Books, status_event: Any) -> None:
    backend = real_books.backend
    assert isinstance(backend, PostgresBackend)
    known = status_event("t0")
    await real_books.statuses.record_status_events([known])

    class LosesTheFirstReply:
        async def fetch(self, statement: str, *args: Any) -> Any:
            await backend.database.fetch(statement, *args)
            return await backend.database.fetch(statement, *args)

    unlucky = PostgresStatusLog(LosesTheFirstReply())  # type: ignore[arg-type]  # as much of a Database as it uses
    assert await unlucky.record_status_events([known, status_event("t1")]) == [False, True]


async def test_webhooks_keep_their_trace_and_payload(real_books: Books, status_event: Any) -> None:
    assert isinstance(real_books.backend, PostgresBackend)
    await real_books.statuses.record_status_events([status_event("t1", payload='{"a": 1}')])
    rows = await real_books.backend.database.fetch("select payload, trace_id, linked_at from status_events")
    assert dict(rows[0]) == {
        "payload": {"a": 1},
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "linked_at": None,
    }
