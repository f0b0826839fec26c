"""Benevity: everything that we know of this platform (contract, sections 4 and 5)."""

from connectors.benevity.client import BenevityConnector, BenevitySettings
from connectors.benevity.webhook import BenevityWebhook

__all__ = ["BenevityConnector", "BenevitySettings", "BenevityWebhook"]
