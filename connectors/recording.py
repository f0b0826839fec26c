"""A platform in memory: for the heart's tests, and for yours.

    platform = RecordingConnector(script=[Unavailable(http_status=503), Accepted(transaction_id="t-1")])
    ...
    await platform.until(requests=2)        # waits for a signal, not for a time
    assert platform.effects == {delivery_id: 1}

`script` says what becomes of a shipment: a function of it, asynchronous or not, or a list that is used up, one outcome
a shipment. Without one, and when the list is empty, everything is accepted. An outcome that is `Accepted` has its
effect; to have the effect without the good answer, or the other way round, script a `Scripted(outcome, effect=...)`.
What a script raises, `send` raises.

Like a platform that honours `Idempotency-Key` it answers a key that had its effect with the same acceptance and no
second effect; with `honours_keys=False` every request counts. Another body under such a key, and another list of
shipments under a batch's, is written down in `conflicts`: the heart must never send one.

A request with several shipments is first put to `whole`, which answers for all of them or, with None, leaves them to
`script`.
"""

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from connectors import signatures, webhook_body
from connectors.contract import Accepted, Ordering, Outcome, PlatformStatus, RateLimits, Shipment, StatusReport, Webhook
from connectors.json_body import encode, number, timestamp, to_unscaled
from schemas.event import ImpactMetricEvent


class Scripted(msgspec.Struct, frozen=True):
    """An answer, and whether the platform applied the shipment, where the one does not follow from the other."""

    outcome: Outcome
    effect: bool


class Request(msgspec.Struct, frozen=True):
    """One call of `send`."""

    shipments: tuple[Shipment, ...]
    idempotency_key: UUID
    sent_at: float
    """The loop's time."""


Answered = Outcome | Scripted
Script = Callable[[Shipment], Answered | Awaitable[Answered]] | Iterable[Answered]
Whole = Callable[[Sequence[Shipment]], Answered | None]


