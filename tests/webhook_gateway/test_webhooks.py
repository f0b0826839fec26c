"""Webhooks over a real socket, the ledger's twin behind."""

import asyncio
import gzip
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from multidict import CIMultiDict
from structlog.testing import capture_logs

from delivery_log.memory.state import DeliveryRecord
from tests.servers import eventually
from tests.webhook_gateway.conftest import KEY, Gateway, MakeGateway, PlainConnector, PlainWebhook, signature
from webhook_gateway.bodies import LARGEST_BODY
from webhook_gateway.webhooks import status_event_id

pytestmark = pytest.mark.fast

CONFIRMED = {"transaction": "t1", "status": "confirmed"}
INVALID = (401, {"error": "Invalid signature"})
RECEIVED = (200, {"received": True})
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def delivered(transaction: str) -> DeliveryRecord:
    now = datetime.now(UTC)
    return DeliveryRecord(
        id=uuid4(),
        event_id=uuid4(),
        company_id=uuid4(),
        platform="plain",
        organization_id="org",
        content_hash="c" * 64,
        seq=1,
        traceparent=TRACE,
        created_at=now,
        updated_at=now,
        published_at=now,
        status="delivered",
        outcome="delivered",
        transaction_id=transaction,
    )


async def test_a_signed_webhook_is_stored_as_it_came(gateway: Gateway) -> None:
    raw = b' {"transaction": "t1",\n "status": "confirmed", "message": "ok"}'
    assert await gateway.post(raw=raw, traceparent=TRACE) == RECEIVED
    (event,) = gateway.stored
    assert (event.platform, event.transaction_id, event.platform_status) == ("plain", "t1", "confirmed")
    assert (event.payload, event.error_message, event.traceparent) == (raw.decode(), "ok", TRACE)
    assert event.id == status_event_id("plain", raw)
    assert gateway.watch.received == ["plain"]


async def test_a_webhook_sent_again_is_acknowledged_and_counts_once(gateway: Gateway) -> None:
    assert await gateway.post(CONFIRMED) == RECEIVED
    assert await gateway.post(CONFIRMED, x_sent_again="yes") == RECEIVED
    assert (len(gateway.stored), gateway.watch.received, gateway.watch.repeated) == (1, ["plain"], ["plain"])


async def test_no_answer_before_the_commit(gateway: Gateway) -> None:
    gateway.status_log.open.clear()
    answer = asyncio.create_task(gateway.post(CONFIRMED))
    await eventually(lambda: gateway.status_log.calls == [1])
    assert not answer.done()
    assert gateway.stored == []
    gateway.status_log.open.set()
    assert await answer == RECEIVED


async def test_what_comes_during_a_commit_goes_together_with_the_next(gateway: Gateway) -> None:
    gateway.status_log.open.clear()
    first = asyncio.create_task(gateway.post({"transaction": "t0"}))
    await eventually(lambda: gateway.status_log.calls == [1])
    rest = [asyncio.create_task(gateway.post({"transaction": f"t{n}"})) for n in range(1, 9)]
    seen = gateway.client.server.handler
    assert seen is not None
    await eventually(lambda: seen.requests_count >= 9)
    gateway.status_log.open.set()
    assert await asyncio.gather(first, *rest) == [RECEIVED] * 9
    assert gateway.status_log.calls[0] == 1
    assert sum(gateway.status_log.calls) == 9
    assert len(gateway.status_log.calls) <= 3


async def test_while_the_ledger_is_away_nothing_is_acknowledged_and_then_it_goes_on(gateway: Gateway) -> None:
    gateway.status_log.away = True
    async with gateway.client.post(
        "/webhooks/plain", json=CONFIRMED, headers={"X-Signature": signature(json.dumps(CONFIRMED).encode())}
    ) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.content_type == "application/problem+json"
    assert await gateway.post(CONFIRMED, x_signature="f" * 64) == INVALID
    gateway.status_log.away = False
    assert await gateway.post(CONFIRMED) == RECEIVED
    assert gateway.watch.received == ["plain"]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"x_signature": "f" * 64}, "mismatch"),
        ({"x_signature": signature(b"other")}, "mismatch"),
        ({"x_signature": ""}, "mismatch"),
        ({"x_signature": "crash"}, "malformed"),
        ({"x_signature": "é"}, "malformed"),
    ],
)
async def test_every_rejection_is_the_same_401_and_never_reaches_the_ledger(
    gateway: Gateway, headers: dict[str, str], reason: str
) -> None:
    with capture_logs() as logs:
        assert await gateway.post(CONFIRMED, **headers) == INVALID
    assert gateway.status_log.calls == []
    assert gateway.watch.failed == [("plain", reason)]
    assert {"event": "webhook.rejected", "log_level": "info", "platform": "plain", "reason": reason} in logs


