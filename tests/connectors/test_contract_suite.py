"""What holds for every connector: the three against a scripted server on loopback, and the twin in memory."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from decimal import Decimal
from uuid import uuid4

import pytest

from connectors.contract import (
    Accepted,
    Connector,
    CredentialsRejected,
    Forbidden,
    Outcome,
    Refused,
    SignatureRejected,
    Throttled,
    Unavailable,
    Uncertain,
    WebhookBodyError,
)
from connectors.recording import RecordingConnector, Scripted
from tests.connectors.events import FULL, TRACEPARENT, entry, event, shipment
from tests.connectors.platforms import API_KEY, PATHS, REAL, SECRETS, connect, platform_server
from tests.connectors.scripted_server import Play, Seen, Server, answer, raw

pytestmark = pytest.mark.fast


@dataclass
class Subject:
    """A connector and a way to tell its platform what to answer."""

    connector: Connector
    says: Callable[[str], None]
    server: Server | None = None


PLAYS: dict[str, Play] = {
    "accepts": answer(200, {"success": True, "transactionId": "t-1"}),
    "refuses": answer(200, {"success": False, "error": "no", "errorCode": "NOT_THIS_ONE"}),
    "throttles": answer(429, {"success": False, "errorCode": "RATE_LIMIT"}, Retry_After="7"),
    "is down": answer(500, b"<html>oops</html>"),
    "rejects credentials": answer(401, {"success": False, "errorCode": "AUTH_INVALID"}),
    "forbids": answer(403, {"success": False, "error": "not yours"}),
    "loses the answer": raw(b""),
}
OUTCOMES: dict[str, Outcome] = {
    "accepts": Accepted(http_status=200, transaction_id="t-1"),
    "refuses": Refused(http_status=200, error_code="NOT_THIS_ONE"),
    "throttles": Throttled(http_status=429, error_code="RATE_LIMIT", after=7.0),
    "is down": Unavailable(http_status=500, error_code="HTTP_500"),
    "rejects credentials": CredentialsRejected(http_status=401, error_code="AUTH_INVALID"),
    "forbids": Forbidden(http_status=403, error_code="ORG_FORBIDDEN"),
    "loses the answer": Uncertain(error_code="CONNECTION_LOST"),
}


@pytest.fixture(params=[*REAL, "recording"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "recording":
        spoken = ["accepts"]
        twin = RecordingConnector(script=lambda _: OUTCOMES[spoken[0]])
        yield Subject(twin, lambda word: spoken.__setitem__(0, word))
        await twin.close()
        return
    async with platform_server() as server:
        connector = connect(request.param, server.url)
        yield Subject(connector, lambda word: server.plays.__setitem__(0, PLAYS[word]), server)
        await connector.close()


@pytest.mark.parametrize("word", OUTCOMES)
async def test_what_a_platform_does_is_the_outcome(subject: Subject, word: str) -> None:
    subject.says(word)
    sent = shipment(subject.connector)
    (outcome,) = await subject.connector.send([sent], sent.idempotency_key)
    expected = OUTCOMES[word]
    assert type(outcome) is type(expected)
    assert outcome.http_status == expected.http_status
    assert outcome.error_code == expected.error_code
    assert outcome.transaction_id == expected.transaction_id
    if isinstance(outcome, Throttled):
        assert outcome.after == 7.0
    if isinstance(outcome, Unavailable):
        assert not outcome.fate_known


async def test_a_body_is_pure(subject: Subject) -> None:
    connector = subject.connector
    first = connector.body(FULL, "org-1", 0)
    assert first == connector.body(FULL, "org-1", 0)
    assert first != connector.body(FULL, "org-2", 0)
    parsed = json.loads(first, parse_float=Decimal)
    assert "org-1" in first.decode()
    assert isinstance(parsed, dict)


async def test_the_name_is_lower_case_and_the_batch_has_a_size(subject: Subject) -> None:
    assert subject.connector.name == subject.connector.name.lower()
    assert subject.connector.batch_size >= 1
    assert subject.connector.ordering in ("keyed", "additive")
    assert subject.connector.understands(FULL)


async def test_closing_twice_is_harmless(subject: Subject) -> None:
    sent = shipment(subject.connector)
    await subject.connector.send([sent], sent.idempotency_key)
    await subject.connector.close()
    await subject.connector.close()


async def test_an_unsigned_webhook_is_rejected(subject: Subject) -> None:
    with pytest.raises(SignatureRejected, match="missing"):
        subject.connector.webhook.verify([], b"{}", [b"secret"], time.time())
    with pytest.raises(SignatureRejected, match="no_secret"):
        subject.connector.webhook.verify([], b"{}", [b""], time.time())


async def test_a_webhook_body_that_does_not_fit_is_named(subject: Subject) -> None:
    for body in (b"", b"[]", b"{}", b"\xff", b'{"timestamp": 1}', b"[" * 100_000):
        with pytest.raises(WebhookBodyError):
            subject.connector.webhook.parse(body)


@pytest.mark.parametrize("name", REAL)
async def test_a_request_carries_its_key_its_trace_and_its_body_as_it_stands(name: str) -> None:
    async with platform_server() as server:
        connector = connect(name, server.url)
        sent, key = shipment(connector), uuid4()
        await connector.send([sent], key)
        await connector.close()
    seen = server.seen[-1]
    assert seen.path == PATHS[name]
    assert seen.body == sent.body
    assert seen.headers["idempotency-key"] == str(key)
    assert seen.headers["traceparent"] == TRACEPARENT
    assert seen.headers["content-type"] == "application/json"
    expected = {
        "benevity": {"authorization": f"Bearer {API_KEY}", "x-api-version": "1.0"},
        "goodera": {"x-api-key": API_KEY, "x-api-version": "1.0"},
        "workday": {"authorization": "Bearer PLANTED-token-0815", "x-workday-tenant": "tenant_1"},
    }[name]
    assert expected.items() <= seen.headers.items()
    assert "x-benevity-signature" not in seen.headers


@pytest.mark.parametrize("name", REAL)
async def test_connections_are_kept(name: str) -> None:
    async with platform_server() as server:
        connector = connect(name, server.url)
        sent = shipment(connector)
        for _ in range(5):
            await connector.send([sent], sent.idempotency_key)
        await connector.close()
    assert server.connections == 1


@pytest.mark.parametrize("name", REAL)
async def test_nothing_leaks_even_when_a_platform_echoes_all_that_it_got(name: str) -> None:
    planted = event(
        entry("volunteer_hours", "321.25", "PLANTED-unit", description="PLANTED-description", category="PLANTED-cat"),
        program_name="PLANTED-program",
        program_description="PLANTED-text",
        metadata={"PLANTED-key": "PLANTED-value"},
    )

    async def echo(seen: Seen, writer: asyncio.StreamWriter) -> None:
        said = " ".join(f"{k}: {v}" for k, v in seen.headers.items() if k in ("authorization", "x-api-key"))
        said += f" 321.25 {SECRETS} " + seen.body.decode()
        await answer(400, {"success": False, "error": said, "errorCode": "PLANTED"})(seen, writer)

    async with platform_server() as server:
        server.plays[0] = echo
        connector = connect(name, server.url)
        sent = shipment(connector, planted)
        (outcome,) = await connector.send([sent], sent.idempotency_key)
        text = repr(outcome) + repr(connector)
        await connector.close()
    assert isinstance(outcome, Refused)
    own = {"benevity": (API_KEY,), "goodera": (API_KEY,), "workday": SECRETS[1:4]}[name]
    for secret in own:
        assert secret not in text
    for content in ("PLANTED-unit", "PLANTED-desc", "PLANTED-prog", "PLANTED-text", "PLANTED-val", "321.25"):
        assert content not in text
    assert len((outcome.error_message or "").encode()) <= 1024


async def test_scripts_of_the_twin_can_part_effect_and_answer() -> None:
    twin = RecordingConnector(script=[Scripted(Uncertain(), effect=True)])
    sent = shipment(twin)
    assert isinstance((await twin.send([sent], sent.idempotency_key))[0], Uncertain)
    assert isinstance((await twin.send([sent], sent.idempotency_key))[0], Accepted)
    assert twin.effects == {sent.delivery_id: 1}
