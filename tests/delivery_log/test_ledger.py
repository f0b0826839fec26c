"""What every delivery ledger promises: one suite for the twin and for Postgres."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from delivery_log.contract import (
    AlreadyDone,
    Arrival,
    Blocked,
    Busy,
    Cancelled,
    Changed,
    Claim,
    Finished,
    Go,
    Leased,
    Mismatch,
    NotYet,
    Origin,
    Owner,
    Parked,
    Progress,
    ReadUpTo,
    Request,
    Result,
    Stale,
    Unknown,
    Unrepeatable,
    Verdict,
)
from schemas.identity import delivery_id, idempotency_key
from tests.delivery_log.conftest import Books
from tests.delivery_log.ledger_backends import Backend, MemoryBackend, postgres_backend

ME = Owner("w1-deliver-benevity-0", 5)
MY_SUCCESSOR = Owner("w1-deliver-benevity-0", 6)
ANOTHER = Owner("w2-deliver-benevity-0", 4)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(
    params=[pytest.param("memory", marks=pytest.mark.fast), pytest.param("postgres", marks=pytest.mark.servers)]
)
def ledger_url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue("database_url")


@pytest.fixture
async def backend(ledger_url: str | None) -> AsyncIterator[Backend]:
    if ledger_url is None:
        yield MemoryBackend()
        return
    async with postgres_backend(ledger_url) as real:
        yield real


def arrival(company: UUID, offset: int = 0, **changes: Any) -> Arrival:
    values: dict[str, Any] = {
        "event_id": uuid4(),
        "company_id": company,
        "content_hash": "c" * 64,
        "body": b"avro",
        "traceparent": TRACE,
        "platforms": ("benevity",),
        "origin": Origin("impact.metrics", 0, offset),
    }
    return Arrival(**(values | changes))


def claim(request: Request, **changes: Any) -> Claim:
    values: dict[str, Any] = {
        "delivery_id": request.delivery_id,
        "hop": request.hop,
        "content_hash": "c" * 64,
        "organization_id": "org",
        "generation": 0,
        "payload_hash": "p" * 64,
        "payload_sample": '{"a": "string"}',
    }
    return Claim(**(values | changes))


async def begin(
    backend: Backend, *claims: Claim, owner: Owner = ME, ordered: bool = True, **options: Any
) -> list[Verdict]:
    settings = {"lease": 60.0, "key_memory": 86_400.0} | options
    return await backend.ledger.begin(claims, owner=owner, ordered=ordered, **settings)


async def finish(backend: Backend, *results: Result, owner: Owner = ME, ordered: bool = True) -> list[Finished]:
    answers = await backend.ledger.finish(results, owner=owner, deadline=30.0, ordered=ordered)
    assert not any(isinstance(answer, Busy) for answer in answers)
    return answers  # type: ignore[return-value]


def accepted(request: Request, attempt: int = 1, **changes: Any) -> Result:
    values: dict[str, Any] = {
        "delivery_id": request.delivery_id,
        "attempt": attempt,
        "outcome": "accepted",
        "counted": True,
        "then": "delivered",
        "http_status": 200,
        "transaction_id": "tx-1",
    }
    return Result(**(values | changes))


def later(request: Request, attempt: int = 1, **changes: Any) -> Result:
    values: dict[str, Any] = {
        "delivery_id": request.delivery_id,
        "attempt": attempt,
        "outcome": "unavailable",
        "counted": True,
        "then": "later",
        "delay": 5.0,
        "http_status": 503,
        "error_code": "HTTP_503",
    }
    return Result(**(values | changes))


def dead(request: Request, attempt: int = 1, **changes: Any) -> Result:
    values: dict[str, Any] = {
        "delivery_id": request.delivery_id,
        "attempt": attempt,
        "outcome": "refused",
        "counted": True,
        "then": "dead",
        "http_status": 400,
        "error_code": "INVALID_METRIC",
    }
    return Result(**(values | changes))


async def one_delivery(backend: Backend) -> Request:
    company = uuid4()
    await backend.register(company, "benevity")
    [recorded] = await backend.ledger.record_events([arrival(company)])
    return recorded.requests[0]


async def siblings(backend: Backend, count: int) -> list[Request]:
    company = uuid4()
    await backend.register(company, "benevity")
    recorded = await backend.ledger.record_events([arrival(company, offset) for offset in range(count)])
    return [answer.requests[0] for answer in recorded]


# ------------------------------------------------------------- record_events


async def test_an_event_gets_a_delivery_for_each_platform_that_its_company_has_enabled(backend: Backend) -> None:
    company = uuid4()
    await backend.register(company, "benevity", "org-b")
    await backend.register(company, "goodera", "org-g")
    await backend.register(company, "workday", enabled=False)
    event = arrival(company, platforms=("benevity", "goodera", "workday"))
    [recorded] = await backend.ledger.record_events([event])
    assert recorded.recording == "accepted"
    assert [request.platform for request in recorded.requests] == ["benevity", "goodera"]
    assert recorded.requests[0].delivery_id == delivery_id(event.event_id, "benevity")
    assert (recorded.requests[0].hop, recorded.requests[0].body) == (1, b"avro")
    row = await backend.row(recorded.requests[1].delivery_id)
    assert (row["organization_id"], row["status"], row["outcome"], row["hop"]) == ("org-g", "pending", None, 1)


async def test_an_event_of_an_unknown_company_or_without_a_fitting_platform_is_unrouted(backend: Backend) -> None:
    company = uuid4()
    await backend.register(company, "goodera")
    unknown, unfitting = await backend.ledger.record_events(
        [arrival(uuid4()), arrival(company, platforms=("benevity",))]
    )
    assert (unknown.recording, unknown.reason, unknown.requests) == ("unrouted", "unknown_company", ())
    assert (unfitting.recording, unfitting.reason) == ("unrouted", "not_applicable")


async def test_a_record_read_again_gets_its_unfinished_requests_again_as_they_stand(backend: Backend) -> None:
    company = uuid4()
    await backend.register(company, "benevity")
    await backend.register(company, "goodera")
    event = arrival(company, platforms=("benevity", "goodera"))
    [first] = await backend.ledger.record_events([event])
    await begin(backend, claim(first.requests[0]))
    await finish(backend, accepted(first.requests[0]))
    [again] = await backend.ledger.record_events([event])
    assert again.recording == "redelivered"
    assert again.requests == (first.requests[1],)


async def test_the_same_event_elsewhere_is_a_duplicate_and_other_content_a_conflict(backend: Backend) -> None:
    company = uuid4()
    await backend.register(company, "benevity")
    event = arrival(company, 1)
    elsewhere = arrival(company, 2, event_id=event.event_id)
    other = arrival(company, 3, event_id=event.event_id, content_hash="d" * 64)
    recorded = await backend.ledger.record_events([event, elsewhere, other])
    assert [answer.recording for answer in recorded] == ["accepted", "duplicate", "conflict"]
    recorded = await backend.ledger.record_events([other, elsewhere, event])
    assert [answer.recording for answer in recorded] == ["conflict", "duplicate", "redelivered"]


async def test_of_two_concurrent_records_of_an_event_one_wins(backend: Backend) -> None:
    company = uuid4()
    await backend.register(company, "benevity")
    events = [arrival(company, offset, event_id=uuid4()) for offset in range(20)]
    copies = [arrival(company, 100 + n, event_id=event.event_id) for n, event in enumerate(events)]
    answers = await asyncio.gather(backend.ledger.record_events(events), backend.ledger.record_events(copies))
    for original, copy in zip(*answers, strict=True):
        assert sorted([original.recording, copy.recording]) == ["accepted", "duplicate"]


async def test_seq_grows_in_the_order_of_the_arrivals(backend: Backend) -> None:
    requests = await siblings(backend, 50)
    numbers = [(await backend.row(request.delivery_id))["seq"] for request in requests]
    assert numbers == sorted(numbers)


# ------------------------------------------------------------- begin


async def test_go_leases_the_row_under_a_new_attempt_number_and_its_key(backend: Backend) -> None:
    request = await one_delivery(backend)
    [go] = await begin(backend, claim(request))
    assert isinstance(go, Go)
    assert (go.attempt, go.counted, go.uncertain, go.to_deadline) == (1, 0, False, None)
    assert go.idempotency_key == idempotency_key(request.delivery_id, 0)
    row = await backend.row(request.delivery_id)
    assert (row["status"], row["lease_owner"], row["payload_hash"]) == ("pending", ME.name, "p" * 64)
    assert row["idempotency_key"] == str(go.idempotency_key)


async def test_each_reason_not_to_go_is_said(backend: Backend) -> None:
    request = await one_delivery(backend)
    nobody = claim(request, delivery_id=uuid4())
    assert await begin(backend, nobody) == [Unknown()]
    assert await begin(backend, claim(request, content_hash="x" * 64)) == [Mismatch()]
    assert await begin(backend, claim(request, hop=2)) == [Stale()]
    assert await begin(backend, claim(request, organization_id="old")) == [Changed("org", 0)]
    assert await begin(backend, claim(request, generation=1)) == [Changed("org", 0)]
    await begin(backend, claim(request))
    await finish(backend, accepted(request))
    assert await begin(backend, claim(request)) == [AlreadyDone()]


async def test_a_batch_answers_in_the_order_of_the_claims(backend: Backend) -> None:
    mine, other = await one_delivery(backend), await one_delivery(backend)
    verdicts = await begin(backend, claim(other, hop=9), claim(mine), claim(mine, delivery_id=uuid4()))
    assert verdicts[0] == Stale()
    assert isinstance(verdicts[1], Go)
    assert verdicts[2] == Unknown()


async def test_two_callers_never_both_get_go(backend: Backend) -> None:
    requests = [await one_delivery(backend) for _ in range(10)]
    answers = await asyncio.gather(
        *(begin(backend, *(claim(request) for request in requests), owner=owner) for owner in (ME, ANOTHER))
    )
    for mine, theirs in zip(*answers, strict=True):
        assert {type(mine), type(theirs)} == {Go, Leased}


async def test_a_foreign_lease_is_respected_until_it_ends_and_then_its_attempt_counts_as_unknown(
    backend: Backend,
) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    [leased] = await begin(backend, claim(request), owner=ANOTHER)
    assert isinstance(leased, Leased)
    assert 0 < leased.remaining <= 60
    await backend.pass_time(61)
    [go] = await begin(backend, claim(request), owner=ANOTHER)
    assert isinstance(go, Go)
    assert (go.attempt, go.counted, go.uncertain) == (2, 1, True)
    assert await backend.attempts(request.delivery_id) == [(1, "unknown_outcome", True)]


async def test_a_successor_takes_over_its_predecessors_lease_at_once(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    [same_process] = await begin(backend, claim(request))
    assert isinstance(same_process, Leased)
    [go] = await begin(backend, claim(request), owner=MY_SUCCESSOR)
    assert isinstance(go, Go)
    assert (go.attempt, go.uncertain) == (2, True)


async def test_released_leases_of_earlier_processes_are_over(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    assert await backend.ledger.release_leases(ME) == 0
    assert await backend.ledger.release_leases(ANOTHER) == 0
    assert await backend.ledger.release_leases(MY_SUCCESSOR) == 1
    [go] = await begin(backend, claim(request), owner=ANOTHER)
    assert isinstance(go, Go)
    assert go.uncertain


async def test_a_retry_is_not_yet_due_until_its_time(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    [finished] = await finish(backend, later(request))
    [not_yet] = await begin(backend, claim(request, hop=finished.hop))
    assert isinstance(not_yet, NotYet)
    assert 4 < not_yet.remaining <= 5
    await backend.pass_time(5)
    [go] = await begin(backend, claim(request, hop=finished.hop))
    assert isinstance(go, Go)
    assert (go.attempt, go.counted) == (2, 1)
    assert go.failing_for is not None
    assert 5 <= go.failing_for < 10
    assert go.to_deadline is not None
    assert 20 < go.to_deadline <= 25


async def test_what_came_long_before_its_time_waits_in_the_ledger_until_the_sweeper_wakes_it(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    [finished] = await finish(backend, later(request, delay=100.0))
    [not_yet] = await begin(backend, claim(request, hop=finished.hop))
    assert isinstance(not_yet, NotYet)
    await backend.pass_time(99)
    assert await sweep(backend) == []
    await backend.pass_time(2)
    assert await sweep(backend) == [(request.delivery_id, "woken", 3)]


async def test_an_unfinished_elder_blocks_only_where_order_matters(backend: Backend) -> None:
    elder, younger = await siblings(backend, 2)
    assert await begin(backend, claim(younger)) == [Blocked()]
    assert (await backend.row(younger.delivery_id))["blocked"] is True
    [go] = await begin(backend, claim(younger), ordered=False)
    assert isinstance(go, Go)
    [go] = await begin(backend, claim(elder))
    assert isinstance(go, Go)


async def test_what_may_have_had_its_effect_is_not_sent_with_other_content(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    await finish(backend, later(request, outcome="uncertain", fate_known=False))
    await backend.pass_time(6)
    verdict = await begin(backend, claim(request, hop=2, payload_hash="q" * 64))
    assert verdict == [Unrepeatable("content_changed", 1, 1)]
    [finished] = await finish(backend, dead(request, attempt=1, outcome="unknown_outcome", counted=False))
    assert (finished.applied, finished.outcome) == (True, "dead")
    assert await backend.attempts(request.delivery_id) == [(1, "uncertain", True)]


async def test_what_may_have_had_its_effect_is_not_sent_once_its_key_is_forgotten(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    await backend.pass_time(90_000)
    assert await begin(backend, claim(request)) == [Unrepeatable("key_forgotten", 1, 1)]
    assert await backend.attempts(request.delivery_id) == [(1, "unknown_outcome", True)]


# ------------------------------------------------------------- finish


async def test_an_acceptance_is_written_and_nothing_undoes_it(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    [finished] = await finish(backend, accepted(request))
    assert (finished.applied, finished.status, finished.outcome) == (True, "delivered", "delivered")
    [late] = await finish(backend, dead(request))
    assert (late.applied, late.status) == (False, "delivered")
    row = await backend.row(request.delivery_id)
    assert (row["status"], row["transaction_id"], row["lease_owner"]) == ("delivered", "tx-1", None)


async def test_a_late_acceptance_of_an_earlier_attempt_is_written(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    await begin(backend, claim(request), owner=MY_SUCCESSOR)
    [finished] = await finish(backend, accepted(request, attempt=1), owner=ME)
    assert (finished.applied, finished.status) == (True, "delivered")
    [zombie] = await finish(backend, later(request, attempt=2), owner=MY_SUCCESSOR)
    assert (zombie.applied, zombie.status) == (False, "delivered")
    assert await backend.attempts(request.delivery_id) == [(1, "unknown_outcome", True), (2, "unavailable", True)]


@pytest.mark.parametrize(
    "answer",
    [accepted, later, lambda request, **changes: later(request, outcome="throttled", counted=False, **changes)],
)
async def test_a_late_answer_leaves_the_flag_that_explains_the_request_after_it(
    books: Books, answer: Callable[..., Result]
) -> None:
    backend = books.backend
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    await backend.pass_time(61)
    await begin(backend, claim(request), owner=ANOTHER)
    late = answer(request, attempt=1, duration_ms=61_000.0, error_message="late")
    await finish(backend, late, owner=ME)
    found = await books.inspection.delivery(request.delivery_id)
    assert found is not None
    [attempt] = found.attempts
    assert (attempt.outcome, attempt.counted) == ("unknown_outcome", True)
    assert (attempt.http_status, attempt.duration_ms) == (late.http_status, 61_000.0)
    assert (attempt.error_code, attempt.transaction_id) == (late.error_code, late.transaction_id)


async def test_a_rejection_by_the_platform_is_not_undone_by_a_late_acceptance(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    await finish(backend, accepted(request))
    await backend.set_row(request.delivery_id, status="failed", outcome="rejected", platform_status="rejected")
    [late] = await finish(backend, accepted(request, transaction_id="tx-2"))
    assert (late.applied, late.outcome) == (False, "rejected")


async def test_a_new_transaction_starts_without_a_platform_status(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    await backend.set_row(request.delivery_id, transaction_id="tx-0", platform_status="confirmed")
    await finish(backend, accepted(request, transaction_id="tx-1"))
    row = await backend.row(request.delivery_id)
    assert (row["transaction_id"], row["platform_status"]) == ("tx-1", None)


async def test_a_failure_of_an_attempt_that_is_no_longer_ours_changes_no_status(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    await begin(backend, claim(request), owner=MY_SUCCESSOR)
    [finished] = await finish(backend, dead(request, attempt=1), owner=ME)
    assert (finished.applied, finished.status) == (False, "pending")
    row = await backend.row(request.delivery_id)
    assert row["lease_owner"] == ME.name
    assert row["lease_epoch"] == MY_SUCCESSOR.epoch


async def test_later_raises_the_hop_and_the_old_record_is_stale(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    [finished] = await finish(backend, later(request))
    assert (finished.applied, finished.status, finished.hop) == (True, "retrying", 2)
    assert await begin(backend, claim(request)) == [Stale()]
    row = await backend.row(request.delivery_id)
    assert (row["retries"], row["counted"], row["error_code"]) == (1, 1, "HTTP_503")


async def test_an_uncounted_failure_starts_no_deadline(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    await finish(backend, later(request, outcome="throttled", counted=False))
    row = await backend.row(request.delivery_id)
    assert (row["counted"], row["first_failed_at"], row["deadline_at"]) == (0, None, None)


async def test_the_runbooks_bulk_cancel_stops_a_retry_and_an_attempt_in_flight_keeps_its_answer(
    backend: Backend,
) -> None:
    waiting, flying = await one_delivery(backend), await one_delivery(backend)
    await begin(backend, claim(waiting), claim(flying))
    await finish(backend, later(waiting))
    await backend.set_row(waiting.delivery_id, status="failed")
    await backend.set_row(flying.delivery_id, status="failed")
    await backend.pass_time(6)
    assert await begin(backend, claim(waiting, hop=2)) == [Cancelled()]
    [failed] = await finish(backend, later(flying))
    assert (failed.applied, failed.status, failed.outcome) == (False, "failed", None)
    assert (await backend.row(flying.delivery_id))["lease_owner"] is None
    [done] = await finish(backend, accepted(flying))
    assert (done.applied, done.status) == (True, "delivered")


async def test_an_elders_end_wakes_the_blocked_in_order_with_new_hops(backend: Backend) -> None:
    elder, second, third = await siblings(backend, 3)
    await begin(backend, claim(elder))
    await finish(backend, later(elder))
    await begin(backend, claim(second), claim(third))
    await backend.pass_time(6)
    await begin(backend, claim(elder, hop=2))
    [finished] = await finish(backend, dead(elder, attempt=2))
    assert [request.delivery_id for request in finished.woken] == [second.delivery_id, third.delivery_id]
    assert [request.hop for request in finished.woken] == [2, 2]
    assert finished.woken[0].body == b"avro"
    assert await begin(backend, claim(second)) == [Stale()]
    [go] = await begin(backend, claim(finished.woken[0]))
    assert isinstance(go, Go)


async def test_a_result_for_a_row_that_is_gone_is_no_error(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    gone = accepted(request, delivery_id=uuid4())
    answers = await finish(backend, gone, accepted(request))
    assert [answer.applied for answer in answers] == [False, True]


# ------------------------------------------------------------- sweep


READ_ALL = [
    ReadUpTo(platform="benevity", delay=0.0, age=1.0),
    ReadUpTo(platform="benevity", delay=5.0, age=1.0),
]


async def sweep(backend: Backend, read_up_to: list[ReadUpTo] = READ_ALL) -> list[tuple[UUID, str, int]]:
    swept = await backend.ledger.sweep(read_up_to, ordered=["benevity"], grace=5.0, limit=100)
    return [(item.request.delivery_id, item.reason, item.request.hop) for item in swept]


async def test_a_row_whose_publication_was_never_confirmed_is_published_again(backend: Backend) -> None:
    request = await one_delivery(backend)
    assert await sweep(backend) == []
    await backend.pass_time(6)
    assert await sweep(backend) == [(request.delivery_id, "unpublished", 2)]
    assert await sweep(backend) == []
    assert await begin(backend, claim(request)) == [Stale()]


async def test_a_confirmed_row_is_left_alone_until_its_record_has_been_worked_off(backend: Backend) -> None:
    request = await one_delivery(backend)
    await backend.ledger.confirm_published([(request.delivery_id, 1)])
    await backend.pass_time(100)
    assert await sweep(backend, [ReadUpTo(platform="benevity", delay=0.0, age=200.0)]) == []
    assert await sweep(backend, [ReadUpTo(platform="goodera", delay=0.0, age=1.0)]) == []
    assert await sweep(backend) == [(request.delivery_id, "missing", 2)]


async def test_a_lease_that_is_over_is_swept_and_one_that_holds_is_not(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    await backend.pass_time(30)
    assert await sweep(backend) == []
    await backend.pass_time(31)
    assert await sweep(backend) == [(request.delivery_id, "lease_ended", 2)]
    [go] = await begin(backend, claim(request, hop=2))
    assert isinstance(go, Go)
    assert go.uncertain


async def test_a_blocked_row_is_swept_only_once_its_elder_is_gone(backend: Backend) -> None:
    elder, younger = await siblings(backend, 2)
    await begin(backend, claim(younger))
    await begin(backend, claim(elder))
    await backend.pass_time(10)
    assert await sweep(backend) == []
    await backend.set_row(elder.delivery_id, status="failed")  # an operator's UPDATE wakes nobody
    assert await sweep(backend) == [(younger.delivery_id, "woken", 2)]


async def test_a_retry_is_swept_only_when_it_is_due_and_its_topic_worked_off(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    [finished] = await finish(backend, later(request))
    await backend.ledger.confirm_published([(request.delivery_id, finished.hop)])
    await backend.pass_time(3)
    assert await sweep(backend) == []
    await backend.pass_time(3)
    assert await sweep(backend, [ReadUpTo(platform="benevity", delay=5.0, age=10.0)]) == []
    assert await sweep(backend) == [(request.delivery_id, "missing", 3)]


async def test_a_dead_letter_that_no_broker_confirmed_is_published_again(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    [finished] = await finish(backend, dead(request))
    assert (finished.outcome, finished.hop) == ("dead", 2)
    assert await sweep(backend) == []
    await backend.pass_time(6)
    assert await sweep(backend) == [(request.delivery_id, "unannounced", 3)]
    await backend.ledger.confirm_published([(request.delivery_id, 3)])
    await backend.pass_time(60)
    assert await sweep(backend) == []
    assert (await backend.row(request.delivery_id))["outcome"] == "dead"


async def test_whatever_publishes_a_row_again_knows_since_when_it_fails(backend: Backend) -> None:
    elder, younger = await siblings(backend, 2)
    await begin(backend, claim(younger), ordered=False)
    [failed] = await finish(backend, later(younger), ordered=False)
    since = (await backend.row(younger.delivery_id))["first_failed_at"]
    assert since is not None
    await backend.ledger.park([Parked(younger.delivery_id, failed.hop)])
    await begin(backend, claim(elder))
    [ended] = await finish(backend, accepted(elder))
    assert [request.first_failed_at for request in ended.woken] == [since]
    await backend.ledger.park([Parked(younger.delivery_id, ended.woken[0].hop)])
    await backend.set_row(younger.delivery_id, next_attempt_at=None)
    [swept] = await backend.ledger.sweep(READ_ALL, ordered=["benevity"], grace=5.0, limit=100)
    assert (swept.request.delivery_id, swept.request.first_failed_at) == (younger.delivery_id, since)


async def test_a_retry_in_a_topic_that_is_no_longer_configured_is_found(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    [finished] = await finish(backend, later(request, delay=600.0))
    await backend.ledger.confirm_published([(request.delivery_id, finished.hop)])
    await backend.pass_time(602)
    assert await sweep(backend) == []
    await backend.pass_time(6)
    assert await sweep(backend) == [(request.delivery_id, "missing", 3)]


async def test_of_many_companies_every_eldest_is_swept_and_nobody_younger(backend: Backend) -> None:
    elders = []
    for _ in range(12):
        requests = await siblings(backend, 3)
        elders.append(requests[0].delivery_id)
    await backend.pass_time(6)
    assert {identifier for identifier, _, _ in await sweep(backend)} == set(elders)


async def test_rows_of_an_additive_platform_are_swept_whatever_their_siblings_do(backend: Backend) -> None:
    requests = await siblings(backend, 3)
    await backend.pass_time(6)
    swept = await backend.ledger.sweep(READ_ALL, ordered=[], grace=5.0, limit=100)
    assert {item.request.delivery_id for item in swept} == {request.delivery_id for request in requests}


async def test_a_call_repeated_under_its_token_answers_alike(backend: Backend) -> None:
    elder, younger = await siblings(backend, 2)
    token = uuid4()

    async def begun() -> list[Verdict]:
        return await backend.ledger.begin(
            [claim(younger), claim(elder)], owner=ME, lease=60.0, ordered=True, key_memory=86_400.0, token=token
        )

    first, again = await begun(), await begun()
    assert [type(verdict) for verdict in first] == [Blocked, Go] == [type(verdict) for verdict in again]
    assert isinstance(again[1], Go)
    assert (again[1].attempt, again[1].uncertain) == (1, False)
    token = uuid4()
    results = [dead(elder)]
    answers = [
        await backend.ledger.finish(results, owner=ME, deadline=30.0, ordered=True, token=token) for _ in range(2)
    ]
    for [answer] in answers:
        assert isinstance(answer, Finished)
        assert (answer.applied, answer.outcome, answer.hop) == (True, "dead", 2)


async def test_texts_that_no_column_takes_cost_nobody_an_outcome(backend: Backend) -> None:
    bad, good = await one_delivery(backend), await one_delivery(backend)
    await begin(backend, claim(bad), claim(good))
    answers = await finish(backend, dead(bad, error_message="nul \0 and \ud800"), accepted(good))
    assert [answer.outcome for answer in answers] == ["dead", "delivered"]


async def test_progress_is_kept_by_partition_and_forgotten_when_nobody_renews_it(backend: Backend) -> None:
    await backend.ledger.report_progress(
        [Progress(topic="t", partition=0, age=2.0), Progress(topic="t", partition=1, age=0.0)]
    )
    progress = await backend.ledger.read_progress(["t"], within=15.0)
    assert set(progress) == {("t", 0), ("t", 1)}
    assert 2.0 <= progress["t", 0] < 4.0
    assert await backend.ledger.read_progress(["other"], within=15.0) == {}
    await backend.pass_time(20)
    assert await backend.ledger.read_progress(["t"], within=15.0) == {}


async def test_epochs_grow_and_the_identity_stays(backend: Backend) -> None:
    assert await backend.ledger.next_epoch() < await backend.ledger.next_epoch()
    assert await backend.ledger.identity() == await backend.ledger.identity()
