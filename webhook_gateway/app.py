"""The gateway as an aiohttp application. A root may add routes of its own (metrics) before it runs it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from webhook_gateway.bodies import LARGEST_BODY
from webhook_gateway.dependencies import GatewayDependencies
from webhook_gateway.group_commit import GroupCommit
from webhook_gateway.health import Health
from webhook_gateway.linker import Linker
from webhook_gateway.problems import problems
from webhook_gateway.webhooks import WebhookEndpoint


def build_app(dependencies: GatewayDependencies) -> web.Application:
    """All routes, and the linker as long as the application runs. What it is given stays open when it ends."""
    app = web.Application(middlewares=[problems], client_max_size=LARGEST_BODY)
    group_commit = GroupCommit(dependencies.status_log)
    linker = Linker(dependencies.status_log, dependencies.observer, dependencies.link_interval)
    health = Health(dependencies)

    app.router.add_get("/health", health.service)
    app.router.add_get("/health/ready", health.ready)
    app.router.add_get("/health/live", health.live)
    app.router.add_get("/webhooks/health", health.webhooks)
    # A route a platform: the router then knows by itself what is 404 and what is 405, and with which `Allow`.
    for platform in dependencies.connectors:
        app.router.add_post(
            f"/webhooks/{platform}", WebhookEndpoint(platform, dependencies, group_commit, linker).handle
        )

    async def background(_: web.Application) -> AsyncIterator[None]:
        linking = asyncio.create_task(linker.run(), name="linker")
        yield
        # By now every request has been answered or cut off.
        await group_commit.close()
        linking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await linking

    app.cleanup_ctx.append(background)
    return app
