"""The one HTTP client of all connectors: what the network did comes back as a value, never as an exception.

    post → Reply    status and headers arrived; `body` is None where it could not be read whole
         | Unsent   not one byte of the request left: refused connection, DNS, TLS, no free connection in time
         | Lost     the request left, or may have left, and no status came back

Held here for every platform: one limit for the whole request (waiting for a connection, sending, reading), no
redirect followed, no cookies, no proxies from the environment, TLS verified, answers read up to 1 MiB as counted
after decompression. Only cancellation of the calling task passes through.

Traps of aiohttp 3.14 that the code answers to: its total limit is rounded up to whole seconds beyond 5 s unless
told otherwise (a lease relies on ours); a garbled answer raises with status 400, which no platform said; a time-out
looks the same before and after the request left, so the body itself notes when it is handed to the socket.
"""

import math
from collections.abc import Mapping
from enum import StrEnum

import aiohttp
import msgspec
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload
from yarl import URL

MAX_ANSWER_BYTES = 1024 * 1024

_CLIENT_HEADERS = {"User-Agent": "impact-in", "Accept": "application/json", "Accept-Encoding": "identity"}


class Problem(StrEnum):
    """What went wrong on the network; the words become `error_code`s. Nothing in them comes from outside."""

    DNS_FAILED = "DNS_FAILED"
    CONNECT_FAILED = "CONNECT_FAILED"
    CONNECT_TIMEOUT = "CONNECT_TIMEOUT"
    TLS_FAILED = "TLS_FAILED"
    REQUEST_INVALID = "REQUEST_INVALID"
    TIMEOUT = "TIMEOUT"
    CONNECTION_LOST = "CONNECTION_LOST"
    ANSWER_UNREADABLE = "ANSWER_UNREADABLE"
    ANSWER_TOO_LONG = "ANSWER_TOO_LONG"


SENTENCES: Mapping[Problem, str] = {
    Problem.DNS_FAILED: "the platform's host name could not be resolved",
    Problem.CONNECT_FAILED: "no connection to the platform could be made",
    Problem.CONNECT_TIMEOUT: "no connection to the platform within the time limit",
    Problem.TLS_FAILED: "the platform's TLS certificate or handshake was not accepted",
    Problem.REQUEST_INVALID: "the request could not be written",
    Problem.TIMEOUT: "no complete answer within the time limit",
    Problem.CONNECTION_LOST: "the connection ended before a complete answer",
    Problem.ANSWER_UNREADABLE: "the answer could not be understood",
    Problem.ANSWER_TOO_LONG: f"the answer has more than {MAX_ANSWER_BYTES} bytes",
}


class Reply(msgspec.Struct, frozen=True):
    """An answer with a status. `headers` finds names in any case; `problem` says why `body` is None."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None
    problem: Problem | None = None


class Unsent(msgspec.Struct, frozen=True):
    """Nothing left this machine that a platform could have acted on."""

    problem: Problem


class Lost(msgspec.Struct, frozen=True):
    """The request left, wholly or in part, and nobody can know what it did."""

    problem: Problem


Result = Reply | Unsent | Lost


def checked_url(text: str, name: str) -> URL:
    """An http(s) address without credentials in it. Raises ValueError that names the setting and quotes nothing."""
    try:
        url = URL(text.strip())
        fits = url.scheme in ("http", "https") and bool(url.host) and url.user is None and url.password is None
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must be an http or https address without user or password")
    return url.with_fragment(None)


def checked_header(text: str, name: str) -> str:
    """A text that can stand in a header. Raises ValueError that names the setting and quotes nothing."""
    if not text or not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError(f"{name} must be printable ASCII, not empty, without spaces around it")
    return text


class _Body(BytesPayload):
    """aiohttp hands it to the socket together with the headers; `begun` tells whether it came to that."""

    begun = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        # A pooled connection that the platform has closed meanwhile: aiohttp refuses to write to it, so nothing leaves.
        transport = getattr(writer, "transport", None)
        if transport is not None and not transport.is_closing():
            self.begun = True
        await super().write_with_length(writer, content_length)


class HttpClient:
    """One pool of connections. Opened at the first request, since a session belongs to a running loop.

    `request_timeout` in seconds, for the whole of a request; `max_connections` bounds the pool.
    """

    def __init__(self, *, request_timeout: float, max_connections: int) -> None:
        if not 0 < request_timeout < math.inf or max_connections < 1:
            raise ValueError("request_timeout must be positive seconds and max_connections at least 1")
        self._timeout = _limit(request_timeout)
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(self, url: URL, body: bytes, headers: Mapping[str, str], *, within: float | None = None) -> Result:
        """`within`: seconds for this request, where they are fewer than the client's own limit."""
        payload = _Body(body)
        response: aiohttp.ClientResponse | None = None
        try:
            response = await (self._session or self._open()).post(
                url,
                data=payload,
                headers=headers,
                allow_redirects=False,
                timeout=self._timeout if within is None else _limit(within),
            )
            answer = await _read(response.content)
        except Exception as error:
            problem = _problem(error, begun=payload.begun)
            if response is not None:
                response.close()
                return Reply(response.status, response.headers, None, problem)
            return Lost(problem) if payload.begun else Unsent(problem)
        except BaseException:
            if response is not None:
                response.close()
            raise
        if answer is None:
            response.close()  # what is still to come would hold the connection
            return Reply(response.status, response.headers, None, Problem.ANSWER_TOO_LONG)
        return Reply(response.status, response.headers, answer)

    async def close(self) -> None:
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("the client is closed")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_CLIENT_HEADERS,
            timeout=self._timeout,
            trust_env=False,
        )
        return self._session


def _limit(seconds: float) -> aiohttp.ClientTimeout:
    # A limit of 0 would mean none.
    return aiohttp.ClientTimeout(total=max(seconds, 0.001), ceil_threshold=math.inf)


async def _read(content: aiohttp.StreamReader) -> bytes | None:
    """The whole body, or None beyond the bound. aiohttp decompresses piece by piece, so a bomb stays small."""
    first = await content.readany()
    if content.at_eof():
        return first if len(first) <= MAX_ANSWER_BYTES else None
    pieces, size = [first], len(first)
    while piece := await content.readany():
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            return None
    return b"".join(pieces)


def _problem(error: Exception, *, begun: bool) -> Problem:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return Problem.DNS_FAILED
        case (
            aiohttp.ClientConnectorSSLError()
            | aiohttp.ClientConnectorCertificateError()
            | aiohttp.ServerFingerprintMismatch()
        ):
            return Problem.TLS_FAILED
        case aiohttp.ClientConnectorError():
            return Problem.CONNECT_FAILED
        case TimeoutError():
            return Problem.TIMEOUT if begun else Problem.CONNECT_TIMEOUT
        case aiohttp.ClientResponseError():
            return Problem.ANSWER_UNREADABLE
        case aiohttp.ClientError() | OSError():
            return Problem.CONNECTION_LOST if begun else Problem.CONNECT_FAILED
        case _:
            return Problem.ANSWER_UNREADABLE if begun else Problem.REQUEST_INVALID
