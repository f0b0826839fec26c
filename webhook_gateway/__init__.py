"""The gateway: platforms' webhooks in, health out. `build_app` makes it of its dependencies, `serve` runs it."""

from webhook_gateway.app import build_app
from webhook_gateway.dependencies import GatewayDependencies, GatewayObserver, SilentObserver
from webhook_gateway.server import serve

__all__ = ["GatewayDependencies", "GatewayObserver", "SilentObserver", "build_app", "serve"]
