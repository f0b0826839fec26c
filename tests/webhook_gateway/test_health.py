"""What load balancers and operators see."""

import asyncio
from datetime import datetime
from typing import Any

import pytest

from tests.servers import eventually
from tests.webhook_gateway.conftest import Gateway, MakeGateway

pytestmark = pytest.mark.fast


async def up() -> None:
    return None


async def down() -> None:
    raise ConnectionError("redis://user:PLANTED@host is away")


async def hanging() -> None:
    await asyncio.Event().wait()


async def get(gateway: Gateway, path: str) -> tuple[int, dict[str, Any]]:
    async with gateway.client.get(path) as answer:
        assert answer.content_type == "application/json"
        return answer.status, await answer.json()


async def test_a_healthy_service_has_the_runbooks_shape(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(health_checks={"redis": up, "kafka": up})
    status, body = await get(gateway, "/health")
    assert status == 200
    assert datetime.fromisoformat(body.pop("timestamp")).tzinfo is not None
    assert body == {
        "status": "healthy",
        "uptime": 0,
        "connections": {"database": "connected", "redis": "connected", "kafka": "connected"},
    }


@pytest.mark.parametrize("check", [down, hanging])
async def test_without_redis_or_kafka_it_is_degraded_and_still_ready(make_gateway: MakeGateway, check: Any) -> None:
    gateway = await make_gateway(health_checks={"redis": up, "kafka": check}, check_timeout=0.05)
    status, body = await get(gateway, "/health")
    assert (status, body["status"]) == (200, "degraded")
    assert body["connections"] == {"database": "connected", "redis": "connected", "kafka": "disconnected"}
    assert await get(gateway, "/health/ready") == (200, {"status": "ready"})


async def test_without_the_database_it_is_unhealthy_not_ready_and_alive(gateway: Gateway) -> None:
    gateway.status_log.away = True
    status, body = await get(gateway, "/health")
    assert (status, body["status"], body["connections"]) == (503, "unhealthy", {"database": "disconnected"})
    assert await get(gateway, "/health/ready") == (503, {"status": "not_ready"})
    assert await get(gateway, "/health/live") == (200, {"status": "alive"})
    gateway.status_log.away = False
    assert (await get(gateway, "/health"))[0] == 200


async def test_many_who_ask_cost_one_check(make_gateway: MakeGateway) -> None:
    asked = 0
    gate = asyncio.Event()

    async def counting() -> None:
        nonlocal asked
        asked += 1
        await gate.wait()

    gateway = await make_gateway(health_checks={"redis": counting})
    answers = [asyncio.create_task(get(gateway, "/health")) for _ in range(5)]
    handler = gateway.client.server.handler
    await eventually(lambda: handler.requests_count >= 5)
    gate.set()
    assert {status for status, _ in await asyncio.gather(*answers)} == {200}
    assert asked == 1


async def test_webhooks_health_names_platforms_and_no_secret(gateway: Gateway) -> None:
    assert await get(gateway, "/webhooks/health") == (
        200,
        {"status": "ok", "platforms": {"plain": {"configured": True}, "other": {"configured": False}}},
    )
