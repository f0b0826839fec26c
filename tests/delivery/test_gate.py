"""The gate: what is held waits, unleased, and costs nobody an attempt; others go on."""

import asyncio
from collections.abc import Callable

import pytest

from connectors.contract import (
    Accepted,
    CredentialsRejected,
    Forbidden,
    Outcome,
    Refused,
    Throttled,
    Unavailable,
    Uncertain,
)
from delivery.gate import Gate, Pass
from delivery.holding import Holds
from delivery.observer import QuotaWaited
from guards.quota_contract import Limits
from guards.quota_memory import MemoryQuotas
from tests.delivery.world import Watcher

pytestmark = pytest.mark.fast


def new_gate(scope_of: Callable[[str], str] = lambda organization: organization) -> tuple[Gate, MemoryQuotas]:
    quotas = MemoryQuotas(clock=lambda: asyncio.get_running_loop().time())
    return Gate("benevity", holds=Holds(), quotas=quotas, scope_of=scope_of, observer=Watcher()), quotas


async def wait_of(gate: Gate, organization: str) -> tuple[float, Pass]:
    """How long it took to be let in."""
    clock = asyncio.get_running_loop().time
    started = clock()
    leave = await gate.enter(organization)
    return clock() - started, leave


async def answer(gate: Gate, organization: str, outcome: Outcome) -> bool:
    return gate.used(await gate.enter(organization), outcome)


def held(gate: Gate) -> list[tuple[str, str | None]]:
    now = asyncio.get_running_loop().time()
    return [(hold.reason, hold.organization_id) for hold in gate.holds.report("benevity", now)]


async def test_nothing_held_lets_everybody_in_at_once() -> None:
    gate, _ = new_gate()
    assert (await wait_of(gate, "a"))[0] == 0.0
    assert await answer(gate, "a", Accepted())
    assert held(gate) == []


async def test_a_paused_platform_lets_nobody_in_until_it_is_resumed() -> None:
    gate, _ = new_gate()
    clock = asyncio.get_running_loop().time
    gate.holds.pause(True, clock())
    waiting = asyncio.create_task(gate.enter("a"))
    await asyncio.sleep(3600)
    assert not waiting.done()
    assert held(gate) == [("paused", None)]
    gate.holds.pause(False, clock())
    await asyncio.wait_for(waiting, 1.1)


async def test_rejected_credentials_hold_the_platform_but_for_a_probe_a_minute() -> None:
    gate, _ = new_gate()
    assert not await answer(gate, "a", CredentialsRejected())
    waited, probe = await wait_of(gate, "b")
    assert waited == pytest.approx(60, abs=1)
    assert not probe.counts
    assert not gate.used(probe, CredentialsRejected())
    assert held(gate) == [("credentials", None)]
    waited, probe = await wait_of(gate, "c")
    assert waited == pytest.approx(60, abs=1)
    gate.used(probe, Accepted())
    assert (await wait_of(gate, "d"))[0] == 0.0
    assert held(gate) == []


async def test_a_forbidden_organization_is_held_alone_but_for_a_probe_each_ten_minutes() -> None:
    gate, _ = new_gate()
    await answer(gate, "a", Forbidden())
    assert gate.organization_wait("b") == 0.0
    assert held(gate) == [("forbidden", "a")]
    assert gate.organization_wait("a") == pytest.approx(600, abs=1)
    await asyncio.sleep(600)
    assert gate.organization_wait("a") == 0.0  # the probe
    assert gate.organization_wait("a") == pytest.approx(600, abs=1)
    await answer(gate, "a", Forbidden())
    gate.holds.organization_touched("a", asyncio.get_running_loop().time())
    assert gate.organization_wait("a") == 0.0
    assert held(gate) == []


async def test_an_organizations_probe_that_was_not_sent_leaves_its_place() -> None:
    gate, _ = new_gate()
    await answer(gate, "a", Forbidden())
    await asyncio.sleep(600)
    assert gate.organization_wait("a") == 0.0
    await gate.unused(await gate.enter("a"))
    assert gate.organization_wait("a") == 0.0


async def test_a_throttled_scope_waits_as_long_as_it_was_told() -> None:
    gate, _ = new_gate()
    await answer(gate, "a", Throttled(after=7.0))
    assert (await wait_of(gate, "b"))[0] == 0.0
    assert (await wait_of(gate, "a"))[0] == pytest.approx(7.0, abs=0.1)


async def test_a_throttling_without_a_wish_waits_a_second_doubling_to_a_minute() -> None:
    gate, _ = new_gate()
    for wait in (1, 2, 4, 8, 16, 32, 60, 60):
        await answer(gate, "a", Throttled())
        waited, leave = await wait_of(gate, "a")
        assert waited == pytest.approx(wait, abs=0.1)
        await gate.unused(leave)


async def test_what_was_sent_before_a_throttling_neither_ends_nor_doubles_it() -> None:
    gate, _ = new_gate()
    together = [await gate.enter("a") for _ in range(4)]
    for leave, outcome in zip(together, (Throttled(), Accepted(), Throttled(), Throttled()), strict=True):
        gate.used(leave, outcome)
    waited, leave = await wait_of(gate, "a")
    assert waited == pytest.approx(1.0, abs=0.1)
    gate.used(leave, Accepted())
    assert (await wait_of(gate, "a"))[0] == 0.0
    await answer(gate, "a", Throttled())
    assert (await wait_of(gate, "a"))[0] == pytest.approx(1.0, abs=0.1)


