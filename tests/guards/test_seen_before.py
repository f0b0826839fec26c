"""What every fast memory promises: one suite for the twin and for Valkey."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import redis.asyncio

from guards.contract import SeenBefore, Sighting
from guards.memory import MemorySeenBefore
from guards.redis_memory import REMEMBER_SECONDS, RedisSeenBefore

HERE = Sighting("c" * 64, "impact.metrics", 3, 14)


@pytest.fixture(
    params=[pytest.param("memory", marks=pytest.mark.fast), pytest.param("redis", marks=pytest.mark.servers)]
)
def memory_url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue("redis_url")


@pytest.fixture
async def seen(memory_url: str | None) -> AsyncIterator[SeenBefore]:
    memory: SeenBefore = MemorySeenBefore() if memory_url is None else RedisSeenBefore.open(memory_url, "ledger-1")
    yield memory
    await memory.close()


async def test_what_is_remembered_is_found_and_nothing_else(seen: SeenBefore) -> None:
    known, unknown = uuid4(), uuid4()
    await seen.remember({known: HERE})
    assert await seen.lookup([unknown, known]) == {known: HERE}
    assert await seen.lookup([]) == {}


async def test_an_event_that_came_by_http_has_no_coordinates(seen: SeenBefore) -> None:
    known = uuid4()
    sighting = Sighting("d" * 64, None, None, None)
    await seen.remember({known: sighting})
    assert await seen.lookup([known]) == {known: sighting}


async def test_a_memory_that_answers_says_so(seen: SeenBefore) -> None:
    assert await seen.ping() is True


@pytest.mark.servers
async def test_another_ledger_does_not_see_it_and_it_expires(redis_url: str) -> None:
    mine, theirs = RedisSeenBefore.open(redis_url, "ledger-1"), RedisSeenBefore.open(redis_url, "ledger-2")
    client = redis.asyncio.from_url(redis_url)
    try:
        known = uuid4()
        await mine.remember({known: HERE})
        assert await theirs.lookup([known]) == {}
        lifetime = await client.ttl(f"idempotency:ledger-1:{known}")
        assert REMEMBER_SECONDS - 60 < lifetime <= REMEMBER_SECONDS
        await client.set(f"idempotency:ledger-1:{known}", b"not ours")
        assert await mine.lookup([known]) == {}
    finally:
        await client.aclose()
        await mine.close()
        await theirs.close()


@pytest.mark.fast
async def test_a_memory_out_of_reach_knows_nothing_and_raises_nothing(free_port: int) -> None:
    seen = RedisSeenBefore.open(f"redis://127.0.0.1:{free_port}/0", "ledger-1")
    await seen.remember({uuid4(): HERE})
    assert await seen.lookup([uuid4()]) == {}
    assert await seen.ping() is False
    await seen.close()
