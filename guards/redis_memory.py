"""The fast memory in Redis 7+ or Valkey 8+.

Key: `idempotency:{ledger}:{event_id}`. The ledger's id is in it, so that an old memory never judges a new ledger.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self
from uuid import UUID

import msgspec
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from guards.contract import Sighting

REMEMBER_SECONDS = 24 * 3600

# One command for all: a pipeline costs the client more for each of its commands than the server spends on them.
_REMEMBER = "for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[i + 1], 'EX', ARGV[1]) end"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Sighting)
_UNREACHABLE = (RedisError, OSError, TimeoutError, asyncio.TimeoutError)


class RedisSeenBefore:
    """`guards.contract.SeenBefore` on a server. After a failure it is left alone for a second, so that an outage
    costs a batch nothing but that first time-out."""

    def __init__(self, client: "redis.asyncio.Redis", ledger: str) -> None:
        self._client = client
        self._prefix = f"idempotency:{ledger}:"
        self._away_until = 0.0

    @classmethod
    def open(cls, url: str, ledger: str, *, timeout: float = 0.5) -> Self:
        """Connects at first use. No retries inside the client: the ledger is asked instead."""
        client = redis.asyncio.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
        return cls(client, ledger)

    async def lookup(self, event_ids: Sequence[UUID]) -> Mapping[UUID, Sighting]:
        if not event_ids or time.monotonic() < self._away_until:
            return {}
        try:
            values = await self._client.mget([f"{self._prefix}{event_id}" for event_id in event_ids])
        except _UNREACHABLE:
            self._away_until = time.monotonic() + 1.0
            return {}
        found: dict[UUID, Sighting] = {}
        for event_id, value in zip(event_ids, values, strict=True):
            sighting = _decode(value)
            if sighting is not None:
                found[event_id] = sighting
        return found

    async def remember(self, sightings: Mapping[UUID, Sighting]) -> None:
        if not sightings or time.monotonic() < self._away_until:
            return
        try:
            written: Any = self._client.eval(
                _REMEMBER,
                len(sightings),
                *[f"{self._prefix}{event_id}" for event_id in sightings],
                str(REMEMBER_SECONDS),
                *[_encoder.encode(sighting) for sighting in sightings.values()],
            )
            await written
        except _UNREACHABLE:
            self._away_until = time.monotonic() + 1.0

    async def ping(self) -> bool:
        try:
            ping: Any = self._client.ping()
            return bool(await ping)
        except _UNREACHABLE:
            return False

    async def close(self) -> None:
        await self._client.aclose()


def _decode(value: bytes | str | None) -> Sighting | None:
    if value is None:
        return None
    try:
        return _decoder.decode(value if isinstance(value, bytes) else value.encode())
    except msgspec.DecodeError:  # another version's, or somebody's else: as good as forgotten
        return None
