"""What the gateway needs from the outside, and whom it tells."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from connectors.contract import Connector, Webhook
from delivery_log.contract import Inspection, StatusLog

HealthCheck = Callable[[], Awaitable[object]]
"""Returns where the server answers; raises, whatever it likes, where it does not."""


class HasWebhook(Protocol):
    """As much of a connector as the gateway uses, so that it can do without the platform's settings."""

    @property
    def webhook(self) -> Webhook: ...


class GatewayObserver(Protocol):
    """Told what happened; metrics hang here. Must neither block nor raise."""

    def webhook_received(self, platform: str) -> None:
        """A new status event is durable."""
        ...

    def webhook_repeated(self, platform: str) -> None:
        """A status event came again."""
        ...

    def webhook_verification_failed(self, platform: str, reason: str) -> None:
        """`reason` is one of a few words (`connectors.contract.SignatureRejected`)."""
        ...

    def statuses_linked(self, count: int) -> None: ...


class SilentObserver:
    """Tells nobody."""

    def webhook_received(self, platform: str) -> None: ...

    def webhook_repeated(self, platform: str) -> None: ...

    def webhook_verification_failed(self, platform: str, reason: str) -> None: ...

    def statuses_linked(self, count: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayDependencies:
    """`connectors`: the platforms in use, others are 404. `webhook_secrets`: HMAC keys by platform, all accepted.

    `health_checks`: the connections beside the database, by the name that `/health` shows (`redis`, `kafka`).
    `clock`: unix seconds, for signatures' times. Times are seconds.
    """

    status_log: StatusLog
    inspection: Inspection
    connectors: Mapping[str, HasWebhook] | Mapping[str, Connector]
    webhook_secrets: Mapping[str, Sequence[bytes]]
    is_production: bool = False
    health_checks: Mapping[str, HealthCheck] = field(default_factory=dict)
    observer: GatewayObserver = field(default_factory=SilentObserver)
    clock: Callable[[], float] = time.time
    body_timeout: float = 10.0
    check_timeout: float = 2.0
    link_interval: float = 0.5


_SHORTEST_PRODUCTION_KEY = 24  # bytes (contract, section 1)


def usable_keys(dependencies: GatewayDependencies, platform: str) -> Sequence[bytes]:
    """The platform's keys, or none where there are none or one of them is too weak to trust.

    One weak key beside strong ones is as bad as alone: it is accepted like the others.
    """
    keys: Sequence[bytes] = dependencies.webhook_secrets.get(platform, ())
    shortest = _SHORTEST_PRODUCTION_KEY if dependencies.is_production else 1
    return keys if all(len(key) >= shortest for key in keys) else ()
