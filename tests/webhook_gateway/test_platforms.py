"""The real platforms' webhooks through the gateway, signed here by the contract's words alone (section 5)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.registry import REGISTRY
from tests.webhook_gateway.conftest import NOW, Gateway, MakeGateway

pytestmark = pytest.mark.fast

KEY = b"the-secret-of-the-platform"
UNIX = str(int(NOW))
ISO = datetime.fromtimestamp(NOW, UTC).isoformat().replace("+00:00", "Z")
TIME = "2026-11-24T06:50:00Z"

BODIES: dict[str, dict[str, Any]] = {
    "benevity": {
        "event_type": "delivery.success",
        "transaction_id": "t1",
        "organization_id": "org",
        "status": "ok",
        "timestamp": TIME,
    },
    "goodera": {
        "eventType": "data.processed",
        "transactionId": "t1",
        "projectId": "p",
        "status": "ok",
        "timestamp": TIME,
    },
    "workday": {"eventType": "activity.created", "transactionId": "t1", "status": "success", "timestamp": TIME},
}


def mac(*parts: str | bytes) -> "hmac.HMAC":
    joined = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return hmac.new(KEY, joined, hashlib.sha256)


def b64(code: "hmac.HMAC") -> str:
    return base64.b64encode(code.digest()).decode()


Sign = Callable[[bytes], dict[str, str]]

FORMS: dict[str, list[Sign]] = {
    "benevity": [
        lambda raw: {"X-Benevity-Signature": f"t={UNIX},v1={mac(UNIX, '.', raw).hexdigest()}"},
        lambda raw: {"X-Benevity-Signature": f"sha256={mac(raw).hexdigest()}"},
    ],
    "goodera": [
        lambda raw: {
            "X-Goodera-Signature": f"sha256={mac(UNIX, '.', raw).hexdigest()}",
            "X-Goodera-Request-Timestamp": UNIX,
        },
        lambda raw: {"X-Goodera-Signature": f"sha256={mac(raw).hexdigest()}"},
    ],
    "workday": [
        lambda raw: {"X-Workday-Signature": b64(mac(ISO, ":", raw)), "X-Workday-Request-Timestamp": ISO},
        lambda raw: {"X-Workday-Signature": f"sha256={mac(raw).hexdigest()}"},
    ],
}


def standard(raw: bytes) -> dict[str, str]:
    return {
        "webhook-id": "m1",
        "webhook-timestamp": UNIX,
        "webhook-signature": "v1," + b64(mac(f"m1.{UNIX}.", raw)),
    }


CASES = [
    pytest.param(platform, sign, id=f"{platform}-{number}")
    for platform in REGISTRY
    for number, sign in enumerate([*FORMS[platform], standard])
]


@pytest.fixture
async def platforms(make_gateway: MakeGateway) -> Gateway:
    gateway: Gateway = await make_gateway(connectors=REGISTRY, webhook_secrets={name: [KEY] for name in REGISTRY})
    return gateway


async def post(gateway: Gateway, platform: str, raw: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    sent = {"Content-Type": "application/json", **headers}
    async with gateway.client.post(f"/webhooks/{platform}", data=raw, headers=sent) as answer:
        return answer.status, await answer.json(content_type=None)


@pytest.mark.parametrize(("platform", "sign"), CASES)
async def test_each_form_of_each_platform_is_taken(platforms: Gateway, platform: str, sign: Sign) -> None:
    raw = json.dumps(BODIES[platform]).encode()
    assert await post(platforms, platform, raw, sign(raw)) == (200, {"received": True})
    (event,) = platforms.stored
    assert (event.platform, event.transaction_id, event.platform_status) == (platform, "t1", "confirmed")


@pytest.mark.parametrize(("platform", "sign"), CASES)
async def test_a_changed_byte_a_lost_header_or_a_mangled_one_is_a_401(
    platforms: Gateway, platform: str, sign: Sign
) -> None:
    raw = json.dumps(BODIES[platform]).encode()
    signed = sign(raw)
    attempts = [(raw.replace(b"t1", b"t2"), signed), (raw, {})]
    for name in signed:
        for value in ("", "nan", "é", "sha256=", "v1,", signed[name][:-1], signed[name] * 2, "=" * 44):
            attempts.append((raw, signed | {name: value}))
    for body, headers in attempts:
        assert await post(platforms, platform, body, headers) == (401, {"error": "Invalid signature"})
    assert platforms.status_log.calls == []
    assert len(platforms.watch.failed) == len(attempts)


@pytest.mark.parametrize("platform", list(REGISTRY))
async def test_a_signed_body_of_another_platform_does_not_fit(platforms: Gateway, platform: str) -> None:
    raw = json.dumps({"hello": "world"}).encode()
    status, problem = await post(platforms, platform, raw, FORMS[platform][1](raw))
    assert (status, problem["title"]) == (400, "Bad Request")
