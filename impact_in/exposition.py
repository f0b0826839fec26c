"""`/metrics`, for worker and gateway alike."""

from collections.abc import Awaitable, Callable

from aiohttp import web


def metrics_handler(exposition: Callable[[], Awaitable[bytes]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Answers with Prometheus' text format, as `prometheus_client.generate_latest` writes it."""

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=await exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    return metrics
