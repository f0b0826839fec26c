"""A platform that is never the limit: answers each POST with Benevity's 200, or Goodera's, after 5 ms and counts what
came.

    python -m benchmarks.sink          prints its port, runs until SIGTERM

A bare asyncio Protocol: it reads only what our clients send (keep-alive, Content-Length, no chunks). The two cores are
shared with the worker that is measured, so it has to be cheap. What it knows of a request it takes from the
`Idempotency-Key` and from the label that `benchmarks.events` puts into `programId`.

`POST /reset` with an `Orders` object forgets everything; `GET /count`, `GET /stats`, `GET /requests`.
"""

import asyncio
import signal
import time
from array import array
from collections import deque
from typing import cast

import msgspec
import uvloop

from benchmarks.events import LABEL_START, read_label, read_labels

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_KEY = b"idempotency-key:"
_BATCH_START = b'{"records":'


class Orders(msgspec.Struct, frozen=True):
    """`delay` in seconds. `sick`: companies that get a 503 for ever; `fail_first`: companies of whose events each gets
    one 503 first."""

    delay: float = 0.005
    sick: list[int] = []
    fail_first: list[int] = []


class Stats(msgspec.Struct, frozen=True):
    """`first`, `last`: arrivals, on the machine's monotonic clock; of accepted ones where `accepted_` says so.

    `effects`: events accepted; `doubled`: of those, accepted under more than one key. `out_of_order`: events first
    accepted after a later one of their company.
    """

    requests: int
    keys: int
    effects: int
    doubled: int
    out_of_order: int
    refused: int
    most_in_flight: int
    first: float
    last: float
    cpu: float


class Requests(msgspec.Struct, frozen=True):
    """Of each request, in order: arrival (monotonic, seconds), company, number in the company, status; and for those
    that carry a time of publication, microseconds from it to the answer (else -1)."""

    arrival: list[float]
    company: list[int]
    number: list[int]
    status: list[int]
    took: list[int]


