"""Records to `{GOODERA_API_URL}/impact-data`, one alone, or `/impact-data/batch`, several (contract, section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from connectors.answers import AnswerReader
from connectors.contract import Ordering, Outcome, RateLimits, Shipment, Webhook
from connectors.goodera import answers, payload
from connectors.goodera.webhook import GooderaWebhook
from connectors.http_client import HttpClient, checked_header, checked_url
from connectors.redaction import credential_texts
from connectors.request_headers import request_headers
from schemas.event import ImpactMetricEvent

MAX_BATCH = 100


@dataclass(frozen=True, slots=True)
class GooderaSettings:
    """`url` is the API's base, to which `/impact-data` is appended; `request_timeout` in seconds."""

    api_key: str = field(repr=False)
    url: str = field(repr=False)
    request_timeout: float = 30.0
    max_connections: int = 100
    batch_size: int = MAX_BATCH


class GooderaConnector:
    """Raises ValueError, naming the setting and quoting nothing, where the settings cannot be used."""

    name: str = "goodera"
    ordering: Ordering = "additive"
    limits = RateLimits(per_minute=100)
    batch_size: int
    webhook: Webhook = GooderaWebhook()

    def __init__(self, settings: GooderaSettings) -> None:
        if not 1 <= settings.batch_size <= MAX_BATCH:
            raise ValueError(f"batch_size must be 1 to {MAX_BATCH}")
        self.batch_size = settings.batch_size
        base = checked_url(settings.url, "GOODERA_API_URL")
        self._single_url = base / "impact-data"
        self._batch_url = self._single_url / "batch"
        self._headers = {
            "Content-Type": "application/json",
            "X-API-Key": checked_header(settings.api_key, "GOODERA_API_KEY"),
            "X-API-Version": "1.0",
        }
        credentials = credential_texts(settings.api_key)
        self._answers = AnswerReader(answers.CODES, lambda: credentials)
        self._http = HttpClient(request_timeout=settings.request_timeout, max_connections=settings.max_connections)

    def quota_scope(self, organization_id: str) -> str:
        return ""

    def understands(self, event: ImpactMetricEvent) -> bool:
        return bool(event.metrics)

    def body(self, event: ImpactMetricEvent, organization_id: str, generation: int) -> bytes:
        return payload.body(event, organization_id)

    async def send(self, shipments: Sequence[Shipment], idempotency_key: UUID) -> list[Outcome]:
        headers = request_headers(self._headers, idempotency_key, shipments[0].traceparent)
        if len(shipments) == 1:
            result = await self._http.post(self._single_url, shipments[0].body, headers)
            return [answers.single(self._answers, result, shipments)]
        records = payload.batch([shipment.body for shipment in shipments])
        result = await self._http.post(self._batch_url, records, headers)
        return answers.batch(self._answers, result, shipments)

    async def close(self) -> None:
        await self._http.close()