async def test_one_companys_failures_hold_nobody_and_all_companies_failures_hold_the_platform() -> None:
    gate, _ = new_gate()
    await answer(gate, "well", Accepted())
    for _ in range(50):
        assert await answer(gate, "sick", Unavailable(http_status=503))
    assert held(gate) == []
    await answer(gate, "b", Uncertain())  # two of three tried had only failures
    assert held(gate) == [("breaker", None)]
    waited, probe = await wait_of(gate, "well")
    assert waited == pytest.approx(1.0, abs=0.1)
    assert not gate.used(probe, Unavailable(http_status=503))
    waited, probe = await wait_of(gate, "well")
    assert waited == pytest.approx(2.0, abs=0.1)
    gate.used(probe, Refused())
    assert held(gate) == []
    assert (await wait_of(gate, "sick"))[0] == 0.0


async def test_a_probe_that_was_not_sent_leaves_its_place_to_the_next() -> None:
    gate, _ = new_gate()
    await answer(gate, "a", Uncertain())
    await answer(gate, "b", Uncertain())
    _, probe = await wait_of(gate, "a")
    second = asyncio.create_task(gate.enter("b"))
    await asyncio.sleep(5)
    assert not second.done()
    await gate.unused(probe)
    await asyncio.wait_for(second, 1.1)


async def test_a_quota_is_never_exceeded_and_who_waits_for_it_holds_up_no_other_scope() -> None:
    gate, _ = new_gate()
    gate.limits = Limits(per_minute=5)
    times: list[float] = []

    async def one() -> None:
        await gate.enter("a")
        times.append(asyncio.get_running_loop().time())

    tasks = [asyncio.create_task(one()) for _ in range(12)]
    assert (await wait_of(gate, "b"))[0] == 0.0
    await asyncio.gather(*tasks)
    for index in range(len(times) - 5):
        assert times[index + 5] - times[index] >= 60.0
    assert times[-1] - times[0] < 130.0


async def test_who_waited_for_a_quota_is_told_how_long_and_who_waited_for_a_hold_is_not() -> None:
    watcher = Watcher()
    quotas = MemoryQuotas(clock=lambda: asyncio.get_running_loop().time())
    gate = Gate("benevity", holds=Holds(), quotas=quotas, scope_of=lambda organization: organization, observer=watcher)
    gate.limits = Limits(per_minute=1)
    await answer(gate, "a", Throttled(after=7.0))
    await gate.enter("a")
    waits = [happening.seconds for happening in watcher.happenings if isinstance(happening, QuotaWaited)]
    assert waits == [pytest.approx(54.0, abs=1.5)]


async def test_a_changed_limit_is_followed_within_a_second() -> None:
    gate, _ = new_gate()
    gate.limits = Limits(per_day=1)
    await gate.enter("a")
    waiting = asyncio.create_task(gate.enter("a"))
    await asyncio.sleep(100)
    assert not waiting.done()
    gate.limits = Limits()
    await asyncio.wait_for(waiting, 1.1)


async def test_a_grant_that_was_not_used_is_given_back() -> None:
    gate, _ = new_gate()
    gate.limits = Limits(per_day=1)
    await gate.unused(await gate.enter("a"))
    assert (await wait_of(gate, "a"))[0] == 0.0


async def test_quotas_out_of_reach_are_asked_again() -> None:
    gate, quotas = new_gate()
    gate.limits = Limits(per_minute=5)
    quotas.available = False
    waiting = asyncio.create_task(gate.enter("a"))
    await asyncio.sleep(30)
    assert not waiting.done()
    quotas.available = True
    await asyncio.wait_for(waiting, 1.1)


async def together(gate: Gate, *outcomes: tuple[str, Outcome]) -> bool:
    return gate.used_together(await gate.enter_scope(""), outcomes)


async def test_of_a_request_for_several_each_organization_is_heard_once() -> None:
    gate, _ = new_gate(lambda _: "")
    # One organization, however many of its records failed together: one failure.
    for _ in range(4):
        assert await together(gate, *[("a", Unavailable())] * 10)
    assert held(gate) == []
    assert not await together(gate, *[("a", Unavailable())] * 10)
    assert held(gate) == [("breaker", None)]


async def test_an_organizations_best_outcome_in_a_request_speaks_for_it() -> None:
    gate, _ = new_gate(lambda _: "")
    for _ in range(10):
        assert await together(gate, ("a", Uncertain()), ("a", Accepted()), ("b", Uncertain()))
    assert held(gate) == []


async def test_a_403_of_several_organizations_holds_none_of_them() -> None:
    gate, _ = new_gate(lambda _: "")
    await together(gate, ("a", Forbidden()), ("b", Forbidden()))
    assert held(gate) == []
    await together(gate, ("a", Forbidden()), ("a", Forbidden()))
    assert held(gate) == [("forbidden", "a")]


async def test_a_throttled_batch_holds_its_scope_once() -> None:
    gate, _ = new_gate(lambda _: "")
    await together(gate, ("a", Throttled()), ("b", Throttled()), ("c", Throttled()))
    assert (await wait_of(gate, "d"))[0] == pytest.approx(1.0)
