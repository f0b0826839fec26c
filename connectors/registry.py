"""The platforms by name: the only place that lists them. A fourth is one folder and one line here."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from connectors.benevity import BenevityConnector, BenevitySettings, BenevityWebhook
from connectors.contract import Connector, RateLimits, Webhook
from connectors.goodera import GooderaConnector, GooderaSettings, GooderaWebhook
from connectors.workday import WorkdayConnector, WorkdaySettings, WorkdayWebhook


class Platform(NamedTuple):
    """`connector` takes an instance of `settings`; `webhook` needs none, so that the gateway can do without.
    `has_token`: the connector takes `on_refresh` too, and tells it what becomes of each request for a token."""

    settings: type[Any]
    connector: Callable[..., Connector]
    webhook: Webhook
    limits: RateLimits
    has_token: bool = False


REGISTRY: Mapping[str, Platform] = {
    "benevity": Platform(BenevitySettings, BenevityConnector, BenevityWebhook(), BenevityConnector.limits),
    "goodera": Platform(GooderaSettings, GooderaConnector, GooderaWebhook(), GooderaConnector.limits),
    "workday": Platform(WorkdaySettings, WorkdayConnector, WorkdayWebhook(), WorkdayConnector.limits, True),
}

PLATFORMS: tuple[str, ...] = tuple(REGISTRY)
