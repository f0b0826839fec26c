"""Is it alive, can it store webhooks, what is it connected to? (contract, section 7)"""

import asyncio
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from webhook_gateway.dependencies import GatewayDependencies, HealthCheck, usable_keys

DATABASE = "database"


class Health:
    def __init__(self, dependencies: GatewayDependencies) -> None:
        self._dependencies = dependencies
        self._checks: dict[str, HealthCheck] = {
            DATABASE: dependencies.inspection.ping,
            **dependencies.health_checks,
        }
        self._under_way: dict[str, asyncio.Task[bool]] = {}
        self._started = time.monotonic()

    async def service(self, request: web.Request) -> web.Response:
        """The runbook's shape: healthy, degraded without a connection, unhealthy (503) without the database."""
        names = list(self._checks)
        answers = dict(zip(names, await asyncio.gather(*map(self._connected, names)), strict=True))
        connected = "healthy" if all(answers.values()) else "degraded"
        status = connected if answers[DATABASE] else "unhealthy"
        return _json(
            {
                "status": status,
                "timestamp": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
                "uptime": int(time.monotonic() - self._started),
                "connections": {name: "connected" if up else "disconnected" for name, up in answers.items()},
            },
            HTTPStatus.OK if answers[DATABASE] else HTTPStatus.SERVICE_UNAVAILABLE,
        )

    async def ready(self, request: web.Request) -> web.Response:
        """200 while webhooks can be stored."""
        if await self._connected(DATABASE):
            return _json({"status": "ready"})
        return _json({"status": "not_ready"}, HTTPStatus.SERVICE_UNAVAILABLE)

    async def live(self, request: web.Request) -> web.Response:
        return _json({"status": "alive"})

    async def webhooks(self, request: web.Request) -> web.Response:
        """Which platforms' webhooks would be taken. Asks nobody, tells no secret."""
        return _json(
            {
                "status": "ok",
                "platforms": {
                    platform: {"configured": bool(usable_keys(self._dependencies, platform))}
                    for platform in self._dependencies.connectors
                },
            }
        )

    async def _connected(self, name: str) -> bool:
        # One check of a kind at a time, however many ask: nobody without a key may keep our connections busy.
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.create_task(self._check(self._checks[name]))
            self._under_way[name] = task
            task.add_done_callback(lambda _: self._under_way.pop(name, None))
        return await asyncio.shield(task)

    async def _check(self, check: HealthCheck) -> bool:
        try:
            async with asyncio.timeout(self._dependencies.check_timeout):
                await check()
        except Exception:
            return False
        return True


def _json(body: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
