"""One event a request to `{WORKDAY_API_URL}/volunteer-management/v1/activities` (contract, section 4).

One time limit covers all that a delivery takes: waiting for a token, the request, and after a rejected token (401 or
`AUTH_INVALID`) another token and one repeat under the same key.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from connectors.answers import AnswerReader
from connectors.contract import CredentialsRejected, Ordering, Outcome, RateLimits, Shipment, Webhook
from connectors.http_client import HttpClient, checked_header, checked_url
from connectors.redaction import credential_texts
from connectors.request_headers import request_headers
from connectors.workday import payload
from connectors.workday.answers import CODES
from connectors.workday.token import OnRefresh, TokenCache, TokenRequest
from connectors.workday.webhook import WorkdayWebhook
from schemas.event import ImpactMetricEvent


@dataclass(frozen=True, slots=True)
class WorkdaySettings:
    """`url` is the API's base; `token_url` None: `/oauth2/token` on its host. `request_timeout` in seconds."""

    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    tenant_id: str
    url: str = field(repr=False)
    token_url: str | None = field(default=None, repr=False)
    request_timeout: float = 30.0
    max_connections: int = 100


class WorkdayConnector:
    """Raises ValueError, naming the setting and quoting nothing, where the settings cannot be used.

    `on_refresh` is told the result of every token refresh.
    """

    name: str = "workday"
    ordering: Ordering = "keyed"
    limits = RateLimits(per_second=10)
    batch_size: int = 1
    webhook: Webhook = WorkdayWebhook()

    def __init__(self, settings: WorkdaySettings, *, on_refresh: OnRefresh | None = None) -> None:
        if not settings.client_id or not settings.client_secret:
            raise ValueError("WORKDAY_CLIENT_ID and WORKDAY_CLIENT_SECRET must not be empty")
        base = checked_url(settings.url, "WORKDAY_API_URL")
        self._url = base / "volunteer-management/v1/activities"
        token_url = (
            base.origin() / "oauth2/token"
            if settings.token_url is None
            else checked_url(settings.token_url, "WORKDAY_TOKEN_URL")
        )
        self._headers = {
            "Content-Type": "application/json",
            "X-Workday-Tenant": checked_header(settings.tenant_id, "WORKDAY_TENANT_ID"),
        }
        self._timeout = settings.request_timeout
        self._http = HttpClient(request_timeout=settings.request_timeout, max_connections=settings.max_connections)
        self._tokens = TokenCache(
            TokenRequest(self._http, token_url, settings.client_id, settings.client_secret),
            on_refresh=on_refresh,
        )
        self._fixed_credentials = credential_texts(settings.client_id, settings.client_secret)
        self._answers = AnswerReader(CODES, self._credentials)

    def quota_scope(self, organization_id: str) -> str:
        return ""

    def understands(self, event: ImpactMetricEvent) -> bool:
        return payload.understands(event)

    def body(self, event: ImpactMetricEvent, organization_id: str, generation: int) -> bytes:
        return payload.body(event, organization_id, generation)

    async def send(self, shipments: Sequence[Shipment], idempotency_key: UUID) -> list[Outcome]:
        (shipment,) = shipments
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        headers = request_headers(self._headers, idempotency_key, shipment.traceparent)
        token = await self._tokens.get(self._timeout)
        if not isinstance(token, str):
            return [token]
        outcome = await self._post(shipment, headers, token, deadline - clock())
        if isinstance(outcome, CredentialsRejected):
            fresh = await self._tokens.renew(token, deadline - clock())
            if not isinstance(fresh, str):
                return [fresh]
            outcome = await self._post(shipment, headers, fresh, deadline - clock())
        return [outcome]

    async def close(self) -> None:
        await self._tokens.close()
        await self._http.close()

    async def _post(self, shipment: Shipment, headers: dict[str, str], token: str, within: float) -> Outcome:
        headers["Authorization"] = f"Bearer {token}"
        result = await self._http.post(self._url, shipment.body, headers, within=within)
        return self._answers.outcome(result, (shipment,))

    def _credentials(self) -> Iterable[str]:
        return (*self._fixed_credentials, *self._tokens.recent)
