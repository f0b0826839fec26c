"""Workday: everything that we know of this platform (contract, sections 4 and 5)."""

from connectors.workday.client import WorkdayConnector, WorkdaySettings
from connectors.workday.payload import activity_id, event_of_activity
from connectors.workday.webhook import WorkdayWebhook

__all__ = ["WorkdayConnector", "WorkdaySettings", "WorkdayWebhook", "activity_id", "event_of_activity"]
