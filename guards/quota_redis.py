"""The quotas in Redis 7+ or Valkey 8+: one Lua script (`quota.lua`), by the server's clock.

Keys: `quota:{ledger:scope}`, about 300 bytes a scope for 25 hours, and `quota:{ledger:scope}:call:{id}` for each grant
of the last 10 seconds. The braces are a hash tag: a cluster keeps a scope together. The ledger's id is in it, so that
an old memory never judges a new ledger.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any, Self
from uuid import uuid4

import msgspec
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from guards.quota_contract import (
    SHORTEST_WAIT,
    WINDOWS,
    Attempts,
    Granted,
    Limits,
    QuotasOutOfReach,
    Wait,
    in_microseconds,
)

_SCRIPT = resources.files("guards").joinpath("quota.lua").read_text(encoding="utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_WAIT, _GRANTED, _FORGOTTEN = 0, 1, 2  # as in quota.lua
_CONNECTIONS = 16
_UNREACHABLE = (redis.exceptions.RedisError, OSError, TimeoutError)
_REPLY_LOST = (redis.exceptions.ConnectionError, OSError)


class RedisQuotas:
    """`guards.quota_contract.Quotas` on a server.

    A call takes `timeout` seconds at most, then raises `QuotasOutOfReach`. Where the connection breaks, it is repeated
    once within that time, under the same id: so a server that closed an idle connection costs nothing, and a reply
    lost on the way grants nothing twice.

    `clock`, in seconds, replaces the server's: for tests.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        ledger: str,
        *,
        attempts: Attempts | None = None,
        timeout: float = 0.5,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._attempts = attempts
        self._timeout = timeout
        self._clock = clock
        self._rebuilding: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @classmethod
    def open(
        cls,
        url: str,
        ledger: str,
        *,
        attempts: Attempts | None = None,
        timeout: float = 0.5,
        clock: Callable[[], float] | None = None,
    ) -> Self:
        """Connects at first use, at most 16 times at once. No retries inside the client: they know no id."""
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        client = redis.asyncio.Redis.from_pool(pool)
        return cls(client, ledger, attempts=attempts, timeout=timeout, clock=clock)

    async def take(self, scope: str, limits: Limits, *, call: str | None = None) -> Granted | Wait:
        """`call`: the id of an earlier call, to repeat it."""
        call = call or uuid4().hex
        limited = ["" if limit is None else limit for limit in limits.in_order()]
        said, after = await self._run_with_memory("take", scope, limits, call, *limited)
        if said == _GRANTED:
            return Granted(call)
        return Wait(max(after / 1_000_000, SHORTEST_WAIT))

    async def give_back(self, scope: str, granted: Granted) -> None:
        await self._run("give_back", scope, granted.token)

    async def hold(self, scope: str, seconds: float) -> None:
        await self._run("hold", scope, "", in_microseconds(seconds))

    async def rebuild(self, scope: str, limits: Limits, ages: Sequence[float]) -> None:
        await self._run("rebuild", scope, "", _packed(ages))

    async def tell(self, scope: str, ages: Sequence[float]) -> None:
        # Where the memory was lost, the ledger tells all of it: what was granted meanwhile was written down there.
        await self._run_with_memory("tell", scope, Limits(), uuid4().hex, _packed(ages), once=True)

    async def usage(self, scope: str, limits: Limits) -> Mapping[str, int]:
        counts = await self._run("usage", scope, "")
        return {
            name: number
            for name, number, limit in zip(WINDOWS, counts, limits.in_order(), strict=True)
            if limit is not None
        }

    async def ping(self) -> bool:
        try:
            ping: Any = self._client.ping()
            return bool(await ping)
        except _UNREACHABLE:
            return False

    async def close(self) -> None:
        await self._client.aclose()

    async def _run_with_memory(
        self, operation: str, scope: str, limits: Limits, call: str, *arguments: str | bytes | int, once: bool = False
    ) -> list[int]:
        # `once`: what the ledger tells makes a second run needless.
        if self._attempts is None:
            return await self._run(operation, scope, call, "", *arguments)
        said = await self._run(operation, scope, call, "1", *arguments)
        if said[0] != _FORGOTTEN:
            return said
        async with self._rebuilding[scope]:  # a hundred who wait for a scope ask the ledger once
            said = await self._run(operation, scope, call, "1", *arguments)
            if said[0] == _FORGOTTEN:
                await self.rebuild(scope, limits, await self._attempts(scope))
                said = [_GRANTED, 0] if once else await self._run(operation, scope, call, "", *arguments)
        self._rebuilding.pop(scope, None)
        return said

    async def _run(self, operation: str, scope: str, call: str, *arguments: str | bytes | int) -> list[int]:
        key = f"quota:{{{self._ledger}:{scope}}}"
        now = "" if self._clock is None else in_microseconds(self._clock())
        script_arguments = [key, f"{key}:call:{call}", operation, now, *arguments]
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await self._evaluate(script_arguments)
                except _REPLY_LOST:
                    return await self._evaluate(script_arguments)
        except _UNREACHABLE as error:
            raise QuotasOutOfReach(f"{operation}: {type(error).__name__}: {error}") from error

    async def _evaluate(self, arguments: list[str | bytes | int]) -> list[int]:
        client: Any = self._client
        try:
            answer: list[int] = await client.evalsha(_SHA, 2, *arguments)
        except redis.exceptions.NoScriptError:  # restarted, or flushed of scripts: it did nothing
            answer = await client.eval(_SCRIPT, 2, *arguments)
        return answer


def _packed(ages: Sequence[float]) -> bytes:
    return msgspec.msgpack.encode([max(in_microseconds(age), 0) for age in ages])
