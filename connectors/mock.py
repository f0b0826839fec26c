"""A platform that is answered for (`{PLATFORM}_MOCK_MODE`, contract, section 1): its bodies, and nobody called."""

from collections.abc import Sequence
from uuid import UUID

from connectors.contract import Accepted, Connector, Ordering, Outcome, RateLimits, Shipment, Webhook
from schemas.event import ImpactMetricEvent

PREFIX = "mock-"


class MockConnector:
    """The platform `inner` in everything but `send`, which accepts at once under `mock-{idempotency key}`.

    The bodies are the platform's own, so that what would have been sent can be looked at and hashes alike.
    """

    name: str
    ordering: Ordering
    batch_size: int
    webhook: Webhook
    limits = RateLimits()

    def __init__(self, inner: Connector) -> None:
        self.name = inner.name
        self.ordering = inner.ordering
        self.batch_size = inner.batch_size
        self.webhook = inner.webhook
        self._inner = inner

    def quota_scope(self, organization_id: str) -> str:
        return self._inner.quota_scope(organization_id)

    def understands(self, event: ImpactMetricEvent) -> bool:
        return self._inner.understands(event)

    def body(self, event: ImpactMetricEvent, organization_id: str, generation: int) -> bytes:
        return self._inner.body(event, organization_id, generation)

    async def send(self, shipments: Sequence[Shipment], idempotency_key: UUID) -> list[Outcome]:
        # A member of a batch answers by its own key: two deliveries never share a transaction.
        return [Accepted(transaction_id=f"{PREFIX}{shipment.idempotency_key}") for shipment in shipments]

    async def close(self) -> None:
        await self._inner.close()
