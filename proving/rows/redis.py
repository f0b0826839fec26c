"""Faults of the fast memory: slower, and nothing else."""

import asyncio
from typing import Any

import redis.asyncio

from proving.row import Row
from proving.trial import Conditions, Trial, Unmet

# High enough not to be in the way, and asked for each request all the same.
_LIMITS = {"per_second": 400}
_THROUGH = Conditions(through=("redis",), limits=_LIMITS)
_DIRECT = Conditions(limits=_LIMITS)


def _client(trial: Trial) -> Any:
    return redis.asyncio.from_url(trial.ground.cache.url, socket_timeout=5.0)


async def _down(trial: Trial) -> None:
    await trial.start()
    await trial.publish(0.0, 0.5)
    await trial.flowing(0.1)
    trial.ground.cache.kill()
    before = await trial.delivered()
    await trial.publish(0.5, 1.0)
    await trial.until(lambda: _moved(trial, before + 200), 60.0, "deliveries go on without Redis")
    trial.fired(f"SIGKILL to the server; {await trial.delivered() - before} deliveries while it was away")
    trial.lifted()
    await asyncio.to_thread(trial.ground.cache.start)


async def _moved(trial: Trial, count: int) -> bool:
    return await trial.delivered() >= count


async def _flushed(trial: Trial) -> None:
    """Three times in full flow, and once more before the first half is published a second time: every duplicate has to
    be known by the ledger."""
    await trial.start()
    await trial.publish(0.0, 0.7)
    forgotten = 0
    async with _client(trial) as client:
        for share in (0.1, 0.25, 0.4):
            await trial.flowing(share)
            forgotten += await client.dbsize()
            await client.flushall()
        trial.lifted()
        await trial.publish_again(0.0, 0.3)
        await client.flushall()
    if not forgotten:
        raise Unmet("there was nothing to flush")
    trial.fired(f"four times FLUSHALL, {forgotten} keys forgotten; 30 % of the events published again")
    await trial.publish(0.7, 1.0)


async def _evicting(trial: Trial) -> None:
    await trial.start()
    await trial.publish(0.0, 0.5)
    await trial.flowing(0.05)
    async with _client(trial) as client:
        await client.config_set("maxmemory-policy", "allkeys-random")
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", used + 1_000)
        await trial.publish(0.5, 1.0)
        await trial.publish_again(0.0, 0.2)
        await trial.flowing(0.9, timeout=90.0)
        evicted = (await client.info("stats"))["evicted_keys"]
        refusals = int((await client.info("errorstats")).get("errorstat_OOM", {"count": 0})["count"])
        await client.config_set("maxmemory", 0)
        await client.config_set("maxmemory-policy", "noeviction")
    trial.lifted()
    if not evicted:
        raise Unmet("nothing was evicted")
    trial.fired(f"maxmemory at what was used: {evicted} keys evicted, {refusals} commands refused (OOM)")


async def _slow(trial: Trial) -> None:
    """Slower than the 0.5 s that a question to it may take, then merely slow."""
    await trial.start()
    await trial.publish(0.0, 0.6)
    await trial.flowing(0.1)
    before = await trial.delivered()
    await trial.ground.road("redis", "latency 0.8")
    await trial.until(lambda: _moved(trial, before + 200), 60.0, "deliveries go on beside a slow Redis")
    await trial.ground.road("redis", "latency 0.05")
    await trial.publish(0.6, 1.0)
    await trial.until(lambda: _moved(trial, before + 600), 60.0, "deliveries go on beside a slow Redis")
    trial.fired("800 ms each way, then 50 ms")
    await trial.ground.road("redis", "pass")
    trial.lifted()


async def _reply_lost(trial: Trial) -> None:
    """Replies to writes and to grants, and the grants' once more inside the worker, where it is certain which."""
    await trial.start("--failpoint", "quota:*40:drop-reply")
    await trial.publish(0.0, 0.7)
    await trial.flowing(0.05)
    await trial.lose_replies("redis", 15, 11, "commands reached the server")
    await trial.flowing(0.4)
    trial.note_failpoints("reply dropped inside the worker")
    await trial.publish(0.7, 1.0)


ROWS = (
    Row(area="Redis", fault="down", run=_down, conditions=_DIRECT),
    Row(area="Redis", fault="FLUSHALL", run=_flushed, conditions=_DIRECT),
    Row(area="Redis", fault="evicting", run=_evicting, conditions=_DIRECT),
    Row(area="Redis", fault="slow", run=_slow, conditions=_THROUGH),
    Row(area="Redis", fault="reply to a write or quota grant lost", run=_reply_lost, conditions=_THROUGH),
)