class RecordingConnector:
    webhook: Webhook

    def __init__(
        self,
        name: str = "benevity",
        ordering: Ordering = "keyed",
        batch_size: int = 1,
        script: Script | None = None,
        *,
        honours_keys: bool = True,
        whole: Whole = lambda shipments: None,
        understands: Callable[[ImpactMetricEvent], bool] = lambda event: bool(event.metrics),
    ) -> None:
        self.name = name
        self.ordering: Ordering = ordering
        self.batch_size = batch_size
        self.webhook = RecordingWebhook()
        self.limits = RateLimits()
        self.honours_keys = honours_keys
        self.requests: list[Request] = []
        self.effects: Counter[UUID] = Counter()
        """Delivery id → how often the platform applied it."""
        self.conflicts: list[Shipment] = []
        self.closed = False
        self._understands = understands
        self._whole = whole
        self._batches: dict[UUID, tuple[tuple[UUID, bytes], ...]] = {}
        self._ask = script if callable(script) else None
        self._list = iter(()) if script is None or callable(script) else iter(script)
        self._applied: dict[tuple[UUID, UUID], tuple[bytes, Accepted]] = {}
        self._arrived = asyncio.Condition()

    @property
    def shipments(self) -> list[Shipment]:
        """All that was sent, in order, repetitions too."""
        return [shipment for request in self.requests for shipment in request.shipments]

    async def until(self, *, requests: int) -> None:
        """Returns once that many requests have arrived (they may not be answered yet)."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= requests)

    def quota_scope(self, organization_id: str) -> str:
        return organization_id

    def understands(self, event: ImpactMetricEvent) -> bool:
        return self._understands(event)

    def body(self, event: ImpactMetricEvent, organization_id: str, generation: int) -> bytes:
        return encode(
            {
                "eventId": str(event.event_id),
                "organizationId": organization_id,
                "generation": generation,
                "metrics": [
                    {"metric": entry.metric, "value": number(to_unscaled(entry.value)), "unit": entry.unit}
                    for entry in event.metrics
                ],
                "timestamp": timestamp(event),
            }
        )

    async def send(self, shipments: Sequence[Shipment], idempotency_key: UUID) -> list[Outcome]:
        if not 1 <= len(shipments) <= self.batch_size:
            raise ValueError(f"{len(shipments)} shipments in a request of 1 to {self.batch_size}")
        sent_at = asyncio.get_running_loop().time()
        async with self._arrived:
            self.requests.append(Request(tuple(shipments), idempotency_key, sent_at))
            self._arrived.notify_all()
        if len(shipments) == 1:
            return [await self._answer(shipments[0], idempotency_key)]
        content = tuple((shipment.delivery_id, shipment.body) for shipment in shipments)
        if self._batches.setdefault(idempotency_key, content) != content:
            self.conflicts.extend(shipments)
        answered = self._whole(shipments)
        return [await self._answer(shipment, idempotency_key, answered) for shipment in shipments]

    async def close(self) -> None:
        self.closed = True

    async def _answer(self, shipment: Shipment, key: UUID, of_all: Answered | None = None) -> Outcome:
        before = self._applied.get((key, shipment.delivery_id)) if self.honours_keys else None
        if before is not None:
            body, accepted = before
            if body != shipment.body:
                self.conflicts.append(shipment)
            return accepted
        answered = await self._scripted(shipment) if of_all is None else of_all
        if isinstance(answered, Scripted):
            outcome, effect = answered.outcome, answered.effect
        else:
            outcome, effect = answered, isinstance(answered, Accepted)
        if effect:
            self.effects[shipment.delivery_id] += 1
            accepted = (
                outcome if isinstance(outcome, Accepted) else self._accepted(shipment)
            )  # what a repetition will hear
            self._applied[key, shipment.delivery_id] = (shipment.body, accepted)
        return outcome

    async def _scripted(self, shipment: Shipment) -> Answered:
        if self._ask is not None:
            answered = self._ask(shipment)
            return await answered if inspect.isawaitable(answered) else answered
        return next(self._list, None) or self._accepted(shipment)

    def _accepted(self, shipment: Shipment) -> Accepted:
        return Accepted(http_status=200, transaction_id=f"{self.name}-{shipment.delivery_id}-{shipment.generation}")


class _Body(msgspec.Struct):
    status: Literal["received", "confirmed", "rejected"]
    transaction_id: str
    timestamp: str


_decoder = msgspec.json.Decoder(_Body)


class RecordingWebhook:
    """`X-Recording-Signature: sha256={hex}` over the body, or Standard Webhooks.

    The body: `{status: received | confirmed | rejected, transaction_id, timestamp}`.
    """

    def verify(self, headers: Sequence[tuple[str, str]], raw: bytes, secrets: Sequence[bytes], now: float) -> None:
        signatures.verify(headers, raw, secrets, now, {"x-recording-signature": _claim})

    def parse(self, raw: bytes) -> StatusReport:
        body = webhook_body.read(_decoder, raw)
        return StatusReport(
            event_type=f"recording.{body.status}",
            status=PlatformStatus(body.status),
            transaction_id=webhook_body.identity(body.transaction_id, "transaction_id"),
            occurred_at=webhook_body.moment(body.timestamp),
        )

    @staticmethod
    def signed(
        status: PlatformStatus, transaction_id: str, occurred_at: datetime, key: bytes
    ) -> tuple[list[tuple[str, str]], bytes]:
        """Headers and body of a webhook as this platform would send it."""
        raw = encode({"status": status.value, "transaction_id": transaction_id, "timestamp": occurred_at.isoformat()})
        return [("X-Recording-Signature", f"sha256={signatures.sign(key, raw).hex()}")], raw


def _claim(headers: signatures.Headers, value: str, raw: bytes) -> signatures.Claim:
    return signatures.Claim(raw, (signatures.from_hex(value),))