async def test_a_second_signature_header_is_seen_by_the_verifier(gateway: Gateway) -> None:
    raw = json.dumps(CONFIRMED).encode()
    headers = CIMultiDict([("Content-Type", "application/json"), *[("X-Signature", signature(raw))] * 2])
    async with gateway.client.post("/webhooks/plain", data=raw, headers=headers) as answer:
        assert (answer.status, await answer.json()) == INVALID
    assert gateway.watch.failed == [("plain", "ambiguous")]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no json",
        b"[]",
        b'{"status": "confirmed"}',
        b'{"transaction": "a\\u0000b"}',
        b'{"transaction": "a\\ud800b"}',
        b'{"transaction": "t", "extra": NaN}',
        b'{"transaction": "t", "extra": 1e99999}',
        b'{"transaction": "t", "extra": ' + b"9" * 5_000 + b"}",
        b'{"transaction": "t", "extra": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"transaction": "\xff"}',
        b'{"transaction": "' + b"t" * 600 + b'"}',
        b'{"transaction": "t", "status": "made up"}',
    ],
)
async def test_a_signed_body_that_does_not_fit_is_a_400_that_quotes_nothing(gateway: Gateway, raw: bytes) -> None:
    status, problem = await gateway.post(raw=raw)
    assert (status, problem["status"], problem["title"]) == (400, 400, "Bad Request")
    assert "made up" not in problem["detail"]
    assert gateway.stored == []


async def test_the_parsers_reason_reaches_the_sender(gateway: Gateway) -> None:
    _, problem = await gateway.post({"status": "confirmed"})
    assert problem["detail"] == "transaction is missing"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "multipart/form-data", ""]
)
async def test_only_json_is_taken(gateway: Gateway, kind: str) -> None:
    status, problem = await gateway.post(CONFIRMED, Content_Type=kind)
    assert (status, problem["title"]) == (415, "Unsupported Media Type")


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/cloudevents+json"]
)
async def test_json_by_any_of_its_names_is_taken(gateway: Gateway, kind: str) -> None:
    assert await gateway.post(CONFIRMED, Content_Type=kind) == RECEIVED


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity", "made-up"])
async def test_no_content_encoding_is_taken_even_when_its_bytes_are_signed(gateway: Gateway, encoding: str) -> None:
    plain = json.dumps(CONFIRMED).encode()
    packed = gzip.compress(plain)
    status, _ = await gateway.post(raw=packed, Content_Encoding=encoding, x_signature=signature(plain))
    assert status == 415
    assert (gateway.stored, gateway.watch.failed) == ([], [])


async def test_64_kib_are_taken_and_one_byte_more_is_not(gateway: Gateway) -> None:
    raw = b'{"transaction": "t1", "fill": "%s"}'
    exact = raw % (b"x" * (LARGEST_BODY - len(raw) + 2))
    assert len(exact) == LARGEST_BODY
    assert await gateway.post(raw=exact) == RECEIVED
    status, _ = await gateway.post(raw=exact + b" ")
    assert status == 413


async def test_a_body_without_a_length_is_bounded_all_the_same(gateway: Gateway) -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 8_192

    async with gateway.client.post(
        "/webhooks/plain", data=endless(), headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 413
    assert await gateway.post(CONFIRMED) == RECEIVED


async def test_a_chunked_body_is_verified_as_a_whole(gateway: Gateway) -> None:
    raw = json.dumps(CONFIRMED).encode()

    async def byte_by_byte() -> Any:
        for index in range(len(raw)):
            yield raw[index : index + 1]

    headers = {"Content-Type": "application/json", "X-Signature": signature(raw)}
    async with gateway.client.post("/webhooks/plain", data=byte_by_byte(), headers=headers) as answer:
        assert answer.status == 200


async def test_a_body_that_does_not_come_is_given_up(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(body_timeout=0.1)
    reader, writer = await asyncio.open_connection(gateway.client.host, gateway.client.port)
    writer.write(
        b"POST /webhooks/plain HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 100\r\n\r\n{"transac'
    )
    line = await asyncio.wait_for(reader.readline(), 5)
    assert line.startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_an_unknown_platform_is_not_found(gateway: Gateway) -> None:
    for platform in ("nobody", "PLAIN", "health/more", "%00"):
        status, problem = await gateway.post(CONFIRMED, platform=platform)
        assert (status, problem["title"], problem["type"]) == (404, "Not Found", "about:blank")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/webhooks/plain", {"POST"}),
        ("POST", "/webhooks/health", {"GET", "HEAD"}),
        ("PUT", "/health", {"GET", "HEAD"}),
    ],
)
async def test_another_method_is_told_what_is_allowed(
    gateway: Gateway, method: str, path: str, allowed: set[str]
) -> None:
    async with gateway.client.request(method, path) as answer:
        assert answer.status == 405
        assert set(answer.headers["Allow"].split(",")) == allowed
        assert answer.content_type == "application/problem+json"


