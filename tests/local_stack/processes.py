"""Looking at processes from outside."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

ALL = "kafka,postgres,redis"

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def alive(pids: Iterable[int]) -> dict[int, str]:
    """Those of the processes that still run, with their command lines."""
    found = {}
    for pid in pids:
        with suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX":
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def descendants(pid: int) -> set[int]:
    children: dict[int, set[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            children.setdefault(parent_of(int(entry.name)), set()).add(int(entry.name))
    found: set[int] = set()
    todo = {pid}
    while todo:
        todo = set().union(*(children.get(one, set()) for one in todo))
        found |= todo
    return found


@asynccontextmanager
async def up(data_dir: Path, only: str = ALL) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, str]]]:
    """A stack in a process of its own, and its addresses."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.local_stack.up", str(data_dir), only), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
