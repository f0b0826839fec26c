"""What the others are measured against: a bare loop of aiokafka and aiohttp, 100 requests in flight.

No dedupe, no ledger, no order, no retry: a record's value goes out as it came. It does commit, every half second.

python -m benchmarks.baseline KAFKA TOPIC URL     prints a line when it has its partitions, runs until SIGTERM
"""

import asyncio
import signal
import sys
from collections import deque
from contextlib import suppress
from typing import Any
from uuid import uuid4

import aiohttp
import aiokafka
import uvloop

IN_FLIGHT = 100
_FETCH = 5_000


async def _run(servers: str, topic: str, url: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    consumer = aiokafka.AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=f"baseline-{uuid4()}",
        auto_offset_reset="earliest",
        auto_commit_interval_ms=500,
        max_poll_records=_FETCH,
    )
    await consumer.start()
    print("ready", flush=True)
    queue: deque[Any] = deque()
    filled, wanted = asyncio.Event(), asyncio.Event()
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def fetch() -> None:
            while True:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    queue.extend(records)
                if queue:
                    filled.set()
                while len(queue) > _FETCH:
                    wanted.clear()
                    await wanted.wait()

        async def post() -> None:
            while True:
                while not queue:
                    filled.clear()
                    await filled.wait()
                record = queue.popleft()
                if len(queue) <= _FETCH:
                    wanted.set()
                key = f"{record.partition}-{record.offset}"
                headers = {"Content-Type": "application/json", "Idempotency-Key": key}
                async with session.post(url, data=record.value, headers=headers) as answer:
                    await answer.read()

        tasks = [asyncio.create_task(fetch()), *(asyncio.create_task(post()) for _ in range(IN_FLIGHT))]
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    with suppress(TimeoutError):
        await asyncio.wait_for(consumer.stop(), 5)


if __name__ == "__main__":
    uvloop.run(_run(*sys.argv[1:4]))
