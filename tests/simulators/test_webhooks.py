"""Webhooks, verified by a receiver of a few lines that reads contract section 5 for itself."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from impact_in.simulators.webhooks import FORMS, form_of, key_of
from tests.servers.waiting import eventually
from tests.simulators import bodies
from tests.simulators.conftest import Simulated, Start

pytestmark = pytest.mark.fast


def form_that_verifies(platform: str, headers: Mapping[str, str], body: bytes) -> str:
    """The form in which the signature is right; an AssertionError where it is right in none."""
    key = f"simulated-{platform}-webhook-secret".encode()
    given = headers.get(f"X-{platform.title()}-Signature", "")
    stamp = headers.get(f"X-{platform.title()}-Request-Timestamp")

    def digest(signed: bytes) -> bytes:
        return hmac.new(key, signed, "sha256").digest()

    if "webhook-id" in headers:
        stamp = headers["webhook-timestamp"]
        signed = f"{headers['webhook-id']}.{stamp}.".encode() + body
        assert headers["webhook-signature"] == "v1," + base64.b64encode(digest(signed)).decode()
        assert abs(time.time() - int(stamp)) < 5
        return "standard"
    if platform == "benevity" and given.startswith("t="):
        stamp, signature = given.removeprefix("t=").split(",v1=")
        assert signature == digest(f"{stamp}.".encode() + body).hex()
        assert abs(time.time() - int(stamp)) < 5
        return "timestamped"
    if platform == "workday" and stamp is not None:
        assert base64.b64decode(given) == digest(f"{stamp}:".encode() + body)
        assert abs(time.time() - datetime.fromisoformat(stamp).timestamp()) < 5
        return "timestamped"
    if platform == "goodera" and stamp is not None:
        assert given == "sha256=" + digest(f"{stamp}.".encode() + body).hex()
        assert abs(time.time() - int(stamp)) < 5
        return "timestamped"
    assert given == "sha256=" + digest(body).hex()
    return "plain"


@dataclass
class Gateway:
    """Takes webhooks in; `statuses` are answered first, one each, then 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    arrived: asyncio.Queue[tuple[str, str, dict[str, Any]]] = field(default_factory=asyncio.Queue)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        platform = request.match_info["platform"]
        form = form_that_verifies(platform, request.headers, body)
        self.arrived.put_nowait((platform, form, json.loads(body)))
        return web.json_response({}, status=self.statuses.pop(0) if self.statuses else 200)

    async def next(self) -> tuple[str, str, dict[str, Any]]:
        async with asyncio.timeout(10):
            return await self.arrived.get()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    found = Gateway()
    app = web.Application()
    app.router.add_post("/webhooks/{platform}", found.take)
    async with TestServer(app) as server:
        found.url = str(server.make_url("/")).rstrip("/")
        yield found


async def _started(start: Start, gateway: Gateway, *arguments: str) -> dict[str, Simulated]:
    return await start("--webhook-url", gateway.url, "--webhook-delay-ms", "1", *arguments)


async def test_benevity_tells_of_success(start: Start, gateway: Gateway) -> None:
    simulated = (await _started(start, gateway))["benevity"]
    answer = await simulated.post(bodies.BENEVITY, bodies.benevity("org-7"))
    _, _, body = await gateway.next()
    assert body.pop("timestamp").endswith("Z")
    assert body == {
        "event_type": "delivery.success",
        "transaction_id": answer.json["transactionId"],
        "organization_id": "org-7",
        "status": "success",
    }


async def test_goodera_tells_of_a_batch_by_its_batch_id_in_two_steps(start: Start, gateway: Gateway) -> None:
    simulated = (await _started(start, gateway))["goodera"]
    answer = await simulated.post(bodies.GOODERA_BATCH, {"records": [bodies.goodera()] * 3})
    first, second = [(await gateway.next())[2] for _ in range(2)]
    assert [first["eventType"], second["eventType"]] == ["data.received", "data.processed"]
    assert first["transactionId"] == second["transactionId"] == answer.json["batchId"]
    assert second["recordsProcessed"] == 3
    assert second["projectId"] == "program-1"


