"""How a test waits: for a signal, never for a length of time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(condition: Callable[[], Awaitable[T]], *, timeout: float = 10.0, what: str | None = None) -> T: ...


@overload
async def eventually(condition: Callable[[], T], *, timeout: float = 10.0, what: str | None = None) -> T: ...


async def eventually(condition: Callable[[], Any], *, timeout: float = 10.0, what: str | None = None) -> Any:
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
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition} (last answer: {answer!r})")
        await asyncio.sleep(0.02)
