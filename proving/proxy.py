"""A TCP proxy in a process of its own, in front of Kafka, Postgres or Redis: what a network can do to a client.

    python -m proving.proxy kafka=9092:127.0.0.1:9192 postgres=0:127.0.0.1:5432

Each argument is a road, `NAME=LISTEN_PORT:HOST:PORT` (port 0: any free one). The first line on standard output is a
JSON object: the port of each road, and `control`, a port that takes one line a command and answers one line of JSON.

    NAME pass                 as if it were not there
    NAME latency SECONDS      each piece of data waits so long, either way; order is kept
    NAME black-hole           connections are taken, data is taken, nothing ever comes back
    NAME refuse               connections are cut, and new ones at once
    NAME cut                  all that are open now, once
    NAME drop-replies COUNT EVERY
                              COUNT times: a request is forwarded whole, its connection is cut before the first byte of
                              the reply; EVERY other replies pass in between
    NAME state                changes nothing

The answer has `connections` (open), `cut`, `dropped` (replies swallowed), `refused` and `swallowed` (bytes) so far: by
them a run proves that its fault fired.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_PIECE = 65_536


@dataclass
class Road:
    name: str
    host: str
    port: int
    mode: str = "pass"
    latency: float = 0.0
    to_drop: int = 0
    every: int = 1
    replies: int = 0
    told: dict[str, int] = field(default_factory=lambda: {"cut": 0, "dropped": 0, "refused": 0, "swallowed": 0})
    open: set["_Connection"] = field(default_factory=set)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refuse":
            self.told["refused"] += 1
            writer.transport.abort()
            return
        connection = _Connection(self, reader, writer)
        self.open.add(connection)
        try:
            await connection.run()
        finally:
            self.open.discard(connection)

    def cut(self) -> None:
        for connection in list(self.open):
            self.told["cut"] += 1
            connection.abort()

    def command(self, words: Sequence[str]) -> None:
        """Raises ValueError."""
        match list(words):
            case ["pass"]:
                if self.mode == "black-hole":
                    self.cut()  # what these have lost makes no sense of what would follow
                self.mode, self.latency, self.to_drop = "pass", 0.0, 0
            case ["latency", seconds]:
                self.mode, self.latency = "pass", float(seconds)
            case ["black-hole"]:
                self.mode = "black-hole"
            case ["refuse"]:
                self.mode = "refuse"
                self.cut()
            case ["cut"]:
                self.cut()
            case ["drop-replies", count, every]:
                self.mode, self.to_drop, self.every, self.replies = "pass", int(count), max(int(every), 1), 0
            case ["state"]:
                pass
            case _:
                raise ValueError("no such command")

    def drops_this_reply(self) -> bool:
        if self.to_drop <= 0:
            return False
        self.replies += 1
        if self.replies % self.every:
            return False
        self.to_drop -= 1
        self.told["dropped"] += 1
        return True

    def state(self) -> dict[str, Any]:
        return {
            "road": self.name,
            "mode": self.mode,
            "to_drop": self.to_drop,
            "connections": len(self.open),
        } | self.told


class _Connection:
    def __init__(self, road: Road, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._road = road
        self._client = reader, writer
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._asked = False

    async def run(self) -> None:
        try:
            self._server = await asyncio.wait_for(asyncio.open_connection(self._road.host, self._road.port), 5.0)
        except (OSError, TimeoutError):
            self.abort()
            return
        ways = [
            asyncio.create_task(self._carry(self._client[0], self._server[1], asks=True)),
            asyncio.create_task(self._carry(self._server[0], self._client[1], asks=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self.abort()

    def abort(self) -> None:
        for end in (self._client, self._server):
            if end is not None:
                end[1].transport.abort()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, asks: bool) -> None:
        """Until either end is gone. What waits for its latency is carried by a second task, so that many pieces wait at
        once."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        writing = asyncio.create_task(self._write(pieces, target))
        clock = asyncio.get_running_loop().time
        delayed = False
        try:
            while (piece := await source.read(_PIECE)) and not writing.done():
                if self._road.mode == "black-hole":
                    self._road.told["swallowed"] += len(piece)
                    continue
                if asks:
                    self._asked = True
                elif self._asked:
                    self._asked = False
                    if self._road.drops_this_reply():
                        self._road.told["swallowed"] += len(piece)
                        return
                delayed = delayed or self._road.latency > 0
                if delayed:
                    await pieces.put((clock() + self._road.latency, piece))
                else:
                    target.write(piece)
                    await target.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writing.cancel()

    async def _write(self, pieces: "asyncio.Queue[tuple[float, bytes]]", target: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        with contextlib.suppress(OSError):
            while True:
                due, piece = await pieces.get()
                await asyncio.sleep(max(due - clock(), 0.0))
                target.write(piece)
                await target.drain()


async def serve(arguments: Sequence[str]) -> None:
    roads: dict[str, Road] = {}
    ports: dict[str, int] = {}
    for argument in arguments:
        name, _, rest = argument.partition("=")
        listen, host, port = rest.split(":")
        road = roads[name] = Road(name, host, int(port))
        server = await asyncio.start_server(road.take, "127.0.0.1", int(listen))
        ports[name] = server.sockets[0].getsockname()[1]

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                name, *words = line.decode().split() or [""]
                try:
                    roads[name].command(words)
                    answer = roads[name].state()
                except (KeyError, ValueError) as error:
                    answer = {"error": f"{type(error).__name__}: {error}"}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(control, "127.0.0.1", 0)
    print(json.dumps({"ports": ports, "control": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1:]))
