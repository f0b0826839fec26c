"""What a client meets when a platform is sick."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from impact_in.simulators.decision import record_identity
from impact_in.simulators.exact_json import loads
from impact_in.simulators.faults import final_fault
from tests.simulators import bodies
from tests.simulators.conftest import Answer, Simulated, Start

pytestmark = pytest.mark.fast


async def _effects(simulated: Simulated) -> int:
    return int((await simulated.received())["effects"])


@pytest.mark.parametrize(("fault", "status"), [("error_500", 500), ("error_503", 503), ("throttled", 429)])
async def test_a_failure_has_no_effect(benevity: Simulated, fault: str, status: int) -> None:
    answer = await benevity.post(bodies.BENEVITY, bodies.benevity(), key="k", X_Simulate_Fault=fault)
    assert answer.status == status
    assert answer.json["success"] is False
    if fault == "throttled":
        assert (answer.headers["Retry-After"], answer.json["errorCode"]) == ("1", "RATE_LIMIT")
    found = await benevity.received()
    assert (found["requests"], found["effects"], found["faults"]) == (1, 0, {fault: 1})
    assert (await benevity.post(bodies.BENEVITY, bodies.benevity(), key="k")).status == 200


async def test_a_drop_after_the_effect_keeps_it(benevity: Simulated) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await benevity.post(bodies.BENEVITY, bodies.benevity(), key="k", X_Simulate_Fault="drop_after_effect")
    assert await _effects(benevity) == 1
    again = await benevity.post(bodies.BENEVITY, bodies.benevity(), key="k")
    found = await benevity.received()
    assert (again.status, found["effects"]) == (200, 1)
    assert again.json["transactionId"] == found["keys"]["k"]["transactionId"]


async def test_a_drop_before_the_effect_leaves_nothing(benevity: Simulated) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await benevity.post(bodies.BENEVITY, bodies.benevity(), X_Simulate_Fault="drop_before_effect")
    found = await benevity.received()
    assert (found["requests"], found["effects"], found["statuses"]) == (1, 0, {"none": 1})


async def test_garbage_comes_after_the_effect(benevity: Simulated) -> None:
    answer = await benevity.post(bodies.BENEVITY, bodies.benevity(), key="k", X_Simulate_Fault="garbage")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert await _effects(benevity) == 1
    assert (await benevity.post(bodies.BENEVITY, bodies.benevity(), key="k")).json["success"] is True


async def test_slow_is_late_and_right(benevity: Simulated) -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    answer = await benevity.post(bodies.BENEVITY, bodies.benevity(), X_Simulate_Fault="slow")
    assert answer.status == 200
    assert loop.time() - before >= 0.3


async def test_refusals_speak_the_platforms_language(start: Start) -> None:
    expected = {
        "benevity": (bodies.BENEVITY, bodies.benevity(), {"INVALID_METRIC", "ORG_NOT_FOUND"}),
        "goodera": (bodies.GOODERA, bodies.goodera(), {"DIMENSION_INVALID", "PROJECT_NOT_FOUND"}),
        "workday": (bodies.WORKDAY, bodies.workday(), {"ACTIVITY_INVALID"}),
    }
    platforms = await start()
    for name, (path, body, codes) in expected.items():
        refused = await platforms[name].post(path, body, X_Simulate_Fault="refused")
        assert refused.status in (404, 422)
        assert refused.json["errorCode"] in codes
        mild = await platforms[name].post(path, body, X_Simulate_Fault="success_false")
        assert (mild.status, mild.json["success"]) == (200, False)
        assert mild.json["errorCode"] in codes
        assert await _effects(platforms[name]) == 0


async def test_a_key_with_an_effect_is_never_refused_afterwards(benevity: Simulated) -> None:
    first = await benevity.post(bodies.BENEVITY, bodies.benevity(), key="k")
    again = await benevity.post(bodies.BENEVITY, bodies.benevity(), key="k", X_Simulate_Fault="refused")
    assert again.raw == first.raw


async def test_a_fault_that_nobody_knows_is_a_usage_error(benevity: Simulated) -> None:
    answer = await benevity.post(bodies.BENEVITY, bodies.benevity(), X_Simulate_Fault="flood")
    assert answer.status == 400
    assert "drop_after_effect" in answer.json["error"]


async def _story(simulated: Simulated) -> list[int]:
    """The statuses that a fixed set of keys meets, tried up to four times each; 0: no answer."""
    seen = []
    for number in range(40):
        for _ in range(4):
            try:
                answer = await simulated.post(bodies.BENEVITY, bodies.benevity(), key=f"key-{number}")
            except aiohttp.ServerDisconnectedError:
                seen.append(0)
                continue
            seen.append(answer.status)
            if answer.status == 200:
                break
    return seen


async def test_the_same_seed_tells_the_same_story(start: Start) -> None:
    stories = []
    for seed in ("5", "5", "6"):
        simulated = (await start("--platform", "benevity", "--faults", "many", "--seed", seed))["benevity"]
        stories.append(await _story(simulated))
    assert stories[0] == stories[1] != stories[2]
    assert {0, 200} <= set(stories[0])


async def test_a_bad_record_is_refused_in_every_batch_that_holds_it(start: Start) -> None:
    simulated = (await start("--platform", "goodera", "--faults", "some", "--seed", "1"))["goodera"]
    records = [bodies.goodera(hours=hours) for hours in range(1, 3000)]
    fates: dict[str | None, list[Any]] = {}
    for record in records:
        identity = record_identity(loads(json.dumps(record).encode()))
        fates.setdefault(final_fault("some", 1, identity), []).append(record)

    async def send(batch: list[Any], key: str) -> Answer:
        for _ in range(3):  # at most two attempts of a key meet a transient fault
            try:
                answer = await simulated.post(bodies.GOODERA_BATCH, {"records": batch}, key=key)
            except aiohttp.ServerDisconnectedError:
                continue
            if answer.status < 500:
                return answer
        raise AssertionError("more faults than the level allows")

    good, refused, failing = fates[None], fates["refused"][0], fates["success_false"][0]
    whole = await send([good[0], refused, good[1]], "whole")
    assert whole.status in (404, 422)
    assert (await send([refused], "alone")).status in (404, 422)
    assert (await send([good[0], good[1]], "without")).json["success"] is True
    partial = await send([good[2], failing, good[3]], "partial")
    assert [entry["success"] for entry in partial.json["results"]] == [True, False, True]
    assert (await send([failing], "failing")).json["success"] is False


async def test_outages_come_and_go(benevity: Simulated) -> None:
    for kind, status in (("503", 503), ("429", 429), ("401", 401), ("403", 403)):
        assert (await benevity.faults(outage=kind, retryAfter=7)).status == 200
        answer = await benevity.post(bodies.BENEVITY, bodies.benevity())
        assert answer.status == status
        assert answer.headers.get("Retry-After") == ("7" if status in (503, 429) else None)
    await benevity.faults(outage=None)
    assert (await benevity.post(bodies.BENEVITY, bodies.benevity())).status == 200
    assert (await benevity.received())["faults"] == {f"outage_{kind}": 1 for kind in ("503", "429", "401", "403")}


async def test_one_organizations_outage_spares_the_others(benevity: Simulated) -> None:
    await benevity.faults(outage="403", organization="org-1")
    assert (await benevity.post(bodies.BENEVITY, bodies.benevity("org-1"))).status == 403
    assert (await benevity.post(bodies.BENEVITY, bodies.benevity("org-2"))).status == 200
    await benevity.faults(outage=None, organization="org-1")
    assert (await benevity.post(bodies.BENEVITY, bodies.benevity("org-1"))).status == 200


async def test_a_timeout_leaves_its_client_waiting(benevity: Simulated) -> None:
    await benevity.faults(outage="timeout")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await benevity.post(bodies.BENEVITY, bodies.benevity())
    await benevity.faults(outage=None)
    found = await benevity.received()
    assert (found["effects"], found["faults"]) == (0, {"outage_timeout": 1})


async def test_an_outage_takes_workdays_tokens_along(workday: Simulated) -> None:
    await workday.faults(outage="503")
    assert (await workday.sign_in()).status == 503
    await workday.faults(outage="401")  # the token is issued, and worthless
    assert (await workday.sign_in()).status == 200
    assert (await workday.post(bodies.WORKDAY, bodies.workday())).status == 401


@pytest.mark.parametrize(
    "wish",
    [{}, [], {"level": "worst"}, {"outage": "fire"}, {"retryAfter": 3}, {"outage": "503", "retryAfter": -1}],
)
async def test_a_wrong_wish_changes_nothing(benevity: Simulated, wish: object) -> None:
    before = (await benevity.request("GET", "/_faults")).json
    assert (await benevity.request("POST", "/_faults", json=wish)).status == 400
    assert (await benevity.request("GET", "/_faults")).json == before