async def test_workday_tells_of_each_activity_and_enrolment(start: Start, gateway: Gateway) -> None:
    simulated = (await _started(start, gateway))["workday"]
    answer = await simulated.post(bodies.WORKDAY, bodies.workday(activity="activity-1"))
    first, second = [(await gateway.next())[2] for _ in range(2)]
    assert (first["eventType"], first["activityId"]) == ("activity.created", "activity-1")
    assert second["eventType"] == "enrollment.confirmed"
    assert second["enrollmentId"].startswith("ENR-")
    for body in (first, second):
        assert (body["status"], body["transactionId"]) == ("success", answer.json["transactionId"])


@pytest.mark.parametrize("choice", ["mixed", "all", "standard", "plain", "timestamped"])
async def test_every_form_of_signature_is_met(start: Start, gateway: Gateway, choice: str) -> None:
    platforms = await _started(start, gateway, "--webhook-form", choice)
    for _ in range(20):
        await platforms["benevity"].post(bodies.BENEVITY, bodies.benevity())
        await platforms["goodera"].post(bodies.GOODERA, bodies.goodera())
        await platforms["workday"].post(bodies.WORKDAY, bodies.workday())
    met: dict[str, set[str]] = {}
    for _ in range(20 * 5):
        platform, form, body = await gateway.next()
        met.setdefault(platform, set()).add(form)
        transaction = body.get("transactionId") or body["transaction_id"]
        assert form == form_of(transaction, choice)
    expected = {"mixed": set(FORMS[:2]), "all": set(FORMS)}.get(choice, {choice})
    assert met == {"benevity": expected, "goodera": expected, "workday": expected}


async def test_a_webhook_comes_again_until_it_is_acknowledged(start: Start, gateway: Gateway) -> None:
    gateway.statuses = [503, 401]
    simulated = (await _started(start, gateway))["benevity"]
    await simulated.post(bodies.BENEVITY, bodies.benevity())
    tries = [await gateway.next() for _ in range(3)]
    assert tries[0] == tries[1] == tries[2]  # the same body and form; the receiver checked each timestamp

    async def acknowledged() -> bool:
        counts = (await simulated.received())["webhooks"]
        return bool(counts == {"sent": 3, "acknowledged": 1, "failed": 0, "pending": 0})

    await eventually(acknowledged)


async def test_a_repeated_request_is_announced_once(start: Start, gateway: Gateway) -> None:
    simulated = (await _started(start, gateway))["benevity"]
    for key in ("k", "k", "last"):
        await simulated.post(bodies.BENEVITY, bodies.benevity(), key=key)
    announced = {(await gateway.next())[2]["transaction_id"] for _ in range(2)}
    keys = (await simulated.received())["keys"]
    assert announced == {keys["k"]["transactionId"], keys["last"]["transactionId"]}
    assert (await simulated.received())["webhooks"]["sent"] == 2


async def test_what_is_rejected_by_webhook_says_so_on_every_platform(start: Start, gateway: Gateway) -> None:
    platforms = await _started(start, gateway, "--reject-share", "1")
    await platforms["benevity"].post(bodies.BENEVITY, bodies.benevity(), key="k")
    body = (await gateway.next())[2]
    assert body["event_type"] == "delivery.failed"
    assert body["error_message"]
    await platforms["goodera"].post(bodies.GOODERA, bodies.goodera(), key="k")
    assert [(await gateway.next())[2]["eventType"] for _ in range(2)] == ["data.received", "data.failed"]
    await platforms["workday"].post(bodies.WORKDAY, bodies.workday(), key="k")
    assert [(await gateway.next())[2]["status"] for _ in range(2)] == ["error", "error"]
    for simulated in platforms.values():
        history = (await simulated.received())["keys"]["k"]
        assert (history["effects"], history["rejected"]) == (1, True)


async def test_a_webhook_that_cannot_be_sent_stays_pending(start: Start, unused_tcp_port: int) -> None:
    simulated = (await start("--webhook-url", f"http://127.0.0.1:{unused_tcp_port}"))["benevity"]
    await simulated.post(bodies.BENEVITY, bodies.benevity())

    async def tried() -> bool:
        counts = (await simulated.received())["webhooks"]
        return bool(counts["sent"] >= 1 and counts["pending"] == 1)

    await eventually(tried)


def test_a_secret_is_its_bytes_or_base64_after_whsec() -> None:
    assert key_of("plain,other") == b"plain"
    assert key_of("whsec_" + base64.b64encode(b"bytes").decode()) == b"bytes"
    with pytest.raises(ValueError, match=r"base64|character"):
        key_of("whsec_*")