class Memory:
    """What was received since the last reset."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.sick = frozenset(orders.sick)
        self.fail_first = frozenset(orders.fail_first)
        self.failed_once: set[tuple[int, int]] = set()
        self.keys: dict[bytes, int] = {}
        self.key_of_effect: dict[tuple[int, int], bytes] = {}
        self.last_of_company: dict[int, int] = {}
        self.doubled: set[tuple[int, int]] = set()
        self.out_of_order = self.refused = self.in_flight = self.most_in_flight = 0
        self.arrival, self.company, self.number = array("d"), array("l"), array("l")
        self.status, self.took = array("h"), array("q")

    def receive(self, key: bytes, body: bytes) -> bytes:
        """The answer to a delivery."""
        self.arrival.append(time.monotonic())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        number = self.keys.setdefault(key, len(self.keys))
        if body.startswith(_BATCH_START):
            return self._receive_batch(key, number, body)
        label = read_label(body)
        company, place, published = label if label is not None else (-1, number, 0)
        self.company.append(company)
        self.number.append(place)
        # Known already: the answer leaves after `delay`.
        took = -1 if not published else time.time_ns() // 1000 - published + round(self.orders.delay * 1e6)
        self.took.append(took)
        if self._fails(company, place):
            self.status.append(503)
            self.refused += 1
            return _answer(b"503 Service Unavailable", b'{"success":false,"errorCode":"UNAVAILABLE","error":"sick"}')
        self.status.append(200)
        self._effect(company, place, key)
        return _answer(b"200 OK", b'{"success":true,"transactionId":"t-%d","message":"received"}' % number)

    def _receive_batch(self, key: bytes, number: int, body: bytes) -> bytes:
        """One request, whatever is in it; never sick."""
        records = read_labels(body)
        for company, place, _ in records:
            self._effect(company, place, key)
        self.company.append(-1)
        self.number.append(number)
        self.took.append(-1)
        self.status.append(200)
        accepted = b'{"success":true,"batchId":"t-%d","recordsProcessed":%d,"message":"received"}'
        return _answer(b"200 OK", accepted % (number, len(records)))

    def _fails(self, company: int, place: int) -> bool:
        if company in self.sick:
            return True
        if company in self.fail_first and (company, place) not in self.failed_once:
            self.failed_once.add((company, place))
            return True
        return False

    def _effect(self, company: int, place: int, key: bytes) -> None:
        known = self.key_of_effect.setdefault((company, place), key)
        if known is not key:
            if known != key:
                self.doubled.add((company, place))
            return
        if self.last_of_company.get(company, -1) > place:
            self.out_of_order += 1
        else:
            self.last_of_company[company] = place

    def stats(self) -> Stats:
        return Stats(
            requests=len(self.arrival),
            keys=len(self.keys),
            effects=len(self.key_of_effect),
            doubled=len(self.doubled),
            out_of_order=self.out_of_order,
            refused=self.refused,
            most_in_flight=self.most_in_flight,
            first=self.arrival[0] if self.arrival else 0.0,
            last=self.arrival[-1] if self.arrival else 0.0,
            cpu=time.process_time(),
        )

    def requests(self) -> Requests:
        return Requests(list(self.arrival), list(self.company), list(self.number), list(self.status), list(self.took))


def _answer(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


class Sink:
    """Memory, and the answers that wait for their time: one timer for all of them."""

    def __init__(self) -> None:
        self.memory = Memory(Orders())
        self._due: deque[tuple[float, asyncio.Transport, bytes]] = deque()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def reset(self, orders: Orders) -> None:
        self.memory = Memory(orders)

    def later(self, transport: asyncio.Transport, answer: bytes) -> None:
        delay = self.memory.orders.delay
        self._due.append((time.monotonic() + delay, transport, answer))
        if self._timer is None:
            self._timer = self._loop.call_later(delay, self._send_due)

    def _send_due(self) -> None:
        due, now = self._due, time.monotonic()
        while due and due[0][0] <= now + 0.0002:
            _, transport, answer = due.popleft()
            self.memory.in_flight -= 1
            if not transport.is_closing():
                transport.write(answer)
        self._timer = self._loop.call_later(max(due[0][0] - now, 0.001), self._send_due) if due else None


class Connection(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._pending = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by isinstance

    def data_received(self, data: bytes) -> None:
        data = self._pending + data if self._pending else data
        while data:
            end = data.find(_HEAD_END)
            if end < 0:
                break
            head = data[: end + 2].lower()
            whole = end + 4 + int(_header(head, _LENGTH) or b"0")
            if len(data) < whole:
                break
            self._request(head, data[end + 4 : whole])
            data = data[whole:]
        self._pending = data

    def _request(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get /count"):
            memory = self._sink.memory
            self._reply(b"[%d,%d]" % (len(memory.arrival), len(memory.key_of_effect)))
        elif head.startswith(b"get /stats"):
            self._reply(msgspec.json.encode(self._sink.memory.stats()))
        elif head.startswith(b"get /requests"):
            self._reply(msgspec.json.encode(self._sink.memory.requests()))
        elif head.startswith(b"post /reset"):
            self._sink.reset(msgspec.json.decode(body, type=Orders))
            self._reply(b"{}")
        else:
            self._sink.later(self._transport, self._sink.memory.receive(_header(head, _KEY), body))

    def _reply(self, body: bytes) -> None:
        self._transport.write(_answer(b"200 OK", body))


def _header(head: bytes, name: bytes) -> bytes:
    start = head.find(name)
    return b"" if start < 0 else head[start + len(name) : head.find(b"\r\n", start)].strip()


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    sink = Sink()
    server = await loop.create_server(lambda: Connection(sink), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()


if __name__ == "__main__":
    assert LABEL_START
    uvloop.run(_serve())
