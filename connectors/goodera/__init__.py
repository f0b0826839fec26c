"""Goodera: everything that we know of this platform (contract, sections 4 and 5)."""

from connectors.goodera.client import GooderaConnector, GooderaSettings
from connectors.goodera.webhook import GooderaWebhook

__all__ = ["GooderaConnector", "GooderaSettings", "GooderaWebhook"]
