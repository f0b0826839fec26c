"""Workday's access token: OAuth 2.0 client credentials (RFC 6749, section 4.4; contract, section 4).

    valid and young     given at once
    valid, in its last  given at once, while one refresh runs beside it
    none or over        waited for: one refresh for all who wait

A token's last part begins at 80 to 90 % of its life, at random, so that many workers do not refresh together. Its life
is counted from before the request, so it is never thought longer than it is. A refresh that fails beside a valid token
harms nobody; it is tried again 5 s later. Whoever waits does so no longer than its own time limit, and takes the
refresh down with it for nobody else.

| answer of the token's address | outcome for the delivery (nothing of which was sent) |
|---|---|
| 200 with a bearer token | goes on |
| 401, 403, or 400 `invalid_client`, `invalid_grant`, `invalid_scope`, `unauthorized_client` | CredentialsRejected |
| 429 | Throttled, `Retry-After` obeyed |
| anything else, or none | Unavailable, fate known |
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import msgspec
from yarl import URL

from connectors.contract import CredentialsRejected, Throttled, Unavailable
from connectors.http_client import SENTENCES, HttpClient, Reply
from connectors.retry_after import retry_after

SCOPE = "volunteer_management"
USUAL_LIFE = 3600.0
LONGEST_LIFE = 86_400.0
RETRY_SECONDS = 5.0
MAX_TOKEN = 8192

_REJECTED = frozenset({"invalid_client", "invalid_grant", "invalid_scope", "unauthorized_client"})

Failure = CredentialsRejected | Throttled | Unavailable
OnRefresh = Callable[[str], None]
"""Told the result of each refresh: `ok`, `rejected` or `unavailable`, as in `impact_in_oauth_refreshes_total`."""


class Token:
    """A bearer token and its life in seconds. No repr shows the text."""

    __slots__ = ("life", "text")

    def __init__(self, text: str, life: float) -> None:
        self.text = text
        self.life = life

    def __repr__(self) -> str:
        return f"<Token, {self.life:.0f} s>"


class _Answer(msgspec.Struct):
    access_token: Any = None
    token_type: Any = None
    expires_in: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


class TokenRequest:
    """Asks the token's address once. Never raises for what the network did."""

    def __init__(self, http: HttpClient, url: URL, client_id: str, client_secret: str) -> None:
        self._http = http
        self._url = url
        self._body = urlencode(
            {
                "grant_type": "client_credentials",
                "client_id": client_id,
                "client_secret": client_secret,
                "scope": SCOPE,
            }
        ).encode()
        self._headers = {"Content-Type": "application/x-www-form-urlencoded"}

    async def __call__(self) -> Token | Failure:
        result = await self._http.post(self._url, self._body, self._headers)
        if not isinstance(result, Reply):
            return _unavailable(f"TOKEN_{result.problem.value}", f"token request: {SENTENCES[result.problem]}")
        answer = _read(result.body)
        if result.status == 200 and answer is not None and (token := _token(answer)) is not None:
            return token
        error = answer.error if answer is not None and isinstance(answer.error, str) else None
        message = f"token request: HTTP {result.status}"
        if result.status in (401, 403) or (result.status == 400 and error in _REJECTED):
            # Only the words of RFC 6749 are passed on: what else stands there may quote the secret.
            code = f"TOKEN_{error.upper()}" if error in _REJECTED else f"TOKEN_HTTP_{result.status}"
            return CredentialsRejected(http_status=result.status, error_code=code, error_message=message)
        code = f"TOKEN_HTTP_{result.status}"
        if result.status == 429:
            return Throttled(http_status=429, error_code=code, error_message=message, after=retry_after(result.headers))
        if result.status == 200:
            code, message = "TOKEN_UNREADABLE", "token request: HTTP 200 without a bearer token"
        after = retry_after(result.headers) if result.status == 503 else None
        return _unavailable(code, message, result.status, after)


class TokenCache:
    """The token of one worker. `fetch` asks for a new one; `clock` in seconds, never backwards."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Token | Failure]],
        *,
        on_refresh: OnRefresh | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._fetch = fetch
        self._on_refresh = on_refresh
        self._clock = clock
        self._chance = chance
        self._text: str | None = None
        self._given: deque[str] = deque(maxlen=2)
        self._refresh_at = 0.0
        self._ends_at = 0.0
        self._refreshing: asyncio.Task[str | Failure] | None = None

    @property
    def recent(self) -> tuple[str, ...]:
        """The last tokens, for those who have to keep them out of what they write."""
        return tuple(self._given)

    async def get(self, within: float) -> str | Failure:
        """A token, waiting at most `within` seconds for one."""
        now = self._clock()
        if self._text is not None and now < self._ends_at:
            if now >= self._refresh_at and self._refreshing is None:
                self._refresh()
            return self._text
        refresh = self._refreshing or self._refresh()
        try:
            async with asyncio.timeout(max(within, 0.0)):
                return await asyncio.shield(refresh)
        except TimeoutError:
            return _unavailable("TOKEN_TIMEOUT", "token request: no answer within the time limit")
        except asyncio.CancelledError:
            if refresh.cancelled():  # by close(), not we
                return _unavailable("TOKEN_CLOSED", "token request: the connector was closed")
            raise

    async def renew(self, rejected: str, within: float) -> str | Failure:
        """Another token than the one that a platform just rejected."""
        if self._text == rejected:
            self._text = None
        return await self.get(within)

    async def close(self) -> None:
        self._text = None
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    def _refresh(self) -> "asyncio.Task[str | Failure]":
        self._refreshing = asyncio.create_task(self._run())
        return self._refreshing

    async def _run(self) -> str | Failure:
        asked_at = self._clock()
        try:
            result = await self._fetch()
            if isinstance(result, Token):
                self._text = result.text
                self._given.append(result.text)
                self._refresh_at = asked_at + result.life * (0.8 + 0.1 * self._chance())
                self._ends_at = asked_at + result.life
            else:
                self._refresh_at = self._clock() + RETRY_SECONDS
        finally:
            self._refreshing = None
        if self._on_refresh is not None:
            rejected = isinstance(result, CredentialsRejected)
            self._on_refresh("ok" if isinstance(result, Token) else "rejected" if rejected else "unavailable")
        return result.text if isinstance(result, Token) else result


def _read(raw: bytes | None) -> _Answer | None:
    if not raw:
        return None
    try:
        return _decode(raw)
    except (ValueError, RecursionError):
        return None


def _token(answer: _Answer) -> Token | None:
    text, kind, life = answer.access_token, answer.token_type, answer.expires_in
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TOKEN:
        return None
    if not text.isascii() or not text.isprintable() or " " in text:
        return None
    if kind is not None and not (isinstance(kind, str) and kind.lower() == "bearer"):
        return None
    if isinstance(life, str) and life.isascii() and life.isdecimal() and len(life) <= 10:
        life = int(life)
    if isinstance(life, bool) or not isinstance(life, int | float) or not life > 0:
        life = USUAL_LIFE
    return Token(text, min(float(life), LONGEST_LIFE))


def _unavailable(code: str, message: str, status: int | None = None, after: float | None = None) -> Unavailable:
    return Unavailable(http_status=status, error_code=code, error_message=message, after=after, fate_known=True)
