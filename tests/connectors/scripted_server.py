"""A server on loopback that says what a test tells it, byte by byte: it shares no HTTP code with the client."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self


@dataclass
class Seen:
    """A request as it arrived; `headers` by lower-case name."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Play = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


def answer(status: int = 200, body: Any = None, **headers: str) -> Play:
    """A whole answer. `body` is JSON, or bytes as they are; header names are written with `_` for `-`."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    head = {"Content-Type": "application/json", "Content-Length": str(len(raw)), **names}

    async def play(seen: Seen, writer: asyncio.StreamWriter) -> None:
        try:
            reason = HTTPStatus(status).phrase
        except ValueError:
            reason = "Unheard Of"
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in head.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + raw)
        await writer.drain()

    return play


def raw(data: bytes, *, then_close: bool = True) -> Play:
    async def play(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then_close:
            writer.close()

    return play


@dataclass
class Server:
    """`plays` are used up in turn; the last goes on. `seen` are the requests, in order."""

    plays: list[Play] = field(default_factory=lambda: [answer(200, {"success": True, "transactionId": "t-1"})])
    by_path: dict[str, Play] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def until_seen(self, requests: int) -> None:
        """Returns once that many requests have arrived whole."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.seen) >= requests)

    async def until_left(self) -> None:
        """Returns once a client has closed its connection."""
        await self._left.wait()

    async def __aenter__(self) -> Self:
        self._arrived = asyncio.Condition()
        self._left = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while not writer.is_closing():
                seen = await _read(reader)
                async with self._arrived:
                    self.seen.append(seen)
                    self._arrived.notify_all()
                play = self.by_path.get(seen.path)
                if play is None:
                    play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
                await play(seen, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._left.set()
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in head[1:]:
        name, colon, value = line.partition(":")
        if colon:
            assert name.lower() not in headers, f"{name} was sent twice"
            headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(head[0].split(" ")[1], headers, body)


@asynccontextmanager
async def closed_port() -> Any:
    """A port on which nobody listens."""
    server = Server()
    async with server:
        pass
    yield server.port
