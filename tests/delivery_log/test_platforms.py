"""What every platforms' log promises, and that deadlines stand still while something is held."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from delivery_log.contract import (
    PROBE_SECONDS,
    Changed,
    CompanyPlatform,
    CompanyRegistry,
    Go,
    HeldNow,
    Hold,
    Parked,
    PlatformControl,
    PlatformLog,
    Request,
    RequestLog,
    Result,
)
from delivery_log.memory.companies import MemoryCompanyRegistry
from delivery_log.memory.platforms import MemoryPlatformLog, MemoryRequestLog
from delivery_log.postgres.companies import PostgresCompanyRegistry
from delivery_log.postgres.platforms import PostgresPlatformLog, PostgresRequestLog
from tests.delivery_log.conftest import Books
from tests.delivery_log.ledger_backends import Backend, MemoryBackend, PostgresBackend, postgres_backend
from tests.delivery_log.test_ledger import accepted, begin, claim, finish, later, one_delivery, siblings, sweep


@pytest.fixture(
    params=[pytest.param("memory", marks=pytest.mark.fast), pytest.param("postgres", marks=pytest.mark.servers)]
)
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue("database_url")


@pytest.fixture
async def backend(url: str | None) -> AsyncIterator[Backend]:
    if url is None:
        yield MemoryBackend()
        return
    async with postgres_backend(url) as real:
        yield real


@pytest.fixture
def log(backend: Backend) -> PlatformLog:
    if isinstance(backend, MemoryBackend):
        return MemoryPlatformLog(backend.state)
    assert isinstance(backend, PostgresBackend)
    return PostgresPlatformLog(backend.database)


@pytest.fixture
def requests(backend: Backend) -> RequestLog:
    if isinstance(backend, MemoryBackend):
        return MemoryRequestLog(backend.state)
    assert isinstance(backend, PostgresBackend)
    return PostgresRequestLog(backend.database)


def hold(**changes: Any) -> Hold:
    values: dict[str, Any] = {
        "id": uuid4(),
        "platform": "benevity",
        "organization_id": None,
        "reason": "breaker",
        "age": 0.0,
    }
    return Hold(**(values | changes))


async def test_what_an_operator_set_is_kept_until_it_is_taken_back(log: PlatformLog) -> None:
    assert await log.controls() == {}
    await log.set_control("benevity", {"paused": True, "per_minute": 50})
    await log.set_control("goodera", {"per_day": 0})
    assert await log.controls() == {
        "benevity": PlatformControl(paused=True, per_minute=50),
        "goodera": PlatformControl(per_day=0),
    }
    await log.set_control("benevity", {"paused": None, "per_second": 3})
    assert (await log.controls())["benevity"] == PlatformControl(per_minute=50, per_second=3)


async def test_holds_are_seen_while_somebody_renews_them(log: PlatformLog, backend: Backend) -> None:
    breaker, forbidden = hold(age=4.0), hold(reason="forbidden", organization_id="org", credential="key")
    await log.report_holds([breaker, forbidden], owner="w1")
    held = await log.held_now()
    assert [(item.reason, item.organization_id, item.owner) for item in held] == [
        ("breaker", None, "w1"),
        ("forbidden", "org", "w1"),
    ]
    assert 4.0 <= held[0].age < 9.0
    assert [item.credential for item in held] == ["", "key"]
    await backend.pass_time(6)
    await log.report_holds([breaker], owner="w1")
    assert [item.reason for item in await log.held_now()] == ["breaker"]
    await log.report_holds([], owner="w1")


async def the_hold(log: PlatformLog, identifier: UUID) -> HeldNow:
    [held] = [item for item in await log.held_now(known=[identifier]) if item.id == identifier]
    return held


async def test_of_all_who_would_probe_one_gets_the_claim_once_it_is_due(log: PlatformLog, backend: Backend) -> None:
    breaker = hold(next_probe=5.0, wait=5.0)
    asking = structs.replace(breaker, news=False, wants_probe=True)
    await log.report_holds([breaker], owner="w1")
    await log.report_holds([asking], owner="w1")
    held = await the_hold(log, breaker.id)
    assert (held.probing, held.wait) == (0.0, 5.0)
    assert 3.0 < held.next_probe <= 5.0
    await backend.pass_time(5)
    await asyncio.gather(*(log.report_holds([asking], owner=f"w{number}") for number in range(4)))
    held = await the_hold(log, breaker.id)
    assert PROBE_SECONDS - 2 < held.probing <= PROBE_SECONDS
    prober = held.prober
    assert prober in {"w0", "w1", "w2", "w3"}

    # Renewed while it is on its way; and when that ends, the next may claim it.
    await backend.pass_time(PROBE_SECONDS - 1)
    await log.report_holds([structs.replace(breaker, news=False, probing=True)], owner=prober)
    await backend.pass_time(PROBE_SECONDS - 1)
    await log.report_holds([asking], owner="late")
    assert (await the_hold(log, breaker.id)).prober == prober
    await backend.pass_time(2)
    await log.report_holds([asking], owner="late")
    assert (await the_hold(log, breaker.id)).prober == "late"


async def test_what_a_probe_found_is_told_and_what_others_believe_is_not(log: PlatformLog, backend: Backend) -> None:
    breaker = hold()
    asking = structs.replace(breaker, news=False, wants_probe=True)
    await log.report_holds([breaker], owner="w1")
    await log.report_holds([asking], owner="w1")
    assert (await the_hold(log, breaker.id)).prober == "w1"
    await log.report_holds([structs.replace(breaker, next_probe=8.0, wait=8.0)], owner="w1")
    await log.report_holds([structs.replace(asking, next_probe=-5.0, wait=1.0)], owner="w2")
    held = await the_hold(log, breaker.id)
    assert (held.probing, held.wait) == (0.0, 8.0)
    assert 6.0 < held.next_probe <= 8.0


async def test_a_hold_that_is_over_is_over_for_everybody(log: PlatformLog) -> None:
    breaker, throttled = hold(), hold(reason="throttled", organization_id="org", next_probe=9.0)
    await log.report_holds([breaker, throttled], owner="w1")
    await log.report_holds([throttled], owner="w1", ended=[breaker.id, uuid4()])
    await log.report_holds([breaker, structs.replace(throttled, next_probe=3.0)], owner="w2")
    [held] = await log.held_now()
    assert (held.id, held.released) == (throttled.id, False)
    assert held.next_probe > 7.0  # the longest wish is obeyed
    assert (await the_hold(log, breaker.id)).released


async def test_holds_long_past_are_forgotten_unless_a_deadline_needs_them(log: PlatformLog, backend: Backend) -> None:
    before, needed, elsewhere = hold(age=500.0), hold(age=30.0), hold(platform="goodera")
    await log.report_holds([before], owner="w1")
    await backend.pass_time(60)
    _, again = await failed_once(backend)
    await log.report_holds([needed, elsewhere], owner="w1")
    await backend.pass_time(3_570)
    assert await log.clean_holds() == 1  # ended before the delivery failed for the first time
    await backend.pass_time(200)
    assert await log.clean_holds() == 1
    known = [before.id, needed.id, elsewhere.id]
    assert [held.id for held in await log.held_now(known=known)] == [needed.id]
    await begin(backend, again)
    result = Result(delivery_id=again.delivery_id, attempt=2, outcome="accepted", counted=True, then="delivered")
    await finish(backend, result)
    assert await log.clean_holds() == 1
    assert await log.held_now(known=known) == []


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


async def test_requests_are_told_by_organization_or_for_the_whole_account(
    backend: Backend, requests: RequestLog
) -> None:
    async def sent(age: float) -> None:
        request = await one_delivery(backend)
        await begin(backend, claim(request))
        await finish(backend, accepted(request, started_at=ago(age)))

    for age in (5.0, 1_000.0, 80_000.0, 100_000.0):
        await sent(age)
    under_way = await one_delivery(backend)
    await begin(backend, claim(under_way))

    found = await requests.recent_requests("benevity", ["org", "another"], within=86_400.0)
    assert list(found) == ["org"]
    now, five, thousand, day = sorted(found["org"])
    assert now < 4.0
    assert 5.0 <= five < 10.0
    assert 700.0 <= thousand < 1_005.0
    assert 79_700.0 <= day < 80_005.0
    whole = await requests.recent_requests("benevity", None, within=60.0)
    assert {name: len(ages) for name, ages in whole.items()} == {"": 2}
    assert await requests.recent_requests("benevity", ["another"], within=86_400.0) == {}
    assert await requests.recent_requests("goodera", None, within=86_400.0) == {}


async def test_a_batch_is_one_request_however_many_members_it_has(real_books: Books) -> None:
    database = real_books.backend.database  # type: ignore[attr-defined]
    batch, moment = uuid4(), ago(30.0)
    for again in (1, 2):  # refused, and sent again under the same key
        for delivery in [await real_books.delivered(None, "goodera") for _ in range(3)]:
            await database.fetch(
                "update delivery_attempts set batch_id = $2, started_at = $3 where delivery_id = $1",
                delivery,
                batch,
                moment + timedelta(seconds=again),
            )
    found = await PostgresRequestLog(database).recent_requests("goodera", None, within=60.0)
    assert len(found[""]) == 2


async def test_an_operators_touch_is_seen_for_a_while_and_makes_the_forbidden_due(
    log: PlatformLog, backend: Backend
) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    forbidden = later(request, outcome="forbidden", counted=False, error_code="ORG_FORBIDDEN", delay=600.0)
    [finished] = await finish(backend, forbidden)
    assert await log.touched("goodera", ["org"], within=3.0) == []
    entry = CompanyPlatform(company_id=request.company_id, platform="benevity", organization_id="org")
    await registry_of(backend).set_company_platforms([entry])  # nothing changes by it
    assert await log.touched("benevity", ["org", "another"], within=3.0) == ["org"]
    [go] = await begin(backend, claim(request, hop=finished.hop))
    assert isinstance(go, Go)


async def test_what_is_parked_waits_for_its_elders_end_or_for_its_time(backend: Backend) -> None:
    elder, younger = await siblings(backend, 2)
    await backend.ledger.park([Parked(younger.delivery_id, 9), Parked(younger.delivery_id, 1)])
    await begin(backend, claim(elder))
    [finished] = await finish(backend, accepted(elder))
    assert [request.delivery_id for request in finished.woken] == [younger.delivery_id]
    await backend.ledger.park([Parked(younger.delivery_id, 2, delay=600.0)])
    await backend.pass_time(599)
    assert await sweep(backend) == []
    await backend.pass_time(2)
    assert await sweep(backend) == [(younger.delivery_id, "woken", 3)]


async def test_what_waits_behind_a_forbidden_organization_is_freed_by_another(backend: Backend) -> None:
    request = await one_delivery(backend)
    behind = Parked(request.delivery_id, 1, 600.0, "org")
    assert await backend.ledger.park([behind, Parked(uuid4(), 1, 600.0, "org")]) == [None, None]
    assert (await backend.row(request.delivery_id))["error_code"] == "ORG_FORBIDDEN"
    assert await sweep(backend) == []
    await set_organization(backend, request, "new")
    assert await sweep(backend) == [(request.delivery_id, "woken", 2)]
    # A worker that has not heard of it yet would have it wait behind the old one again.
    assert await backend.ledger.park([Parked(request.delivery_id, 2, 600.0, "org")]) == [Changed("new", 0)]
    row = await backend.row(request.delivery_id)
    assert (row["organization_id"], row["blocked"]) == ("new", False)
    [go] = await begin(backend, claim(request, hop=2, organization_id="new"))
    assert isinstance(go, Go)


async def test_what_an_operator_has_just_touched_waits_no_longer_than_its_workers_take_to_hear_of_it(
    backend: Backend,
) -> None:
    request = await one_delivery(backend)
    await set_organization(backend, request, "org")
    assert await backend.ledger.park([Parked(request.delivery_id, 1, 600.0, "org")]) == [None]
    await backend.pass_time(2)
    assert await sweep(backend) == [(request.delivery_id, "woken", 2)]
    await backend.pass_time(5)
    await backend.ledger.park([Parked(request.delivery_id, 2, 600.0, "org")])
    await backend.pass_time(2)
    assert await sweep(backend) == []


async def test_what_waits_for_its_time_alone_is_not_made_due_by_an_operator(backend: Backend) -> None:
    request = await one_delivery(backend)
    await backend.ledger.park([Parked(request.delivery_id, 1, 600.0)])
    await set_organization(backend, request, "new")
    assert await sweep(backend) == []


async def set_organization(backend: Backend, request: Request, organization: str) -> None:
    entry = CompanyPlatform(company_id=request.company_id, platform="benevity", organization_id=organization)
    await registry_of(backend).set_company_platforms([entry])


async def test_what_is_leased_or_has_moved_on_is_not_parked(backend: Backend) -> None:
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    await backend.ledger.park([Parked(request.delivery_id, 1)])
    assert (await backend.row(request.delivery_id))["blocked"] is False


def registry_of(backend: Backend) -> CompanyRegistry:
    if isinstance(backend, MemoryBackend):
        return MemoryCompanyRegistry(backend.state)
    assert isinstance(backend, PostgresBackend)
    return PostgresCompanyRegistry(backend.database)


async def failed_once(backend: Backend) -> tuple[UUID, Any]:
    """A delivery in its first retry, due now; its deadline is 30 s from its failure."""
    request = await one_delivery(backend)
    await begin(backend, claim(request))
    [finished] = await finish(backend, later(request))
    return request.delivery_id, claim(request, hop=finished.hop)


async def to_deadline(backend: Backend, again: Any) -> float:
    [go] = await begin(backend, again)
    assert isinstance(go, Go)
    assert go.to_deadline is not None
    return go.to_deadline


@pytest.mark.parametrize(
    ("holds", "stood_still"),
    [
        ([], 0),
        ([hold(age=20.0)], 20),
        # Of several workers, and for several reasons: the time is counted once.
        ([hold(age=20.0), hold(age=15.0, reason="credentials")], 20),
        ([hold(age=20.0, platform="goodera")], 0),
        ([hold(age=20.0, reason="forbidden", organization_id="org")], 20),
        ([hold(age=20.0, reason="forbidden", organization_id="another")], 0),
        # Held before the delivery failed for the first time: not the delivery's.
        ([hold(age=100.0)], 25),
    ],
)
async def test_a_deadline_stands_still_while_its_platform_or_organization_is_held(
    backend: Backend, log: PlatformLog, holds: list[Hold], stood_still: float
) -> None:
    _, again = await failed_once(backend)
    await backend.pass_time(25)
    await log.report_holds(holds, owner="w1")
    assert await to_deadline(backend, again) == pytest.approx(30 - 25 + stood_still, abs=2.0)
