"""The gateway, put together: webhooks in, health and metrics out."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import aiokafka.client
import structlog
import uvloop
from prometheus_client import CollectorRegistry, Counter, generate_latest

from connectors.contract import Webhook
from delivery_log.postgres.database import Database
from delivery_log.postgres.inspection import PostgresInspection
from delivery_log.postgres.migrations import pending_migrations
from delivery_log.postgres.statuses import PostgresStatusLog
from guards.redis_memory import RedisSeenBefore
from impact_in.errors import StartError
from impact_in.exposition import metrics_handler
from impact_in.platforms import webhooks
from impact_in.settings import Settings
from streams.connection import KafkaConnection
from webhook_gateway.app import build_app
from webhook_gateway.dependencies import GatewayDependencies, HasWebhook
from webhook_gateway.server import serve

_log = structlog.get_logger("impact_in.gateway")


class GatewayMetrics:
    """`webhook_gateway.dependencies.GatewayObserver`, as the contract's metrics (section 8)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._received = Counter(
            "impact_in_webhooks_received_total", "Verified webhooks, stored.", ["platform"], registry=registry
        )
        self._refused = Counter(
            "impact_in_webhook_verification_failed_total",
            "Webhooks that did not prove where they came from.",
            ["platform", "reason"],
            registry=registry,
        )
        self._repeated = Counter(
            "impact_in_webhooks_repeated_total", "Webhooks that were there already.", ["platform"], registry=registry
        )

    def webhook_received(self, platform: str) -> None:
        self._received.labels(platform).inc()

    def webhook_repeated(self, platform: str) -> None:
        self._repeated.labels(platform).inc()

    def webhook_verification_failed(self, platform: str, reason: str) -> None:
        self._refused.labels(platform, reason).inc()

    def statuses_linked(self, count: int) -> None:
        return None


class KafkaCheck:
    """Whether a broker answers. Keeps one connection, and makes it at the first question."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._client = aiokafka.client.AIOKafkaClient(**connection.for_aiokafka(), client_id="impact-in-gateway")
        self._bootstrapped = False

    async def __call__(self) -> None:
        """Raises where no broker answers."""
        if not self._bootstrapped:
            await self._client.bootstrap()
            self._bootstrapped = True
        if not await self._client.force_metadata_update():
            raise ConnectionError("no broker answers")

    async def close(self) -> None:
        await self._client.close()


def run_gateway(settings: Settings) -> int:
    """Serves until SIGTERM. Raises StartError, LedgerUnavailable."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings, _announce))
    return 0


def _announce(host: str, port: int) -> None:
    """For a person and for whoever started us: PORT_IMPACT_IN=0 takes any port."""
    _log.info("gateway.listening", url=f"http://{host}:{port}")
    if not sys.stdout.isatty():
        print(f"http://{host}:{port}", flush=True)


async def _run(settings: Settings, listening: Callable[[str, int], None]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(await Database.open(settings.database_url, application="gateway"))
        pending = await pending_migrations(database)
        if pending:
            raise StartError(f"the database lacks migration {pending[0]}; run `impact-in migrate`")
        seen = RedisSeenBefore.open(settings.redis_url, "health")
        stack.push_async_callback(seen.close)
        kafka = KafkaCheck(settings.kafka)
        stack.push_async_callback(kafka.close)

        async def redis() -> None:
            if not await seen.ping():
                raise ConnectionError("redis does not answer")

        registry = CollectorRegistry()
        platform_webhooks, secrets = webhooks(settings)
        connectors: dict[str, HasWebhook] = {name: _Platform(webhook) for name, webhook in platform_webhooks.items()}
        app = build_app(
            GatewayDependencies(
                status_log=PostgresStatusLog(database),
                inspection=PostgresInspection(database),
                connectors=connectors,
                webhook_secrets=secrets,
                is_production=settings.environment == "production",
                health_checks={"redis": redis, "kafka": kafka},
                observer=GatewayMetrics(registry),
            )
        )

        async def exposition() -> bytes:
            return generate_latest(registry)

        app.router.add_get("/metrics", metrics_handler(exposition))
        try:
            await serve(app, host=settings.host, port=settings.port, drain=settings.drain_seconds, listening=listening)
        except OSError as error:
            raise StartError(
                f"PORT_IMPACT_IN: port {settings.port} cannot be used ({error.strerror}); "
                "choose a free one, or 0 for any"
            ) from error


class _Platform(NamedTuple):
    """As much of a platform as the gateway needs."""

    webhook: Webhook
