"""The proxy in front of a server that says what it was told, upper case."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.fast

_ROOT = Path(__file__).parents[2]


class Proxied:
    def __init__(self, port: int, control: tuple[asyncio.StreamReader, asyncio.StreamWriter], heard: list[bytes]):
        self.port = port
        self.heard = heard
        self._control = control

    async def order(self, command: str) -> dict[str, Any]:
        self._control[1].write(f"echo {command}\n".encode())
        answer: dict[str, Any] = json.loads(await self._control[0].readline())
        return answer

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, text: bytes, *, within: float = 5.0) -> bytes:
        """The answer; empty where the connection was cut."""
        reader, writer = await self.connect()
        try:
            writer.write(text + b"\n")
            async with asyncio.timeout(within):
                return await reader.readline()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def proxied() -> AsyncIterator[Proxied]:
    heard: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            heard.append(line)
            writer.write(line.upper())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "proving.proxy",
        f"echo=0:127.0.0.1:{target}",
        cwd=_ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    told = json.loads(await process.stdout.readline())
    control = await asyncio.open_connection("127.0.0.1", told["control"])
    try:
        yield Proxied(told["ports"]["echo"], control, heard)
    finally:
        control[1].close()
        process.kill()
        await process.wait()
        server.close()


async def test_it_passes_both_ways(proxied: Proxied) -> None:
    assert await proxied.ask(b"hello") == b"HELLO\n"


async def test_latency_delays_and_keeps_the_order(proxied: Proxied) -> None:
    await proxied.order("latency 0.1")
    clock = asyncio.get_running_loop().time
    began = clock()
    reader, writer = await proxied.connect()
    for word in (b"a\n", b"b\n", b"c\n"):
        writer.write(word)
        await writer.drain()
    assert [await reader.readline() for _ in range(3)] == [b"A\n", b"B\n", b"C\n"]
    assert clock() - began >= 0.2
    writer.close()


async def test_a_lost_reply_reaches_the_server_and_not_the_client(proxied: Proxied) -> None:
    await proxied.order("drop-replies 1 1")
    assert await proxied.ask(b"pay") == b""
    assert proxied.heard == [b"pay\n"]
    assert (await proxied.order("state"))["dropped"] == 1
    assert await proxied.ask(b"again") == b"AGAIN\n"


async def test_every_so_many_replies_are_lost(proxied: Proxied) -> None:
    await proxied.order("drop-replies 2 3")
    assert [await proxied.ask(b"x") for _ in range(7)] == [b"X\n", b"X\n", b"", b"X\n", b"X\n", b"", b"X\n"]


async def test_a_black_hole_takes_and_never_answers(proxied: Proxied) -> None:
    await proxied.order("black-hole")
    with pytest.raises(TimeoutError):
        await proxied.ask(b"hello", within=0.3)
    assert proxied.heard == []
    assert (await proxied.order("pass"))["swallowed"] == len(b"hello\n")
    assert await proxied.ask(b"hello") == b"HELLO\n"


async def test_refusing_cuts_what_is_open_and_what_comes(proxied: Proxied) -> None:
    reader, writer = await proxied.connect()
    writer.write(b"hello\n")
    assert await reader.readline() == b"HELLO\n"
    await proxied.order("refuse")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    assert await proxied.ask(b"hello") == b""
    told = await proxied.order("pass")
    assert (told["cut"], told["refused"]) == (1, 1)
    assert await proxied.ask(b"hello") == b"HELLO\n"


async def test_an_unknown_command_changes_nothing(proxied: Proxied) -> None:
    assert "error" in await proxied.order("explode")
    assert await proxied.ask(b"hello") == b"HELLO\n"
