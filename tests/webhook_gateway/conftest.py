"""A gateway under test: the real application behind a real socket, over the twins or over PostgreSQL."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from connectors.contract import PlatformStatus, SignatureRejected, StatusReport, WebhookBodyError
from delivery_log.contract import LedgerUnavailable, StatusEvent
from delivery_log.memory import MemoryState
from delivery_log.memory.inspection import MemoryInspection
from delivery_log.memory.statuses import MemoryStatusLog
from webhook_gateway import GatewayDependencies, build_app

KEY = b"a-secret-of-thirty-two-bytes-...."
NOW = 1_795_500_000.0


class PlainWebhook:
    """A platform with the plainest form: hex over the body in one header, the body's fields as they are."""

    def verify(self, headers: Sequence[tuple[str, str]], raw: bytes, secrets: Sequence[bytes], now: float) -> None:
        found = [value for name, value in headers if name.lower() == "x-signature"]
        if len(found) != 1:
            raise SignatureRejected("ambiguous" if found else "missing")
        if found[0] == "crash":
            raise RuntimeError("a verifier with a bug")
        if not any(hmac.compare_digest(signature(raw, key), found[0]) for key in secrets):
            raise SignatureRejected("mismatch")

    def parse(self, raw: bytes) -> StatusReport:
        body = json.loads(raw)
        if not isinstance(body, dict) or "transaction" not in body:
            raise WebhookBodyError("transaction is missing")
        return StatusReport(
            event_type="changed",
            status=PlatformStatus(body["status"]) if body.get("status") else None,
            transaction_id=body["transaction"],
            error_message=body.get("message"),
            occurred_at=datetime(2026, 11, 24, 12, tzinfo=UTC),
        )


class PlainConnector:
    webhook = PlainWebhook()


def signature(raw: bytes, key: bytes = KEY) -> str:
    return hmac.new(key, raw, hashlib.sha256).hexdigest()


@dataclass
class Watch:
    """What the observer was told."""

    received: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    linked: int = 0

    def webhook_received(self, platform: str) -> None:
        self.received.append(platform)

    def webhook_repeated(self, platform: str) -> None:
        self.repeated.append(platform)

    def webhook_verification_failed(self, platform: str, reason: str) -> None:
        self.failed.append((platform, reason))

    def statuses_linked(self, count: int) -> None:
        self.linked += count


class GatedStatusLog(MemoryStatusLog):
    """The twin with a gate before it, and with a ledger that can be away."""

    def __init__(self, state: MemoryState) -> None:
        super().__init__(state)
        self.open = asyncio.Event()
        self.open.set()
        self.away = False
        self.calls: list[int] = []
        self.links = 0

    async def record_status_events(self, events: Sequence[StatusEvent]) -> list[bool]:
        self.calls.append(len(events))
        await self.open.wait()
        if self.away:
            raise LedgerUnavailable("away")
        return await super().record_status_events(events)

    async def link_status_events(self, limit: int) -> int:
        self.links += 1
        if self.away:
            raise LedgerUnavailable("away")
        return await super().link_status_events(limit)


class GatedInspection(MemoryInspection):
    def __init__(self, status_log: GatedStatusLog) -> None:
        super().__init__(status_log.state)
        self._status_log = status_log

    async def ping(self) -> None:
        if self._status_log.away:
            raise LedgerUnavailable("away")


@dataclass
class Gateway:
    client: "TestClient[Any, Any]"
    status_log: GatedStatusLog
    watch: Watch

    @property
    def stored(self) -> list[StatusEvent]:
        return [record.event for record in self.status_log.state.status_events.values()]

    async def post(
        self, body: Any = None, *, raw: bytes | None = None, platform: str = "plain", **headers: str
    ) -> tuple[int, Any]:
        """Signed, unless a header `x_signature` says otherwise. Status and JSON body of the answer."""
        data = raw if raw is not None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", "X-Signature": signature(data)}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(f"/webhooks/{platform}", data=data, headers=sent) as answer:
            return answer.status, await answer.json(content_type=None)


MakeGateway = Callable[..., Any]


@pytest.fixture
async def make_gateway() -> AsyncIterator[MakeGateway]:
    """`await make_gateway(**changes of GatewayDependencies)` → a running Gateway over the twins."""
    clients: list[TestClient[Any, Any]] = []

    async def make(**changes: Any) -> Gateway:
        status_log = changes.pop("status_log", None) or GatedStatusLog(MemoryState())
        watch = Watch()
        values: dict[str, Any] = {
            "status_log": status_log,
            "inspection": GatedInspection(status_log) if isinstance(status_log, GatedStatusLog) else None,
            "connectors": {"plain": PlainConnector(), "other": PlainConnector()},
            "webhook_secrets": {"plain": [KEY]},
            "observer": watch,
            "clock": lambda: NOW,
            "link_interval": 0.02,
        }
        server = TestServer(build_app(GatewayDependencies(**(values | changes))))
        await server.start_server(auto_decompress=False, access_log=None)
        client = TestClient(server)
        await client.start_server()
        clients.append(client)
        return Gateway(client, status_log, watch)

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
async def gateway(make_gateway: MakeGateway) -> Gateway:
    made: Gateway = await make_gateway()
    return made
