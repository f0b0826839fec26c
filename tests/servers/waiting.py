"""How a test waits: for a signal, never for a length of time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

T = TypeVar("T")


async def eventually(condition: Callable[[], T | Awaitable[T]], *, timeout: float = 10.0, what: str | None = None) -> T:
    """Ask `condition`, plain or async, every 20 ms until its answer is truthy; return that answer.

    After `timeout` seconds an AssertionError names `what` and the last answer. Whatever `condition` raises
    ends the wait.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return cast("T", answer)
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition} (last answer: {answer!r})")
        await asyncio.sleep(0.02)