async def test_a_platform_without_a_secret_is_unavailable_whatever_is_signed(gateway: Gateway) -> None:
    status, problem = await gateway.post(CONFIRMED, platform="other", x_signature=signature(b"", b""))
    assert (status, problem["title"]) == (503, "Service Unavailable")


@pytest.mark.parametrize(
    ("keys", "is_production", "status"),
    [
        ([b"short"], False, 200),
        ([b"short"], True, 503),
        ([KEY, b"short"], True, 503),
        ([KEY], True, 200),
        ([b""], False, 503),
        ([], False, 503),
    ],
)
async def test_a_weak_secret_is_none_in_production(
    make_gateway: MakeGateway, keys: list[bytes], is_production: bool, status: int
) -> None:
    gateway = await make_gateway(webhook_secrets={"plain": keys}, is_production=is_production)
    raw = json.dumps(CONFIRMED).encode()
    answer, _ = await gateway.post(raw=raw, x_signature=signature(raw, keys[0] if keys else b""))
    assert answer == status
    async with gateway.client.get("/webhooks/health") as health:
        assert (await health.json())["platforms"]["plain"] == {"configured": status == 200}


async def test_every_configured_secret_is_accepted(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(webhook_secrets={"plain": [b"old-secret", b"new-secret"]})
    for key in (b"old-secret", b"new-secret"):
        raw = json.dumps({"transaction": key.decode()}).encode()
        assert await gateway.post(raw=raw, x_signature=signature(raw, key)) == RECEIVED


@pytest.mark.parametrize("value", ["nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "é"])
async def test_a_traceparent_that_is_none_is_left_out(gateway: Gateway, value: str) -> None:
    assert await gateway.post(CONFIRMED, traceparent=value) == RECEIVED
    assert gateway.stored[0].traceparent is None


async def test_a_webhook_leaves_one_line_without_its_content(gateway: Gateway) -> None:
    with capture_logs() as logs:
        await gateway.post({"transaction": "t1", "status": "rejected", "message": "PLANTED", "more": "PLANTED"})
    (line,) = [entry for entry in logs if entry["event"].startswith("webhook.")]
    assert line == {
        "event": "webhook.received",
        "log_level": "info",
        "platform": "plain",
        "event_type": "changed",
        "status_id": str(gateway.stored[0].id),
        "transaction_id": "t1",
        "repeated": False,
    }


async def test_a_bug_answers_500_and_tells_nothing(make_gateway: MakeGateway) -> None:
    class Broken(PlainWebhook):
        def parse(self, raw: bytes) -> Any:
            raise KeyError("PLANTED")

    connector = PlainConnector()
    connector.webhook = Broken()
    gateway = await make_gateway(connectors={"plain": connector})
    with capture_logs() as logs:
        status, problem = await gateway.post(CONFIRMED)
    assert (status, problem["title"]) == (500, "Internal Server Error")
    assert "PLANTED" not in json.dumps([problem, logs])


async def test_a_status_moves_its_delivery_whichever_came_first(gateway: Gateway) -> None:
    early, late = delivered("early"), delivered("late")
    gateway.status_log.state.deliveries[late.id] = late
    await gateway.post({"transaction": "early", "status": "confirmed"})
    await gateway.post({"transaction": "late", "status": "rejected", "message": "no"})
    await eventually(lambda: late.platform_status == "rejected")
    assert (late.status, late.outcome, late.error_message) == ("failed", "rejected", "no")
    assert early.platform_status is None
    gateway.status_log.state.deliveries[early.id] = early
    await eventually(lambda: early.platform_status == "confirmed")
    assert gateway.watch.linked == 2


async def test_linking_survives_a_ledger_that_was_away(gateway: Gateway) -> None:
    await gateway.post(CONFIRMED)
    gateway.status_log.away = True
    passes = gateway.status_log.links
    await eventually(lambda: gateway.status_log.links >= passes + 2)
    row = delivered("t1")
    gateway.status_log.state.deliveries[row.id] = row
    gateway.status_log.away = False
    await eventually(lambda: row.platform_status == "confirmed")


def test_a_status_events_id_is_of_platform_and_content() -> None:
    assert isinstance(status_event_id("plain", b"x"), UUID)
    assert status_event_id("plain", b"x") == status_event_id("plain", b"x")
    assert len({status_event_id("plain", b"x"), status_event_id("other", b"x"), status_event_id("plain", b"y")}) == 3
