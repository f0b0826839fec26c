"""A request that breaks contract section 4 is refused in the platform's own words, and remembered."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.simulators import bodies
from tests.simulators.conftest import Simulated

pytestmark = pytest.mark.fast
Change = Callable[[dict[str, Any]], Any]


def put(*path: str | int, value: Any) -> Change:
    def change(body: dict[str, Any]) -> None:
        inner: Any = body
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value

    return change


def drop(*path: str | int) -> Change:
    def change(body: dict[str, Any]) -> None:
        inner: Any = body
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]

    return change


BENEVITY: list[tuple[Change, str]] = [
    (drop("organizationId"), "organizationId missing"),
    (drop("programName"), "programName missing"),
    (put("organizationId", value=7), "organizationId"),
    (put("programId", value=""), "programId"),
    (put("colour", value="red"), "'colour' is no field"),
    (put("programDescription", value=None), "programDescription"),
    (put("reportingPeriod", value="January"), "reportingPeriod: an object"),
    (put("reportingPeriod", "startDate", value="2026-1-1"), "startDate: a date"),
    (put("reportingPeriod", "endDate", value="2026-02-30"), "endDate: a date"),
    (put("reportingPeriod", "endDate", value="2025-01-01"), "ends before it starts"),
    (put("timestamp", value="2026-02-01 08:00:00"), "timestamp: an RFC 3339 time"),
    (put("timestamp", value="2026-02-01T25:00:00Z"), "timestamp: an RFC 3339 time"),
    (put("metrics", value=[]), "metrics: 1 to 100"),
    (put("metrics", value={}), "metrics: an array"),
    (put("metrics", 0, "metricType", value="participants"), "metricType"),
    (put("metrics", 0, "metricUnit", value="minutes"), "hours is expected"),
    (put("metrics", 0, "metricValue", value="12.5"), "metricValue: a JSON number"),
    (put("metrics", 0, "metricValue", value=True), "metricValue: a JSON number"),
    (put("metrics", 0, "metricValue", value=-1), "may not be negative"),
    (put("metrics", 0, "metricValue", value=0.12345), "more than 4 decimals"),
    (put("metrics", 0, "metricValue", value=10**18), "too large"),
    (put("metrics", 1, "metricValue", value=1.1), "more than 1"),
    (put("metrics", 1, "metricUnit", value="level"), "score is expected"),
    (put("metrics", 1, "category", value="sessions"), "not sent as an outcome"),
    (drop("metrics", 1, "category"), "category"),
]
GOODERA: list[tuple[Change, str]] = [
    (put("projectId", value=""), "projectId: empty"),
    (put("reportingPeriod", value={"startDate": "2026-01-01", "endDate": "2026-01-31"}), "from, to missing"),
    (put("impactDimensions", value=[]), "impactDimensions: 1 to 100"),
    (put("impactDimensions", 0, "dimensionId", value="participants"), "another name"),
    (put("impactDimensions", 0, "unit", value="minutes"), "hours is expected"),
    (drop("impactDimensions", 0, "dimensionName"), "dimensionName missing"),
    (put("impactDimensions", 0, "beneficiaries", value=-3), "may not be negative"),
    (
        put(
            "impactDimensions",
            0,
            value={"dimensionId": "employability", "dimensionName": "E", "value": 101, "unit": "percentage"},
        ),
        "more than 100",
    ),
    (drop("metadata", "version"), "version missing"),
]
WORKDAY: list[tuple[Change, str]] = [
    (drop("programEnrollments"), "programEnrollments missing"),
    (put("volunteerActivities", 0, "activityType", value="hiking"), "activityType: one of"),
    (put("volunteerActivities", 0, "status", value="done"), "status: one of"),
    (put("volunteerActivities", 0, "volunteerHours", value=1.123456), "more than 5 decimals"),
    (put("volunteerActivities", 0, "activityDate", value="2026-02-01"), "outside the reporting period"),
    (drop("volunteerActivities", 0, "participantCount"), "participantCount missing"),
    (put("programEnrollments", 0, "periodEnd", value="2025-01-01"), "ends before it starts"),
    (put("programEnrollments", 0, "completionCount", value="1"), "completionCount: a JSON number"),
    (lambda body: body.update(volunteerActivities=[], programEnrollments=[]), "neither an activity"),
    (lambda body: body["volunteerActivities"].extend(body["volunteerActivities"]), "appears twice"),
    (drop("metadata", "source"), "source missing"),
]


async def _refuses(simulated: Simulated, path: str, good: Any, changes: list[tuple[Change, str]]) -> None:
    for change, reason in changes:
        body = copy.deepcopy(good)
        change(body)
        answer = await simulated.post(path, body)
        assert answer.status in (400, 404, 422), reason
        assert answer.json["success"] is False
        assert reason in answer.json["error"]
    found = await simulated.received()
    assert (found["effects"], found["sums"], found["violationCount"]) == (0, {}, len(changes))
    assert all(reason in seen["reason"] for (_, reason), seen in zip(changes, found["violations"], strict=True))


async def test_benevity_reads_strictly(benevity: Simulated) -> None:
    await _refuses(benevity, bodies.BENEVITY, bodies.benevity(), BENEVITY)


async def test_goodera_reads_strictly(goodera: Simulated) -> None:
    await _refuses(goodera, bodies.GOODERA, bodies.goodera(), GOODERA)


async def test_workday_reads_strictly(workday: Simulated) -> None:
    await _refuses(workday, bodies.WORKDAY, bodies.workday(), WORKDAY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Type", "text/plain"),
        ("X-API-Version", None),
        ("X-API-Version", "2.0"),
        ("Idempotency-Key", None),
        ("Idempotency-Key", "two words"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"),
        ("traceparent", "00-00000000000000000000000000000000-b7ad6b7169203331-01"),
    ],
)
async def test_headers_are_read_strictly(benevity: Simulated, name: str, value: str | None) -> None:
    answer = await benevity.post(bodies.BENEVITY, bodies.benevity(), **{name: value})
    assert answer.status == 400
    assert name in answer.json["error"]
    assert (await benevity.received())["violations"][0]["reason"].startswith(name)


async def test_a_request_needs_no_traceparent(benevity: Simulated) -> None:
    assert (await benevity.post(bodies.BENEVITY, bodies.benevity(), traceparent=None)).status == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"organizationId": NaN}',
        b'{"organizationId": "a", "organizationId": "b"}',
        b"1e99999999999999999999",
    ],
)
async def test_what_is_not_json_is_refused(benevity: Simulated, raw: bytes) -> None:
    assert (await benevity.post(bodies.BENEVITY, raw)).status == 400


async def test_an_enormous_exponent_costs_nothing(benevity: Simulated) -> None:
    raw = json.dumps(bodies.benevity()).replace("12.5", "1e-999999999").encode()
    assert "decimals" in (await benevity.post(bodies.BENEVITY, raw)).json["error"]
    raw = json.dumps(bodies.benevity()).replace("12.5", "1e999999999").encode()
    assert "too large" in (await benevity.post(bodies.BENEVITY, raw)).json["error"]


async def test_goodera_names_what_is_wrong_with_its_own_codes(goodera: Simulated) -> None:
    record = bodies.goodera()
    for records, status, code in (
        ([], 400, "BATCH_SIZE_EXCEEDED"),
        ([record] * 101, 400, "BATCH_SIZE_EXCEEDED"),
        ([record, {**record, "projectId": ""}], 404, "PROJECT_NOT_FOUND"),
        ([record, {**record, "impactDimensions": []}], 400, "DIMENSION_INVALID"),
    ):
        answer = await goodera.post(bodies.GOODERA_BATCH, {"records": records})
        assert (answer.status, answer.json["errorCode"]) == (status, code)


async def test_a_request_gone_astray_is_remembered(benevity: Simulated) -> None:
    assert (await benevity.post("/v1/impacts", bodies.benevity())).status == 404
    answer = await benevity.request("PUT", bodies.BENEVITY)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert (await benevity.received())["violationCount"] == 2
