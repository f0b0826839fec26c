"""A role is whole or not ready, and says when a part of it has crashed."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from impact_in.roles import RunningRole
from streams.connection import KafkaConnection
from streams.retry_waiter import RetryWaiter
from tests.servers import eventually

pytestmark = pytest.mark.fast


class App:
    """A role whose app lives for ever."""

    ready = True

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def crashed(self) -> None:
        await asyncio.Event().wait()


class Waiter(RetryWaiter):
    """Joined at once; fails when it is told to."""

    def __init__(self) -> None:
        nothing: Any = None
        super().__init__(
            connection=KafkaConnection(bootstrap_servers="127.0.0.1:9"),
            group="retry",
            instance=None,
            topics={"retry.1s": timedelta(seconds=1).total_seconds()},
            destination="deliveries",
            publication=nothing,
            observer=nothing,
            session_timeout=6.0,
            fetch_wait=0.1,
        )
        self.fails = asyncio.Event()

    async def on_start(self) -> None:
        self.joined = True

    async def _fetch(self) -> None:
        await self.fails.wait()
        raise RuntimeError("a defect")


async def test_a_crash_of_the_retry_waiter_is_a_crash_of_its_role() -> None:
    app: Any = App()
    waiter = Waiter()
    role = RunningRole("deliver:benevity", app, waiter=waiter)
    await role.start()
    crash = asyncio.create_task(role.crashed())
    try:
        await eventually(lambda: role.ready)
        assert not crash.done()

        waiter.fails.set()

        assert isinstance(await asyncio.wait_for(crash, 10), RuntimeError)
        assert not role.ready
    finally:
        await role.stop()
