"""How much the sink can take: 100 connections, each sending its next POST when the answer to the last one is there.

python -m benchmarks.load PORT SECONDS     prints requests/s
"""

import asyncio
import sys
import time
from typing import cast
from uuid import uuid4

import uvloop

CONNECTIONS = 100
_BODY = b'{"organizationId":"benevity-org","programId":"b-%d-%d-0","metrics":[{"metricType":"hours","metricValue":1}]}'


class _Client(asyncio.Protocol):
    done = 0

    def __init__(self, company: int) -> None:
        self._company = company
        self._number = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by isinstance
        self._send()

    def data_received(self, data: bytes) -> None:
        _Client.done += 1
        self._send()

    def _send(self) -> None:
        body = _BODY % (self._company, self._number)
        self._number += 1
        self._transport.write(
            b"POST / HTTP/1.1\r\nHost: sink\r\nContent-Type: application/json\r\nIdempotency-Key: %s\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (str(uuid4()).encode(), len(body), body)
        )


async def _load(port: int, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    for number in range(CONNECTIONS):
        await loop.create_connection(lambda number=number: _Client(number), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.sleep(0.5)
    before, started = _Client.done, time.monotonic()
    await asyncio.sleep(seconds)
    return (_Client.done - before) / (time.monotonic() - started)


if __name__ == "__main__":
    print(uvloop.run(_load(int(sys.argv[1]), float(sys.argv[2]))))
