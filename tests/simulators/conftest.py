"""The simulators in the test's own process, reached over real HTTP on loopback."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from impact_in.simulators.assembly import servers
from impact_in.simulators.options import parse
from impact_in.simulators.receipt_file import ReceiptFile
from tests.simulators import bodies


@dataclass
class Answer:
    status: int
    raw: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Simulated:
    """One platform's address, and what a client does there."""

    platform: str
    url: str
    session: aiohttp.ClientSession
    token: str = ""

    async def post(self, path: str, body: Any, *, key: str | None = None, **headers: str | None) -> Answer:
        """`body` as JSON, or bytes as they are; a header given as None is left out."""
        sent: dict[str, str | None] = dict(bodies.headers(self.platform, key, self.token))
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.request(
            "POST", path, data=raw, headers={name: value for name, value in sent.items() if value is not None}
        )

    async def request(self, method: str, path: str, **arguments: Any) -> Answer:
        async with self.session.request(method, self.url + path, **arguments) as answer:
            return Answer(answer.status, await answer.read(), dict(answer.headers))

    async def received(self) -> Any:
        return (await self.request("GET", "/_received")).json

    async def faults(self, **wish: Any) -> Answer:
        return await self.request("POST", "/_faults", json=wish)

    async def sign_in(self, **changes: str) -> Answer:
        form = {
            "grant_type": "client_credentials",
            "client_id": "simulated-workday-client",
            "client_secret": "simulated-workday-secret",
            "scope": "volunteer_management",
            **changes,
        }
        answer = await self.request("POST", "/oauth2/token", data=form)
        if answer.status == 200:
            self.token = answer.json["access_token"]
        return answer


Start = Callable[..., Awaitable[dict[str, Simulated]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`await start("--faults", "some")`: the simulators that this command line asks for, by platform."""
    async with contextlib.AsyncExitStack() as stack:

        async def run(*arguments: str) -> dict[str, Simulated]:
            options = parse(arguments, {})
            receipts = None
            if options.receipts is not None:
                receipts = await stack.enter_async_context(ReceiptFile(options.receipts))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            found = {}
            for server in servers(options, receipts):
                runner = web.AppRunner(server.application(), shutdown_timeout=0.1)
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                sending = asyncio.create_task(server.sender.run())
                stack.callback(sending.cancel)
                url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                found[server.platform.name] = Simulated(server.platform.name, url, session)
            if "workday" in found:
                await found["workday"].sign_in()
            return found

        yield run


@pytest.fixture
async def benevity(start: Start) -> Simulated:
    return (await start("--platform", "benevity"))["benevity"]


@pytest.fixture
async def goodera(start: Start) -> Simulated:
    return (await start("--platform", "goodera"))["goodera"]


@pytest.fixture
async def workday(start: Start) -> Simulated:
    return (await start("--platform", "workday"))["workday"]
