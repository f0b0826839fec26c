"""What is made of many parts, one after another, and must be gone afterwards however far it came."""

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self


class SetUp(ABC):
    """Use as an async context manager. `_set_up` puts on `_stack` what undoes each of its steps; where a step fails,
    the steps before it are undone and its error is raised."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    @abstractmethod
    async def _set_up(self) -> None: ...

    async def __aenter__(self) -> Self:
        try:
            await self._set_up()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
