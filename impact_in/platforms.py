"""Connectors and webhooks from settings."""

from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any

from connectors.contract import Connector, Webhook
from connectors.mock import MockConnector
from connectors.registry import REGISTRY
from connectors.signatures import secret_key
from impact_in.settings import PlatformSettings, Settings, SettingsError

# A mocked platform needs none of its variables, and its connector calls nobody: these only have to be well-formed.
_NOBODY: Mapping[str, Mapping[str, Any]] = {
    "benevity": {"api_key": "mock", "url": "https://benevity.invalid"},
    "goodera": {"api_key": "mock", "url": "https://goodera.invalid"},
    "workday": {
        "client_id": "mock",
        "client_secret": "mock",
        "tenant_id": "mock",
        "url": "https://workday.invalid",
    },
}


def build_connectors(
    settings: Settings, on_refresh: Callable[[str, str], None] = lambda platform, result: None
) -> dict[str, Connector]:
    """The enabled platforms' connectors; settings must have been loaded with `platforms`. Close each one in the end.
    `on_refresh(platform, result)`: a token was asked for; `ok`, `rejected` or `unavailable`."""
    return {
        name: _build(platform, settings.request_timeout, on_refresh) for name, platform in settings.platforms.items()
    }


def credential_fingerprints(settings: Settings, salt: str) -> dict[str, str]:
    """Tells whether two workers send to a platform with the same settings, and nothing of what they are."""
    found = {}
    for name, platform in settings.platforms.items():
        given = {} if platform.mock_mode else platform.variables.connector_settings()
        text = repr((salt, name, platform.mock_mode, sorted(given.items())))
        found[name] = sha256(text.encode()).hexdigest()[:16]
    return found


def webhooks(settings: Settings) -> tuple[dict[str, Webhook], dict[str, tuple[bytes, ...]]]:
    """The enabled platforms' webhooks, and the keys that each accepts (none: it answers 503)."""
    found: dict[str, Webhook] = {name: REGISTRY[name].webhook for name in settings.platforms}
    keys = {
        name: tuple(secret_key(secret.get_secret_value()) for secret in platform.webhook_secrets)
        for name, platform in settings.platforms.items()
    }
    return found, keys


def _build(platform: PlatformSettings, request_timeout: float, on_refresh: Callable[[str, str], None]) -> Connector:
    known = REGISTRY[platform.name]
    arguments = _NOBODY[platform.name] if platform.mock_mode else platform.variables.connector_settings()
    try:
        told = {"on_refresh": partial(on_refresh, platform.name)} if known.has_token else {}
        connector = known.connector(known.settings(**arguments, request_timeout=request_timeout), **told)
    except ValueError as error:
        raise SettingsError(str(error)) from None  # a connector names the setting and quotes nothing
    return MockConnector(connector) if platform.mock_mode else connector
