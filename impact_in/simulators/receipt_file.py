"""The receipts on disk: one JSON line a request, synced before the request is answered.

Requests that arrive while a sync is under way share the next one (group commit), so one file serves thousands
of requests a second. A simulator that starts on a file that is already there goes on from it: the
platform remembers keys and effects over a crash of its own. A line that a crash cut off was never answered
and is removed.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from impact_in.simulators import exact_json


class ReceiptsLost(RuntimeError):
    """A receipt could not be written: the request must not be answered, and the witness is of no use any more."""


class ReceiptFile:
    """Raises OSError on opening (BlockingIOError: another simulator writes to this file)."""

    def __init__(self, path: Path, on_loss: Callable[[], None] = lambda: None) -> None:
        self._on_loss = on_loss
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise
        self._path = path
        self._lines: list[bytes] = []
        self._group = _Group()
        self._flushing: asyncio.Task[None] | None = None

    def earlier(self) -> Iterator[dict[str, Any]]:
        """The receipts of earlier runs, oldest first. Raises ValueError on a line that is none."""
        whole = 0
        with self._path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                yield exact_json.loads(line)
        os.ftruncate(self._fd, whole)

    async def write(self, line: bytes) -> None:
        """Returns once `line` is on disk. Raises ReceiptsLost."""
        self._lines.append(line)
        group = self._group
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await group.synced.wait()
        if group.lost:
            raise ReceiptsLost

    async def close(self) -> None:
        if self._flushing is not None:
            await self._flushing
        os.close(self._fd)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _flush(self) -> None:
        while self._lines:
            data, group = b"".join(self._lines), self._group
            self._lines, self._group = [], _Group()
            try:
                await asyncio.to_thread(self._append, data)
            except OSError:
                group.lost = True
                self._on_loss()
            group.synced.set()

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fdatasync(self._fd)


class _Group:
    """The requests that one sync serves."""

    __slots__ = ("lost", "synced")

    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self.lost = False
