"""What the network can do to a request: each ends as a value, in time, and in bounded memory."""

import asyncio
import gzip
import ssl
import subprocess
import time
import zlib
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from yarl import URL

from connectors.contract import Accepted, Outcome, Refused, Unavailable, Uncertain
from connectors.http_client import (
    MAX_ANSWER_BYTES,
    HttpClient,
    Lost,
    Problem,
    Reply,
    Result,
    Unsent,
    _limit,
    checked_header,
    checked_url,
)
from tests.connectors.events import shipment
from tests.connectors.platforms import REAL, connect, deliveries, platform_server
from tests.connectors.scripted_server import Play, Seen, Server, answer, closed_port, raw

pytestmark = pytest.mark.fast

HEADERS = {"Content-Type": "application/json"}


async def post(server: Server | str, timeout: float = 5.0, body: bytes = b"{}", **more: Any) -> Result:
    url = server if isinstance(server, str) else server.url
    client = HttpClient(request_timeout=timeout, max_connections=2)
    try:
        return await client.post(URL(url), body, HEADERS, **more)
    finally:
        await client.close()


async def test_a_refused_connection_sent_nothing() -> None:
    async with closed_port() as port:
        assert await post(f"http://127.0.0.1:{port}") == Unsent(Problem.CONNECT_FAILED)


async def test_an_unknown_host_sent_nothing() -> None:
    assert await post("http://nowhere.invalid") == Unsent(Problem.DNS_FAILED)


async def test_no_tls_where_it_is_expected_sent_nothing() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    plain = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with plain:
        port = plain.sockets[0].getsockname()[1]
        assert await post(f"https://127.0.0.1:{port}") == Unsent(Problem.TLS_FAILED)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=127.0.0.1"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    try:
        subprocess.run(command.split(), check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificate, and is not here")
    return certificate, key


async def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    arrived: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.read())
        writer.close()

    tls = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with tls:
        port = tls.sockets[0].getsockname()[1]
        assert await post(f"https://127.0.0.1:{port}") == Unsent(Problem.TLS_FAILED)
    assert not any(arrived)


async def test_no_free_connection_within_the_limit_sent_nothing() -> None:
    async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with Server([silent]) as server:
        client = HttpClient(request_timeout=5.0, max_connections=1)
        first = asyncio.create_task(client.post(URL(server.url), b"{}", HEADERS))
        await server.until_seen(1)
        assert await client.post(URL(server.url), b"{}", HEADERS, within=0.05) == Unsent(Problem.CONNECT_TIMEOUT)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await client.close()
        assert len(server.seen) == 1


async def test_a_connection_closed_after_the_request_is_lost() -> None:
    async with Server([raw(b"")]) as server:
        assert await post(server) == Lost(Problem.CONNECTION_LOST)


