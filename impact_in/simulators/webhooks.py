"""The platforms' status webhooks: signed anew at every try, sent until somebody acknowledges them."""

import asyncio
import base64
import contextlib
import heapq
import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import aiohttp

from impact_in.simulators import exact_json

FORMS: Final = ("timestamped", "plain", "standard")  # the platform's two, and Standard Webhooks
CHOICES: Final = {"mixed": FORMS[:2], "all": FORMS, **{form: (form,) for form in FORMS}}
_AT_ONCE = 32
_FIRST_PAUSE, _LONGEST_PAUSE, _GIVE_UP_AFTER = 0.2, 5.0, 300.0
_log = logging.getLogger("simulators.webhooks")

Signer = Callable[[str, bytes, bytes, datetime], dict[str, str]]


def key_of(secret: str) -> bytes:
    """The HMAC key of the first of several comma-separated secrets (contract section 5). Raises ValueError."""
    first = secret.split(",", 1)[0].strip()
    if first.startswith("whsec_"):
        return base64.b64decode(first.removeprefix("whsec_"), validate=True)
    return first.encode("utf-8")


def hex_signature(key: bytes, signed: bytes) -> str:
    return hmac.new(key, signed, sha256).hexdigest()


def base64_signature(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")


def standard_webhooks(key: bytes, body: bytes, now: datetime, message_id: str) -> dict[str, str]:
    unix = int(now.timestamp())
    signed = f"{message_id}.{unix}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(unix),
        "webhook-signature": f"v1,{base64_signature(key, signed)}",
    }


def form_of(transaction: str, choice: str) -> str:
    """Chosen by the transaction alone, so that every form is met, and a retry keeps its form."""
    forms = CHOICES[choice]
    return forms[sha256(transaction.encode()).digest()[0] % len(forms)]


@dataclass(slots=True)
class _Chain:
    """The statuses of one effect: the next is sent when the one before is done with."""

    transaction: str
    bodies: list[bytes]
    position: int = 0
    failures: int = 0
    give_up_at: float = 0.0


@dataclass(slots=True)
class WebhookCounts:
    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    pending: int = 0


@dataclass(slots=True)
class WebhookSender:
    """Sends to `{base}/webhooks/{platform}`; without a base, nothing. `run` does the work until cancelled."""

    platform: str
    base: str | None
    key: bytes
    sign: Signer
    form: str = "mixed"
    delay: float = 0.05
    counts: WebhookCounts = field(default_factory=WebhookCounts)
    _waiting: list[tuple[float, int, _Chain]] = field(default_factory=list)
    _pushed: int = 0
    _earlier: asyncio.Event = field(default_factory=asyncio.Event)

    def announce(self, transaction: str, statuses: list[dict[str, Any]]) -> None:
        if self.base is None or not statuses:
            return
        self.counts.pending += len(statuses)
        chain = _Chain(transaction, [exact_json.dumps(status) for status in statuses])
        self._schedule(chain, self.delay, fresh=True)

    async def run(self) -> None:
        if self.base is None:
            return
        slots = asyncio.Semaphore(_AT_ONCE)
        url = f"{self.base.rstrip('/')}/webhooks/{self.platform}"
        timeout = aiohttp.ClientTimeout(total=10)
        connector = aiohttp.TCPConnector(limit=_AT_ONCE)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as sending,
        ):
            while True:
                chain = await self._next_due()
                await slots.acquire()
                task = sending.create_task(self._send(session, url, chain))
                task.add_done_callback(lambda _: slots.release())

    def _schedule(self, chain: _Chain, pause: float, *, fresh: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        if fresh:
            chain.failures, chain.give_up_at = 0, now + pause + _GIVE_UP_AFTER
        self._pushed += 1
        heapq.heappush(self._waiting, (now + pause, self._pushed, chain))
        if self._waiting[0][2] is chain:
            self._earlier.set()

    async def _next_due(self) -> _Chain:
        while True:
            self._earlier.clear()
            pause = None
            if self._waiting:
                pause = self._waiting[0][0] - asyncio.get_running_loop().time()
                if pause <= 0:
                    return heapq.heappop(self._waiting)[2]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._earlier.wait()

    async def _send(self, session: aiohttp.ClientSession, url: str, chain: _Chain) -> None:
        body = chain.bodies[chain.position]
        now = datetime.now(UTC)  # at each try: an old timestamp would be refused
        self.counts.sent += 1
        try:
            async with session.post(
                url, data=body, headers=self._headers(chain, body, now), allow_redirects=False
            ) as answer:
                acknowledged = 200 <= answer.status < 300
                await answer.content.read(65536)
        except (aiohttp.ClientError, TimeoutError, OSError):
            acknowledged = False
        self._settle(chain, acknowledged)

    def _headers(self, chain: _Chain, body: bytes, now: datetime) -> Mapping[str, str]:
        form = form_of(chain.transaction, self.form)
        if form == "standard":
            signature = standard_webhooks(self.key, body, now, f"msg_{chain.transaction}_{chain.position}")
        else:
            signature = self.sign(form, self.key, body, now)
        return {"Content-Type": "application/json", **signature}

    def _settle(self, chain: _Chain, acknowledged: bool) -> None:
        if not acknowledged:
            chain.failures += 1
            pause = min(_FIRST_PAUSE * 2 ** min(chain.failures - 1, 10), _LONGEST_PAUSE)
            if asyncio.get_running_loop().time() + pause < chain.give_up_at:
                self._schedule(chain, pause)
                return
            _log.warning("%s: nobody acknowledged a webhook of %s", self.platform, chain.transaction)
        self.counts.pending -= 1
        self.counts.acknowledged += acknowledged
        self.counts.failed += not acknowledged
        chain.position += 1
        if chain.position < len(chain.bodies):
            self._schedule(chain, 0.0, fresh=True)
