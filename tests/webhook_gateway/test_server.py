"""Starting, and ending without leaving anyone unanswered."""

import asyncio
import os
import signal
import socket
from typing import Any

import aiohttp
import pytest

from delivery_log.memory import MemoryState
from tests.servers import eventually
from tests.webhook_gateway.conftest import KEY, GatedInspection, GatedStatusLog, PlainConnector, signature
from webhook_gateway import GatewayDependencies, build_app, serve

pytestmark = pytest.mark.fast

RAW = b'{"transaction": "t1"}'
HEADERS = {"Content-Type": "application/json", "X-Signature": signature(RAW)}


@pytest.fixture
async def status_log() -> GatedStatusLog:
    return GatedStatusLog(MemoryState())


@pytest.fixture
async def app(status_log: GatedStatusLog) -> Any:
    return build_app(
        GatewayDependencies(
            status_log=status_log,
            inspection=GatedInspection(status_log),
            connectors={"plain": PlainConnector()},
            webhook_secrets={"plain": [KEY]},
        )
    )


async def start(app: Any, **options: Any) -> tuple[asyncio.Task[None], str]:
    """A server on any port: its task, and its address."""
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        serve(
            app,
            host="127.0.0.1",
            port=0,
            listening=lambda host, port: address.set_result(f"http://{host}:{port}"),
            **options,
        )
    )
    return server, await asyncio.wait_for(address, 5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_accepting_and_answers_what_is_there(
    app: Any, status_log: GatedStatusLog, number: signal.Signals
) -> None:
    server, url = await start(app)
    status_log.open.clear()
    async with aiohttp.ClientSession() as session:
        posting = asyncio.create_task(session.post(f"{url}/webhooks/plain", data=RAW, headers=HEADERS))
        await eventually(lambda: status_log.calls == [1])
        os.kill(os.getpid(), number)

        async def refuses() -> bool:
            try:
                async with aiohttp.ClientSession() as another, another.get(f"{url}/health/live"):
                    return False
            except aiohttp.ClientConnectionError:
                return True

        await eventually(refuses)
        assert not server.done()
        status_log.open.set()
        async with await posting as answer:
            assert answer.status == 200
    await asyncio.wait_for(server, 5)
    assert len(status_log.state.status_events) == 1


async def test_what_takes_longer_than_the_drain_is_cut_off(app: Any, status_log: GatedStatusLog) -> None:
    stop = asyncio.Event()
    server, url = await start(app, stop=stop, drain=0.1)
    status_log.open.clear()
    async with aiohttp.ClientSession() as session:
        posting = asyncio.create_task(session.post(f"{url}/webhooks/plain", data=RAW, headers=HEADERS))
        await eventually(lambda: status_log.calls == [1])
        stop.set()
        with pytest.raises(aiohttp.ClientConnectionError):
            await posting
        status_log.open.set()
        await asyncio.wait_for(server, 5)


async def test_a_port_in_use_is_an_os_error(app: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="address already in use"):
            await serve(app, host="127.0.0.1", port=taken.getsockname()[1])
