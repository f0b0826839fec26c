"""Sealed batches: one suite for the twin and for Postgres."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from delivery_log.contract import (
    BatchVerdict,
    Busy,
    Claim,
    CompanyPlatform,
    Dissolved,
    Finished,
    Go,
    Leased,
    Limited,
    NotYet,
    Owner,
    Parked,
    Request,
    Resend,
    Result,
    Sealed,
    SealedClaim,
    Stale,
    Unrepeatable,
    Verdict,
)
from delivery_log.postgres.companies import PostgresCompanyRegistry
from schemas.identity import batch_key, idempotency_key
from tests.delivery_log.ledger_backends import Backend, MemoryBackend, PostgresBackend, postgres_backend
from tests.delivery_log.test_ledger import (
    ANOTHER,
    ME,
    MY_SUCCESSOR,
    READ_ALL,
    accepted,
    arrival,
    begin,
    claim,
    dead,
    finish,
    later,
    siblings,
)

BATCH = UUID(int=77)
HASH = "p" * 64


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


@pytest.fixture
async def real(database_url: str) -> AsyncIterator[PostgresBackend]:
    async with postgres_backend(database_url) as backend:
        yield backend


def in_batch(request: Request, batch: UUID = BATCH, **changes: Any) -> Claim:
    return claim(request, **({"batch_id": batch} | changes))


async def begin_batch(backend: Backend, *claims: Claim, **options: Any) -> list[Verdict]:
    return await begin(backend, *claims, ordered=False, **options)


async def sealed(backend: Backend, count: int = 3) -> list[Request]:
    """Requests of rows that were sealed together and are in flight."""
    requests = await siblings(backend, count)
    verdicts = await begin_batch(backend, *(in_batch(request) for request in requests))
    assert all(isinstance(verdict, Go) for verdict in verdicts)
    return requests


async def waiting(backend: Backend, count: int = 3, **changes: Any) -> list[Request]:
    """Sealed, answered retryably, and due."""
    requests = await sealed(backend, count)
    await finish(backend, *(later(request, batch_id=BATCH, **changes) for request in requests), ordered=False)
    await backend.pass_time(6)
    return requests


async def begin_sealed(
    backend: Backend, batch: UUID = BATCH, owner: Owner = ME, key_memory: float = 86_400.0, **changes: Any
) -> BatchVerdict:
    claims = [
        SealedClaim(
            **(
                {
                    "delivery_id": member.request.delivery_id,
                    "organization_id": member.organization_id,
                    "generation": member.generation,
                    "payload_hash": HASH,
                }
                | changes
            )
        )
        for member in await backend.ledger.sealed_batch(batch)
    ]
    return await backend.ledger.begin_sealed(batch, claims, owner=owner, lease=60.0, key_memory=key_memory)


async def batch_of(backend: Backend, request: Request) -> UUID | None:
    found: UUID | None = (await backend.row(request.delivery_id))["batch_id"]
    return found


# ------------------------------------------------------------- begin


async def test_claims_of_a_batch_that_may_go_are_sealed_together_under_its_key(backend: Backend) -> None:
    requests = await siblings(backend, 3)
    verdicts = await begin_batch(backend, *(in_batch(request) for request in requests))
    for verdict, request in zip(verdicts, requests, strict=True):
        assert isinstance(verdict, Go)
        assert (verdict.batch_id, verdict.idempotency_key) == (BATCH, batch_key(BATCH))
        row = await backend.row(request.delivery_id)
        assert (row["batch_id"], row["idempotency_key"]) == (BATCH, str(batch_key(BATCH)))


async def test_one_that_may_go_alone_goes_as_a_single(backend: Backend) -> None:
    first, second = await siblings(backend, 2)
    verdicts = await begin_batch(backend, in_batch(first), in_batch(second, hop=9))
    assert isinstance(verdicts[0], Go)
    assert (verdicts[0].batch_id, verdicts[0].idempotency_key) == (None, idempotency_key(first.delivery_id, 0))
    assert verdicts[1] == Stale()
    assert await batch_of(backend, first) is None


async def test_several_batches_in_a_call_are_kept_apart(backend: Backend) -> None:
    requests = await siblings(backend, 5)
    other = uuid4()
    verdicts = await begin_batch(
        backend,
        *(in_batch(request) for request in requests[:2]),
        *(in_batch(request, other) for request in requests[2:4]),
        claim(requests[4]),
    )
    assert [verdict.batch_id for verdict in verdicts if isinstance(verdict, Go)] == [BATCH, BATCH, other, other, None]


async def test_a_member_of_a_sealed_batch_names_it_and_is_not_begun(backend: Backend) -> None:
    requests = await waiting(backend)
    verdicts = await begin_batch(backend, in_batch(requests[0], uuid4(), hop=2), claim(requests[1], hop=2))
    assert verdicts == [Sealed(BATCH), Sealed(BATCH)]
    assert (await backend.row(requests[0].delivery_id))["attempts"] == 1


async def test_a_member_in_flight_is_leased_and_a_stale_record_stale(backend: Backend) -> None:
    requests = await sealed(backend)
    [leased, stale] = await begin_batch(backend, claim(requests[0]), claim(requests[1], hop=7))
    assert isinstance(leased, Leased)
    assert stale == Stale()


async def test_a_row_that_remembers_a_limit_goes_with_no_more_than_that(backend: Backend) -> None:
    requests = await siblings(backend, 4)
    for request in requests:
        await backend.set_row(request.delivery_id, batch_limit=2)
    verdicts = await begin_batch(backend, *(in_batch(request) for request in requests))
    assert verdicts == [Limited(2)] * 4
    verdicts = await begin_batch(backend, *(in_batch(request) for request in requests[:2]))
    assert [verdict.batch_id for verdict in verdicts if isinstance(verdict, Go)] == [BATCH, BATCH]


async def test_what_may_have_had_its_effect_alone_goes_alone_under_its_own_key(backend: Backend) -> None:
    lonely, *others = await siblings(backend, 3)
    await begin_batch(backend, claim(lonely))
    await finish(backend, later(lonely, outcome="uncertain", fate_known=False), ordered=False)
    await backend.pass_time(6)
    verdicts = await begin_batch(backend, in_batch(lonely, hop=2), *(in_batch(request) for request in others))
    assert verdicts[0] == Limited(1)
    assert [verdict.batch_id for verdict in verdicts[1:] if isinstance(verdict, Go)] == [BATCH, BATCH]
    [go] = await begin_batch(backend, in_batch(lonely, uuid4(), hop=2))
    assert isinstance(go, Go)
    assert (go.batch_id, go.idempotency_key, go.uncertain) == (None, idempotency_key(lonely.delivery_id, 0), True)


async def test_a_sealing_call_repeated_under_its_token_answers_alike(backend: Backend) -> None:
    requests = await siblings(backend, 3)
    token = uuid4()
    claims = [in_batch(request) for request in requests]
    first = await begin_batch(backend, *claims, token=token)
    assert await begin_batch(backend, *claims, token=token) == first
    assert [verdict.attempt for verdict in first if isinstance(verdict, Go)] == [1, 1, 1]


# ------------------------------------------------------------- finish


async def test_a_batch_accepted_ends_and_its_attempts_name_it(backend: Backend) -> None:
    requests = await sealed(backend)
    answers = await finish(backend, *(accepted(request, batch_id=BATCH) for request in requests), ordered=False)
    assert [answer.outcome for answer in answers] == ["delivered"] * 3
    assert await backend.ledger.sealed_batch(uuid4()) == []
    assert [await batch_of(backend, request) for request in requests] == [BATCH] * 3


async def test_who_leaves_goes_on_alone_with_the_limit_that_it_learned(backend: Backend) -> None:
    requests = await sealed(backend, 4)
    halved = [
        later(request, batch_id=BATCH, outcome="refused", counted=False, delay=0.0, leaves=True, batch_limit=2)
        for request in requests
    ]
    await finish(backend, *halved, ordered=False)
    row = await backend.row(requests[0].delivery_id)
    assert (row["batch_id"], row["batch_limit"], row["counted"], row["uncertain_since"]) == (None, 2, 0, None)
    assert (row["status"], row["retries"]) == ("retrying", 0)
    new = uuid4()
    verdicts = await begin_batch(backend, *(in_batch(request, new, hop=2) for request in requests))
    assert verdicts == [Limited(2)] * 4


async def test_an_answer_may_settle_the_fate_of_what_went_before(backend: Backend) -> None:
    requests = await waiting(backend, outcome="uncertain", fate_known=False)
    resend = await begin_sealed(backend)
    assert isinstance(resend, Resend)
    assert all(isinstance(member, Go) and member.uncertain for member in resend.members)
    refused = [
        later(request, 2, batch_id=BATCH, outcome="refused", counted=False, leaves=True, batch_limit=2, settles=True)
        for request in requests
    ]
    await finish(backend, *refused, ordered=False)
    assert (await backend.row(requests[0].delivery_id))["uncertain_since"] is None


# ------------------------------------------------------------- begin_sealed


async def test_the_whole_goes_again_under_its_key_in_the_order_of_the_ids(backend: Backend) -> None:
    requests = await waiting(backend)
    members = await backend.ledger.sealed_batch(BATCH)
    assert [member.request.delivery_id for member in members] == sorted(request.delivery_id for request in requests)
    assert members[0].request.body == b"avro"
    resend = await begin_sealed(backend)
    assert isinstance(resend, Resend)
    for member in resend.members:
        assert isinstance(member, Go)
        assert (member.attempt, member.counted, member.batch_id) == (2, 1, BATCH)
        assert member.idempotency_key == batch_key(BATCH)
        assert not member.uncertain
    [leased] = await begin_batch(backend, claim(requests[2], hop=2))
    assert isinstance(leased, Leased)


async def test_a_crash_between_begin_and_finish_leaves_the_batch_to_whoever_comes(backend: Backend) -> None:
    requests = await sealed(backend)
    assert isinstance(await begin_sealed(backend, owner=ANOTHER), Leased)
    [verdict] = await begin_batch(backend, claim(requests[1]), owner=MY_SUCCESSOR)
    assert verdict == Sealed(BATCH)
    resend = await begin_sealed(backend, owner=MY_SUCCESSOR)
    assert isinstance(resend, Resend)
    assert all(isinstance(member, Go) and member.uncertain and member.counted == 1 for member in resend.members)
    for request in requests:
        assert await backend.attempts(request.delivery_id) == [(1, "unknown_outcome", True)]


async def test_a_batch_is_begun_once_it_is_due_and_not_before(backend: Backend) -> None:
    requests = await sealed(backend)
    await finish(backend, *(later(request, batch_id=BATCH) for request in requests), ordered=False)
    not_yet = await begin_sealed(backend)
    assert isinstance(not_yet, NotYet)
    assert 4 < not_yet.remaining <= 5
    assert (await backend.row(requests[0].delivery_id))["blocked"] is True


async def test_two_callers_never_both_get_a_batch(backend: Backend) -> None:
    await waiting(backend)
    answers = await asyncio.gather(*(begin_sealed(backend, owner=owner) for owner in (ME, ANOTHER)))
    assert {type(answer) for answer in answers} == {Resend, Leased}


async def test_a_cancelled_member_dissolves_a_batch_whose_fates_are_known(backend: Backend) -> None:
    requests = await waiting(backend)
    await backend.set_row(requests[0].delivery_id, status="failed")
    dissolved = await begin_sealed(backend)
    assert isinstance(dissolved, Dissolved)
    assert {freed.delivery_id for freed in dissolved.freed} == {request.delivery_id for request in requests[1:]}
    assert {freed.hop for freed in dissolved.freed} == {3}
    new = uuid4()
    verdicts = await begin_batch(backend, *(in_batch(freed, new) for freed in dissolved.freed))
    assert [verdict.batch_id for verdict in verdicts if isinstance(verdict, Go)] == [new, new]
    assert await begin_sealed(backend) == Dissolved()


async def test_with_an_uncertain_fate_a_cancelled_member_goes_along_and_records_the_answer(backend: Backend) -> None:
    requests = await waiting(backend, outcome="uncertain", fate_known=False)
    await backend.set_row(requests[0].delivery_id, status="failed")
    resend = await begin_sealed(backend)
    assert isinstance(resend, Resend)
    assert len(resend.members) == 3
    answers = await finish(backend, *(accepted(request, 2, batch_id=BATCH) for request in requests), ordered=False)
    assert [(answer.applied, answer.status) for answer in answers] == [(True, "delivered")] * 3


async def test_other_content_dissolves_a_batch_of_known_fates(backend: Backend) -> None:
    await waiting(backend, 2)
    assert isinstance(await begin_sealed(backend, payload_hash="q" * 64), Dissolved)
    assert await backend.ledger.sealed_batch(BATCH) == []


async def test_an_uncertain_batch_is_not_sent_with_other_content(backend: Backend) -> None:
    requests = await waiting(backend, 2, outcome="uncertain", fate_known=False)
    assert await begin_sealed(backend, payload_hash="q" * 64) == Resend((Unrepeatable("content_changed", 1, 1),) * 2)
    given_up = [
        dead(request, 1, batch_id=BATCH, outcome="unknown_outcome", counted=False, fate_known=False)
        for request in requests
    ]
    assert [answer.outcome for answer in await finish(backend, *given_up, ordered=False)] == ["dead", "dead"]


async def test_an_uncertain_batch_is_not_sent_once_its_key_is_forgotten(backend: Backend) -> None:
    await waiting(backend, 2, outcome="uncertain", fate_known=False)
    assert await begin_sealed(backend, key_memory=1.0) == Resend((Unrepeatable("key_forgotten", 1, 1),) * 2)


async def test_accepted_in_part_the_finished_go_along_and_stay_what_they_are(backend: Backend) -> None:
    requests = await sealed(backend)
    in_part = [
        accepted(requests[0], batch_id=BATCH),
        *(later(request, batch_id=BATCH, outcome="uncertain", fate_known=False) for request in requests[1:]),
    ]
    await finish(backend, *in_part, ordered=False)
    await backend.pass_time(6)
    resend = await begin_sealed(backend)
    assert isinstance(resend, Resend)
    assert len(resend.members) == 3
    answers = await finish(
        backend, *(later(request, 2, batch_id=BATCH, fate_known=False) for request in requests), ordered=False
    )
    assert [answer.status for answer in answers] == ["delivered", "retrying", "retrying"]
    assert (await backend.row(requests[0].delivery_id))["lease_owner"] is None


async def test_a_batch_begun_again_under_its_token_answers_alike(backend: Backend) -> None:
    for change in ("none", "cancel"):
        batch = uuid4()
        requests = await siblings(backend, 3)
        await begin_batch(backend, *(in_batch(request, batch) for request in requests))
        await finish(backend, *(later(request, batch_id=batch) for request in requests), ordered=False)
        await backend.pass_time(6)
        if change == "cancel":
            await backend.set_row(requests[0].delivery_id, status="failed")
        claims = [
            SealedClaim(delivery_id=member.request.delivery_id, organization_id="org", generation=0, payload_hash=HASH)
            for member in await backend.ledger.sealed_batch(batch)
        ]
        token = uuid4()
        first, again = [
            await backend.ledger.begin_sealed(batch, claims, owner=ME, lease=60.0, key_memory=86_400.0, token=token)
            for _ in range(2)
        ]
        assert type(first) is type(again) is (Dissolved if change == "cancel" else Resend)
        if isinstance(first, Dissolved) and isinstance(again, Dissolved):
            assert again.freed == first.freed
        if isinstance(first, Resend) and isinstance(again, Resend):
            numbers = [
                [member.attempt for member in answer.members if isinstance(member, Go)] for answer in (first, again)
            ]
            assert numbers == [[2, 2, 2]] * 2


# ------------------------------------------------------------- parked rows


async def test_parked_rows_of_a_company_are_woken_in_order_as_many_as_asked_for(backend: Backend) -> None:
    requests = await siblings(backend, 5)
    await backend.ledger.park([Parked(request.delivery_id, request.hop) for request in requests[:4]])
    woken = await backend.ledger.wake_parked("benevity", {requests[0].company_id: 2, uuid4(): 7})
    assert [(request.delivery_id, request.hop) for request in woken] == [
        (requests[0].delivery_id, 2),
        (requests[1].delivery_id, 2),
    ]
    woken = await backend.ledger.wake_parked("benevity", {requests[0].company_id: 9})
    assert [request.delivery_id for request in woken] == [request.delivery_id for request in requests[2:4]]


async def test_where_order_does_not_matter_a_parked_row_is_swept_after_a_while(backend: Backend) -> None:
    [request] = await siblings(backend, 1)
    await backend.ledger.park([Parked(request.delivery_id, request.hop)])
    assert await backend.ledger.sweep(READ_ALL, ordered=[], grace=5.0, limit=100) == []
    await backend.pass_time(31)
    [swept] = await backend.ledger.sweep(READ_ALL, ordered=[], grace=5.0, limit=100)
    assert (swept.request.delivery_id, swept.reason) == (request.delivery_id, "woken")
    await backend.ledger.park([Parked(request.delivery_id, 2, 3.0)])
    await backend.pass_time(4)
    [swept] = await backend.ledger.sweep(READ_ALL, ordered=[], grace=5.0, limit=100)
    assert swept.reason == "woken"


# ------------------------------------------------------------- only Postgres


@pytest.mark.servers
async def test_a_locked_member_keeps_the_whole_batch_waiting(real: PostgresBackend, database_url: str) -> None:
    requests = await sealed(real)
    operator = await asyncpg.connect(database_url)
    transaction = operator.transaction()
    await transaction.start()
    await operator.execute("select from impact_deliveries where id = $1 for update", requests[1].delivery_id)
    results: list[Result] = [accepted(request, batch_id=BATCH) for request in requests]
    answers = await real.ledger.finish(results, owner=ME, deadline=30.0, ordered=False)
    assert answers == [Busy()] * 3
    assert (await real.row(requests[0].delivery_id))["status"] == "pending"
    locked = await begin_sealed(real, owner=MY_SUCCESSOR)
    assert isinstance(locked, Leased)
    assert locked.remaining < 1
    await transaction.rollback()
    await operator.close()
    answers = await real.ledger.finish(results, owner=ME, deadline=30.0, ordered=False)
    assert [answer.status for answer in answers if isinstance(answer, Finished)] == ["delivered"] * 3


@pytest.mark.servers
async def test_a_company_that_moves_leaves_an_uncertain_batch_as_it_was(real: PostgresBackend) -> None:
    company = uuid4()
    await real.register(company, "benevity")
    recorded = await real.ledger.record_events([arrival(company, offset) for offset in range(2)])
    requests = [answer.requests[0] for answer in recorded]
    await begin_batch(real, *(in_batch(request) for request in requests))
    await finish(
        real,
        *(later(request, batch_id=BATCH, outcome="uncertain", fate_known=False) for request in requests),
        ordered=False,
    )
    await real.pass_time(6)
    moved = CompanyPlatform(company_id=company, platform="benevity", organization_id="new")
    await PostgresCompanyRegistry(real.database).set_company_platforms([moved])
    assert isinstance(await begin_sealed(real), Resend)
