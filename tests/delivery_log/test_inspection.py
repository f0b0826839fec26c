"""What looking at the ledger promises: one suite for the twin and for Postgres."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_log.contract import Backlog, DeliveryFilter, LedgerUnavailable, Tally
from delivery_log.cursors import read_cursor, write_cursor
from delivery_log.postgres.database import Database
from delivery_log.postgres.inspection import PostgresInspection
from tests.delivery_log.conftest import Books

EVERYTHING = DeliveryFilter()
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


async def all_pages(books: Books, where: DeliveryFilter, limit: int) -> list[UUID]:
    found: list[UUID] = []
    cursor: str | None = None
    while True:
        page = await books.inspection.deliveries(where, cursor=cursor, limit=limit)
        assert len(page.items) <= limit
        found += [row.id for row in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_pages_hold_every_delivery_once_newest_first(books: Books) -> None:
    made = [await books.pending() for _ in range(7)]
    for index, delivery in enumerate(made):  # two at a time are equally old
        await books.backend.set_row(delivery, created_at=NOON + timedelta(minutes=index // 2))
    expected = sorted(made, key=lambda delivery: (made.index(delivery) // 2, delivery), reverse=True)
    for limit in (1, 2, 3, 7, 100):
        assert await all_pages(books, EVERYTHING, limit) == expected


async def test_new_deliveries_do_not_shift_the_pages(books: Books) -> None:
    made = [await books.pending() for _ in range(4)]
    first = await books.inspection.deliveries(EVERYTHING, cursor=None, limit=2)
    for _ in range(3):
        await books.pending()
    second = await books.inspection.deliveries(EVERYTHING, cursor=first.next_cursor, limit=100)
    assert {row.id for row in first.items} | {row.id for row in second.items} == set(made)
    assert len(first.items) + len(second.items) == 4
    assert second.next_cursor is None


async def test_filters_narrow_and_combine(books: Books) -> None:
    company = uuid4()
    wanted = await books.pending("goodera", company)
    others = [await books.pending("benevity", company), await books.pending("goodera")]
    done = await books.delivered("t1", "goodera", company)
    await books.backend.set_row(wanted, created_at=NOON)
    await books.backend.set_row(others[0], error_code="RATE_LIMIT")

    async def found(**where: Any) -> set[UUID]:
        return set(await all_pages(books, DeliveryFilter(**where), 10))

    assert await found(company_id=company) == {wanted, others[0], done}
    assert await found(company_id=company, platform="goodera", status="pending") == {wanted}
    assert await found(status="delivered") == {done}
    assert await found(error_code="RATE_LIMIT") == {others[0]}
    assert await found(since=NOON, until=NOON + timedelta(microseconds=1)) == {wanted}
    assert await found(until=NOON) == set(await all_pages(books, EVERYTHING, 10)) - await found(since=NOON)
    assert await found(platform="nobody") == set()
    assert await found(error_code="a\0b") == set()


@pytest.mark.parametrize("cursor", ["", "x", "ü", "bm9uZXxvZnxvdXJz", "\0", "MjAyNi0xMS0yNHwx"])
async def test_a_cursor_that_is_none_of_ours_is_a_value_error(books: Books, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await books.inspection.deliveries(EVERYTHING, cursor=cursor, limit=10)


@pytest.mark.fast
@given(
    st.datetimes(timezones=st.just(UTC), min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),  # noqa: DTZ001
    st.uuids(),
)
def test_a_cursor_reads_back(moment: datetime, identifier: UUID) -> None:
    cursor = write_cursor(moment, identifier)
    assert read_cursor(cursor) == (moment, identifier)
    assert cursor.replace("-", "").replace("_", "").isalnum()


async def test_a_delivery_is_shown_with_its_attempts_and_statuses(books: Books, status_event: Any) -> None:
    delivery = await books.pending()
    await books.finish(
        delivery,
        await books.begin(delivery),
        outcome="unavailable",
        counted=True,
        then="later",
        http_status=503,
        error_message="Down for maintenance",
    )
    await books.backend.pass_time(10)
    await books.accept(delivery, "t1")
    await books.statuses.record_status_events(
        [status_event("t1", "rejected", 5), status_event("t1", "received", 0, event_type="delivery.retry")]
    )
    await books.statuses.link_status_events(10)
    row = await books.inspection.delivery(delivery)
    assert row is not None
    assert [(a.attempt, a.outcome, a.http_status, a.error_message, a.transaction_id) for a in row.attempts] == [
        (1, "unavailable", 503, "Down for maintenance", None),
        (2, "accepted", 200, None, "t1"),
    ]
    assert row.attempts[1].duration_ms == 12.5
    assert row.attempts[1].started_at.tzinfo is not None
    assert [(s.event_type, s.platform_status, s.error_message) for s in row.status_events] == [
        ("delivery.retry", "received", None),
        ("delivery.success", "rejected", "Not on our books"),
    ]
    assert (row.status, row.outcome, row.retries) == ("failed", "rejected", 1)
    assert row.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert row.idempotency_key is not None
    (listed,) = (await books.inspection.deliveries(EVERYTHING, cursor=None, limit=10)).items
    assert (listed.id, listed.attempts, listed.status_events) == (delivery, (), ())


async def test_a_delivery_that_is_not_there_is_none(books: Books) -> None:
    assert await books.inspection.delivery(uuid4()) is None


async def test_tallies_count_by_platform_and_state(books: Books, status_event: Any) -> None:
    assert await books.inspection.tallies() == []
    await books.pending("goodera")
    for transaction in ("t1", "t2", "t3"):
        await books.delivered(transaction)
    await books.statuses.record_status_events([status_event("t1")])
    await books.statuses.link_status_events(10)
    assert await books.inspection.tallies() == [
        Tally(platform="benevity", status="delivered", outcome="delivered", platform_status=None, count=2),
        Tally(platform="benevity", status="delivered", outcome="delivered", platform_status="confirmed", count=1),
        Tally(platform="goodera", status="pending", outcome=None, platform_status=None, count=1),
    ]


async def test_a_backlog_is_what_retries_what_nobody_confirmed_and_what_no_broker_has(
    books: Books, status_event: Any
) -> None:
    async def backlog() -> Backlog:
        return await books.inspection.backlog(confirm_within=3_600)

    assert await backlog() == Backlog(retrying={}, unconfirmed={}, unpublished_for=0.0)
    ledger = books.backend.ledger
    retrying = await books.pending("goodera")
    await books.finish(retrying, await books.begin(retrying), outcome="throttled", counted=False, then="later", delay=5)
    await ledger.confirm_published([(retrying, 2)])
    for transaction in ("confirmed", "received", "silent"):
        await books.delivered(transaction)
    events = [status_event("confirmed"), status_event("received", "received")]
    await books.statuses.record_status_events(events)
    await books.statuses.link_status_events(10)
    assert await backlog() == Backlog(retrying={"goodera": 1}, unconfirmed={}, unpublished_for=0.0)
    for transaction in ("received", "silent"):
        await books.delivered(f"new {transaction}")
    await books.backend.pass_time(3_700)
    mocked = await books.delivered("mocked")
    await books.backend.set_row(mocked, mocked=True)
    late = await books.pending()
    assert (await backlog()).unconfirmed == {"benevity": 4}
    assert (await backlog()).unpublished_for < 10
    await books.backend.pass_time(100)
    assert 100 <= (await backlog()).unpublished_for < 110
    await ledger.confirm_published([(late, 1)])
    assert (await backlog()).unpublished_for == 0.0
    dead = await books.pending()
    await books.finish(dead, await books.begin(dead), outcome="refused", counted=True, then="dead")
    await books.backend.pass_time(50)
    assert 50 <= (await backlog()).unpublished_for < 60  # its dead letter


async def test_a_ledger_that_can_write_answers_a_ping(books: Books) -> None:
    await books.inspection.ping()


async def test_a_read_only_database_is_unavailable(database_url: str) -> None:
    async with await Database.open(database_url, patience=0.1) as database:
        await database.fetch(
            "do $$ begin execute format("
            "'alter database %I set default_transaction_read_only = on', current_database()); end $$"
        )
    async with await Database.open(database_url, patience=0.1) as database:
        with pytest.raises(LedgerUnavailable, match="read-only"):
            await PostgresInspection(database).ping()