async def test_a_connection_reset_after_the_request_is_lost() -> None:
    async def reset(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with Server([reset]) as server:
        assert await post(server) == Lost(Problem.CONNECTION_LOST)


async def test_a_post_is_never_repeated_by_itself() -> None:
    """The second request meets a kept connection that the server closes on sight."""
    async with Server([answer(200, {}), raw(b""), answer(200, {})]) as server:
        client = HttpClient(request_timeout=5.0, max_connections=1)
        assert isinstance(await client.post(URL(server.url), b"1", HEADERS), Reply)
        assert await client.post(URL(server.url), b"2", HEADERS) == Lost(Problem.CONNECTION_LOST)
        await client.close()
        assert [seen.body for seen in server.seen] == [b"1", b"2"]


async def test_silence_ends_at_the_limit() -> None:
    async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with Server([silent]) as server:
        began = time.monotonic()
        assert await post(server, timeout=0.2) == Lost(Problem.TIMEOUT)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("status", [200, 503])
async def test_a_dripping_body_ends_at_the_limit(status: int) -> None:
    async def drip(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 1000\r\nRetry-After: 9\r\n\r\n".encode())
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with Server([drip]) as server:
        began = time.monotonic()
        result = await post(server, timeout=0.3)
        assert time.monotonic() - began < 2
    assert isinstance(result, Reply)
    assert (result.status, result.body, result.problem) == (status, None, Problem.TIMEOUT)
    assert result.headers["retry-after"] == "9"


async def test_a_limit_over_five_seconds_is_not_rounded_up() -> None:
    """aiohttp rounds such limits up to whole seconds of the loop's clock unless told otherwise."""
    assert _limit(30.0).ceil_threshold > 30.0
    assert _limit(-1.0).total == 0.001


async def test_dripping_headers_end_at_the_limit() -> None:
    async def drip(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-A: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with Server([drip]) as server:
        assert await post(server, timeout=0.3) == Lost(Problem.TIMEOUT)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with Server() as inner, Server([answer(status, None, Location=inner.url)]) as server:
        result = await post(server)
        assert isinstance(result, Reply)
        assert result.status == status
        assert inner.connections == 0


async def test_a_body_at_the_bound_is_read_and_one_beyond_is_not() -> None:
    for size, whole in ((MAX_ANSWER_BYTES, True), (MAX_ANSWER_BYTES + 1, False)):
        async with Server([answer(200, b"x" * size)]) as server:
            result = await post(server)
            assert isinstance(result, Reply)
            assert (result.body is not None) == whole
            assert result.problem == (None if whole else Problem.ANSWER_TOO_LONG)


async def test_an_endless_body_is_not_read_on() -> None:
    sent = 0

    async def endless(seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with Server([endless]) as server:
        result = await post(server)
        assert isinstance(result, Reply)
        assert result.problem is Problem.ANSWER_TOO_LONG
    assert sent < 64 * 1024 * 1024


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_bomb_is_not_unpacked(encoding: str) -> None:
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    bomb = b"".join(packer.compress(b"\0" * 1024 * 1024) for _ in range(64)) + packer.flush()
    assert len(bomb) < 100_000
    async with Server([answer(200, bomb, Content_Encoding=encoding)]) as server:
        result = await post(server)
    assert isinstance(result, Reply)
    assert (result.body, result.problem) == (None, Problem.ANSWER_TOO_LONG)


async def test_a_compressed_answer_is_read_though_none_was_asked_for() -> None:
    async with Server([answer(200, gzip.compress(b'{"success":true}'), Content_Encoding="gzip")]) as server:
        result = await post(server)
    assert isinstance(result, Reply)
    assert result.body == b'{"success":true}'
    assert server.seen[0].headers["accept-encoding"] == "identity"


GARBAGE: dict[str, tuple[Play, type[Result]]] = {
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), Lost),
    "binary": (raw(bytes(range(256)) * 8), Lost),
    "no status": (raw(b"HTTP/1.1\r\n\r\n"), Lost),
    "a header too long": (raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"), Lost),
    "headers without end": (raw(b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * 10_000), Lost),
    "two lengths": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"), Lost),
    "a body cut short": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"), Reply),
    "chunks cut short": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), Reply),
    "no chunk": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), Reply),
    "no gzip": (answer(200, b"plain", Content_Encoding="gzip"), Reply),
    "brotli": (answer(200, b"\x0b\x02\x80hello\x03", Content_Encoding="br"), Reply),
    "half a gzip": (answer(200, gzip.compress(b'{"success":true,"a":1}' * 9)[:-20], Content_Encoding="gzip"), Reply),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_is_a_value(kind: str) -> None:
    play, expected = GARBAGE[kind]
    async with platform_server() as server:
        server.plays[0] = play
        result = await post(server)
        assert isinstance(result, expected | Lost)
        for name in REAL:
            connector = connect(name, server.url)
            sent = shipment(connector)
            (outcome,) = await connector.send([sent], uuid4())
            await connector.close()
            assert isinstance(outcome, Uncertain)


async def test_early_hints_come_before_the_answer() -> None:
    data = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    async with Server([raw(data)]) as server:
        result = await post(server)
    assert isinstance(result, Reply)
    assert (result.status, result.body) == (200, b"{}")


