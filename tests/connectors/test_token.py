"""Workday's token: asked for once, renewed in time, repeated once after a 401, and never shown."""

import asyncio
from urllib.parse import parse_qs

import pytest

from connectors.contract import Accepted, CredentialsRejected, Outcome, Throttled, Unavailable
from connectors.workday import WorkdayConnector, WorkdaySettings
from connectors.workday.token import Failure, Token, TokenCache
from tests.connectors.events import shipment
from tests.connectors.platforms import CLIENT_ID, CLIENT_SECRET, TOKEN, connect, deliveries, platform_server
from tests.connectors.scripted_server import Play, Seen, Server, answer, raw

pytestmark = pytest.mark.fast


class Fetch:
    """A token's address: counts, waits for `open`, answers what it is told."""

    def __init__(self, *results: Token | Failure) -> None:
        self.results = list(results)
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self) -> Token | Failure:
        self.asked += 1
        await self.open.wait()
        return self.results.pop(0) if self.results else Token(f"token-{self.asked}", 100.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def cache(fetch: Fetch, clock: Clock, chance: float = 0.0) -> TokenCache:
    return TokenCache(fetch, clock=clock, chance=lambda: chance)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_who_wait_share_one_refresh() -> None:
    fetch = Fetch()
    fetch.open.clear()
    tokens = cache(fetch, Clock())
    waiting = [asyncio.create_task(tokens.get(5)) for _ in range(50)]
    await settle()
    fetch.open.set()
    assert await asyncio.gather(*waiting) == ["token-1"] * 50
    assert fetch.asked == 1


async def test_a_token_is_refreshed_before_it_ends_and_nobody_waits_for_that() -> None:
    fetch, clock = Fetch(), Clock()
    tokens = cache(fetch, clock)
    await tokens.get(5)
    clock.now += 79
    assert await tokens.get(5) == "token-1"
    await settle()
    assert fetch.asked == 1
    clock.now += 2
    assert [await tokens.get(5) for _ in range(3)] == ["token-1"] * 3
    await settle()
    assert await tokens.get(5) == "token-2"
    assert fetch.asked == 2


@pytest.mark.parametrize(("chance", "early"), [(0.0, 80), (0.5, 85), (0.999, 89.9)])
async def test_the_time_of_a_refresh_is_drawn(chance: float, early: float) -> None:
    fetch, clock = Fetch(), Clock()
    tokens = cache(fetch, clock, chance)
    await tokens.get(5)
    clock.now += early - 0.1
    await tokens.get(5)
    await settle()
    assert fetch.asked == 1
    clock.now += 0.2
    await tokens.get(5)
    await settle()
    assert fetch.asked == 2


async def test_a_refresh_that_fails_early_harms_nobody_and_is_tried_again() -> None:
    fetch, clock = Fetch(Token("first", 100.0), Unavailable(fate_known=True)), Clock()
    tokens = cache(fetch, clock)
    await tokens.get(5)
    clock.now += 85
    await tokens.get(5)
    await settle()
    assert await tokens.get(5) == "first"
    await settle()
    assert fetch.asked == 2
    clock.now += 5.1
    assert await tokens.get(5) == "first"
    await settle()
    assert await tokens.get(5) == "token-3"


async def test_a_token_that_ended_is_waited_for() -> None:
    fetch, clock = Fetch(), Clock()
    tokens = cache(fetch, clock)
    await tokens.get(5)
    clock.now += 100
    assert await tokens.get(5) == "token-2"


async def test_a_failure_is_told_to_all_who_wait_and_forgotten() -> None:
    fetch = Fetch(CredentialsRejected(error_code="X"))
    tokens = cache(fetch, Clock())
    assert await tokens.get(5) == CredentialsRejected(error_code="X")
    assert await tokens.get(5) == "token-2"


async def test_only_the_rejected_token_is_renewed() -> None:
    fetch = Fetch()
    tokens = cache(fetch, Clock())
    first = await tokens.get(5)
    assert isinstance(first, str)
    renewed = await asyncio.gather(*(tokens.renew(first, 5) for _ in range(20)))
    assert renewed == ["token-2"] * 20
    assert await tokens.renew(first, 5) == "token-2"
    assert fetch.asked == 2


async def test_waiting_ends_at_ones_own_limit_and_the_refresh_goes_on() -> None:
    fetch = Fetch()
    fetch.open.clear()
    tokens = cache(fetch, Clock())
    hurried, patient = asyncio.create_task(tokens.get(0.01)), asyncio.create_task(tokens.get(5))
    outcome = await hurried
    assert isinstance(outcome, Unavailable)
    assert (outcome.error_code, outcome.fate_known) == ("TOKEN_TIMEOUT", True)
    fetch.open.set()
    assert await patient == "token-1"


async def test_cancelling_one_who_waits_cancels_nobody_else() -> None:
    fetch = Fetch()
    fetch.open.clear()
    tokens = cache(fetch, Clock())
    first, second = asyncio.create_task(tokens.get(5)), asyncio.create_task(tokens.get(5))
    await settle()
    first.cancel()
    await settle()
    fetch.open.set()
    assert await second == "token-1"
    assert first.cancelled()


async def test_closing_ends_a_refresh_and_those_who_wait_get_an_outcome() -> None:
    fetch = Fetch()
    fetch.open.clear()
    tokens = cache(fetch, Clock())
    waiting = asyncio.create_task(tokens.get(5))
    await settle()
    await tokens.close()
    outcome = await waiting
    assert isinstance(outcome, Unavailable)
    assert outcome.fate_known


# Over HTTP


async def test_the_request_for_a_token_is_a_form() -> None:
    async with platform_server() as server:
        connector = connect("workday", server.url)
        sent = shipment(connector)
        await connector.send([sent], sent.idempotency_key)
        await connector.close()
    seen = server.seen[0]
    assert seen.path == "/oauth2/token"
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(seen.body.decode(), strict_parsing=True) == {
        "grant_type": ["client_credentials"],
        "client_id": [CLIENT_ID],
        "client_secret": [CLIENT_SECRET],
        "scope": ["volunteer_management"],
    }
    assert "authorization" not in seen.headers


async def test_another_address_for_tokens_is_used() -> None:
    async with platform_server() as server, Server([answer(200, {"access_token": "elsewhere"})]) as other:
        connector = WorkdayConnector(
            WorkdaySettings(CLIENT_ID, CLIENT_SECRET, "t", f"{server.url}/ccx", token_url=f"{other.url}/a/token?b=c")
        )
        sent = shipment(connector)
        await connector.send([sent], sent.idempotency_key)
        await connector.close()
    assert [seen.path for seen in other.seen] == ["/a/token?b=c"]
    assert server.seen[0].headers["authorization"] == "Bearer elsewhere"


async def send(server: Server, words: list[str] | None = None, timeout: float = 5.0) -> Outcome:
    connector = WorkdayConnector(
        WorkdaySettings(CLIENT_ID, CLIENT_SECRET, "t", server.url, request_timeout=timeout),
        on_refresh=None if words is None else words.append,
    )
    sent = shipment(connector)
    (outcome,) = await connector.send([sent], sent.idempotency_key)
    await connector.close()
    return outcome


async def test_many_deliveries_at_the_start_ask_for_one_token() -> None:
    async with platform_server() as server:
        connector = connect("workday", server.url)
        sent = [shipment(connector, number=number) for number in range(20)]
        await asyncio.gather(*(connector.send([one], one.idempotency_key) for one in sent))
        await connector.close()
    assert len(server.seen) - len(deliveries(server)) == 1


async def test_after_a_401_another_token_and_one_repeat_under_the_same_key() -> None:
    words: list[str] = []
    async with platform_server() as server:
        server.plays = [answer(401), answer(200, {"success": True, "transactionId": "t-2"})]
        outcome = await send(server, words)
    assert outcome == Accepted(http_status=200, transaction_id="t-2")
    assert [seen.path.rsplit("/", 1)[1] for seen in server.seen] == ["token", "activities", "token", "activities"]
    first, second = server.seen[1], server.seen[3]
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body
    assert words == ["ok", "ok"]


async def test_a_second_401_is_the_end() -> None:
    async with platform_server() as server:
        server.plays = [answer(401)]
        outcome = await send(server)
    assert isinstance(outcome, CredentialsRejected)
    assert len(deliveries(server)) == 2


async def test_a_renewal_that_fails_is_what_the_delivery_hears() -> None:
    async with platform_server() as server:
        good = server.by_path.pop("/oauth2/token")
        server.plays = [good, answer(401), answer(503, Retry_After="4")]
        outcome = await send(server)
    assert isinstance(outcome, Unavailable)
    assert (outcome.error_code, outcome.after, outcome.fate_known) == ("TOKEN_HTTP_503", 4.0, True)


async def hang(seen: Seen, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


FAILURES: list[tuple[Play, type[Outcome], str, str]] = [
    (answer(401, {"error": "invalid_client"}), CredentialsRejected, "TOKEN_INVALID_CLIENT", "rejected"),
    (answer(401), CredentialsRejected, "TOKEN_HTTP_401", "rejected"),
    (answer(403), CredentialsRejected, "TOKEN_HTTP_403", "rejected"),
    (answer(400, {"error": "invalid_client"}), CredentialsRejected, "TOKEN_INVALID_CLIENT", "rejected"),
    (answer(400, {"error": "invalid_grant"}), CredentialsRejected, "TOKEN_INVALID_GRANT", "rejected"),
    (answer(400, {"error": "unauthorized_client"}), CredentialsRejected, "TOKEN_UNAUTHORIZED_CLIENT", "rejected"),
    (answer(400, {"error": "invalid_scope"}), CredentialsRejected, "TOKEN_INVALID_SCOPE", "rejected"),
    (answer(400, {"error": "invalid_request"}), Unavailable, "TOKEN_HTTP_400", "unavailable"),
    (answer(400, {"error": CLIENT_SECRET}), Unavailable, "TOKEN_HTTP_400", "unavailable"),
    (answer(429, Retry_After="9"), Throttled, "TOKEN_HTTP_429", "unavailable"),
    (answer(500), Unavailable, "TOKEN_HTTP_500", "unavailable"),
    (answer(302, Location="http://169.254.169.254/"), Unavailable, "TOKEN_HTTP_302", "unavailable"),
    (answer(200, b"<html>"), Unavailable, "TOKEN_UNREADABLE", "unavailable"),
    (answer(200, {}), Unavailable, "TOKEN_UNREADABLE", "unavailable"),
    (answer(200, {"access_token": 7}), Unavailable, "TOKEN_UNREADABLE", "unavailable"),
    (answer(200, {"access_token": "a b"}), Unavailable, "TOKEN_UNREADABLE", "unavailable"),
    (answer(200, {"access_token": "a\r\nX: y"}), Unavailable, "TOKEN_UNREADABLE", "unavailable"),
    (answer(200, {"access_token": "x" * 9000}), Unavailable, "TOKEN_UNREADABLE", "unavailable"),
    (answer(200, {"access_token": "t", "token_type": "mac"}), Unavailable, "TOKEN_UNREADABLE", "unavailable"),
    (answer(200, b"x" * 2_000_000), Unavailable, "TOKEN_UNREADABLE", "unavailable"),
    (raw(b""), Unavailable, "TOKEN_CONNECTION_LOST", "unavailable"),
]


@pytest.mark.parametrize(("play", "expected", "code", "word"), FAILURES)
async def test_no_token_is_an_outcome_and_nothing_is_sent(
    play: Play, expected: type[Outcome], code: str, word: str
) -> None:
    words: list[str] = []
    async with platform_server() as server:
        server.by_path["/oauth2/token"] = play
        outcome = await send(server, words)
    assert type(outcome) is expected
    assert outcome.error_code == code
    assert words == [word]
    assert deliveries(server) == []
    assert CLIENT_SECRET not in repr(outcome)
    if isinstance(outcome, Unavailable):
        assert outcome.fate_known


async def test_one_limit_covers_token_and_request() -> None:
    async with platform_server() as server:
        server.by_path["/oauth2/token"] = hang
        began = asyncio.get_running_loop().time()
        outcome = await send(server, timeout=0.2)
        assert asyncio.get_running_loop().time() - began < 1
    assert isinstance(outcome, Unavailable)
    assert outcome.error_code in ("TOKEN_TIMEOUT", "TOKEN_CONNECT_TIMEOUT")


@pytest.mark.parametrize(
    ("expires_in", "life"),
    [
        (60, 60),
        ("120", 120),
        (1.5, 1.5),
        (None, 3600),
        (0, 3600),
        (-5, 3600),
        ("soon", 3600),
        (True, 3600),
        (1e9, 86400),
    ],
)
async def test_a_tokens_life_is_bounded(expires_in: object, life: float) -> None:
    async with platform_server() as server:
        body = {"access_token": "t", "token_type": "bearer", "expires_in": expires_in}
        server.by_path["/oauth2/token"] = answer(200, body)
        connector = WorkdayConnector(WorkdaySettings(CLIENT_ID, CLIENT_SECRET, "t", server.url))
        token = await connector._tokens._fetch()
        await connector.close()
    assert isinstance(token, Token)
    assert token.life == life


def test_no_repr_shows_a_token() -> None:
    assert TOKEN not in repr(Token(TOKEN, 1.0)) + str(Token(TOKEN, 1.0))
