"""One event a request to `BENEVITY_WEBHOOK_URL` (contract, section 4)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from connectors.answers import AnswerReader
from connectors.benevity import payload
from connectors.benevity.answers import CODES
from connectors.benevity.webhook import BenevityWebhook
from connectors.contract import Ordering, Outcome, RateLimits, Shipment, Webhook
from connectors.http_client import HttpClient, checked_header, checked_url
from connectors.redaction import credential_texts
from connectors.request_headers import request_headers
from connectors.signatures import secret_key, timestamped_header
from schemas.event import ImpactMetricEvent


@dataclass(frozen=True, slots=True)
class BenevitySettings:
    """`url` is where we POST; with `signature_secret` outgoing bodies carry `X-Benevity-Signature`.

    `request_timeout` in seconds for a whole request. Addresses stay out of the repr too: they may hold a secret.
    """

    api_key: str = field(repr=False)
    url: str = field(repr=False)
    signature_secret: str | None = field(default=None, repr=False)
    request_timeout: float = 30.0
    max_connections: int = 100


class BenevityConnector:
    """Raises ValueError, naming the setting and quoting nothing, where the settings cannot be used."""

    name: str = "benevity"
    ordering: Ordering = "keyed"
    limits = RateLimits(per_minute=100, per_day=10_000)
    batch_size: int = 1
    webhook: Webhook = BenevityWebhook()

    def __init__(self, settings: BenevitySettings) -> None:
        self._url = checked_url(settings.url, "BENEVITY_WEBHOOK_URL")
        self._headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {checked_header(settings.api_key, 'BENEVITY_API_KEY')}",
            "X-API-Version": "1.0",
        }
        self._signature_key = None if settings.signature_secret is None else secret_key(settings.signature_secret)
        credentials = credential_texts(settings.api_key, settings.signature_secret)
        self._answers = AnswerReader(CODES, lambda: credentials)
        self._http = HttpClient(request_timeout=settings.request_timeout, max_connections=settings.max_connections)

    def quota_scope(self, organization_id: str) -> str:
        return organization_id

    def understands(self, event: ImpactMetricEvent) -> bool:
        return payload.understands(event)

    def body(self, event: ImpactMetricEvent, organization_id: str, generation: int) -> bytes:
        return payload.body(event, organization_id)

    async def send(self, shipments: Sequence[Shipment], idempotency_key: UUID) -> list[Outcome]:
        (shipment,) = shipments
        headers = request_headers(self._headers, idempotency_key, shipment.traceparent)
        if self._signature_key is not None:
            # The time belongs to the request, not to the delivery: in the header, so that the body stays the same.
            headers["X-Benevity-Signature"] = timestamped_header(self._signature_key, shipment.body, int(time.time()))
        result = await self._http.post(self._url, shipment.body, headers)
        return [self._answers.outcome(result, shipments)]

    async def close(self) -> None:
        await self._http.close()