async def test_a_request_that_cannot_be_written_is_unsent() -> None:
    async with Server() as server:
        client = HttpClient(request_timeout=1.0, max_connections=1)
        result = await client.post(URL(server.url), b"{}", {"X": "a\r\nY: b"})
        assert result == Unsent(Problem.REQUEST_INVALID)
        await client.close()
        assert await client.post(URL(server.url), b"{}", HEADERS) == Unsent(Problem.REQUEST_INVALID)
        assert server.seen == []


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"])
async def test_cancelling_closes_the_connection(begun: bytes) -> None:
    async with Server([raw(begun, then_close=False)]) as server:
        client = HttpClient(request_timeout=5.0, max_connections=1)
        task = asyncio.create_task(client.post(URL(server.url), b"{}", HEADERS))
        await server.until_seen(1)
        await asyncio.sleep(0.02)  # lets the answer's beginning arrive; the test holds without
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until_left()
        await client.close()


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server() as proxy, Server() as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert isinstance(await post(server), Reply)
        assert proxy.connections == 0


async def test_a_large_body_is_sent_whole() -> None:
    async with Server() as server:
        assert isinstance(await post(server, body=b"x" * 3_000_000), Reply)
    assert len(server.seen[0].body) == 3_000_000


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    ("play", "expected", "code"),
    [
        (answer(200, b"x" * (MAX_ANSWER_BYTES + 1)), Uncertain, "ANSWER_TOO_LONG"),
        (answer(422, b"x" * (MAX_ANSWER_BYTES + 1)), Refused, "HTTP_422"),
        (raw(b"HTTP/1.1 422 No\r\nContent-Length: 50\r\n\r\n{"), Uncertain, "CONNECTION_LOST"),
        (raw(b"HTTP/1.1 500 No\r\nContent-Length: 50\r\n\r\n{"), Unavailable, "HTTP_500"),
        (raw(b""), Uncertain, "CONNECTION_LOST"),
    ],
)
async def test_network_trouble_is_an_outcome(name: str, play: Play, expected: type[Outcome], code: str) -> None:
    async with platform_server() as server:
        server.plays[0] = play
        connector = connect(name, server.url)
        sent = shipment(connector)
        (outcome,) = await connector.send([sent], sent.idempotency_key)
        await connector.close()
    assert type(outcome) is expected
    assert outcome.error_code == code
    assert len(deliveries(server)) == 1


@pytest.mark.parametrize("name", REAL)
async def test_nobody_there_is_unavailable_with_a_known_fate(name: str) -> None:
    async with closed_port() as port:
        connector = connect(name, f"http://127.0.0.1:{port}")
        sent = shipment(connector)
        (outcome,) = await connector.send([sent], sent.idempotency_key)
        await connector.close()
    assert isinstance(outcome, Unavailable)
    assert outcome.fate_known
    assert outcome.http_status is None


@pytest.mark.parametrize("name", REAL)
async def test_a_platform_that_comes_back_is_found_again(name: str) -> None:
    async with platform_server() as server:
        connector = connect(name, server.url)
        sent = shipment(connector)
        await connector.send([sent], sent.idempotency_key)
        port = server.port
    (outcome,) = await connector.send([sent], sent.idempotency_key)
    assert isinstance(outcome, Unavailable | Uncertain)
    again = platform_server()
    again.port = port
    async with again:
        (outcome,) = await connector.send([sent], sent.idempotency_key)
        await connector.close()
    assert isinstance(outcome, Accepted)


@pytest.mark.parametrize(
    "text", ["", "ftp://a/b", "//a/b", "http://", "http://user:pw@host/", "http://[::1", "http://a:99999999/", "x" * 9]
)
def test_an_address_that_does_not_fit_is_named_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^THE_URL must be an http or https address without user or password$"):
        checked_url(text, "THE_URL")


@pytest.mark.parametrize("text", ["", "a\nb", "ä", "a\x00", " a", "a\r"])
def test_a_header_that_does_not_fit_is_named_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^THE_KEY must be printable ASCII, not empty, without spaces around it$"):
        checked_header(text, "THE_KEY")


@pytest.mark.parametrize(("timeout", "connections"), [(0, 1), (-1, 1), (float("inf"), 1), (float("nan"), 1), (1, 0)])
def test_limits_have_to_make_sense(timeout: float, connections: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        HttpClient(request_timeout=timeout, max_connections=connections)
