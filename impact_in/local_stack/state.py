"""Who runs a stack on a data directory: its lock, its state file, and how to end it from outside.

``lock`` is held (flock) from before the first server starts until the last has ended. Its descriptor is handed
to the supervisors too, so that after a crash of ours the directory stays locked just as long as servers still
write to it. ``stack.json`` says whose lock it is; it counts only while the lock is held and the process with
that id was started when the file says, since ids are used again.
"""

import asyncio
import fcntl
import json
import os
import re
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from impact_in.local_stack.errors import LocalStackError
from impact_in.local_stack.server import write_private

_POLL_SECONDS = 0.02
_LEFTOVER_SECONDS = 25.0  # more than any server's grace
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class DirectoryLock:
    """This process's claim to a data directory. ``descriptor`` is for the supervisors to keep open."""

    def __init__(self, data_dir: Path, descriptor: int) -> None:
        self.data_dir = data_dir
        self.descriptor = descriptor

    @classmethod
    async def acquire(cls, data_dir: Path) -> Self:
        """Claim the directory, making it if need be.

        Raises LocalStackError if a running stack has it. Servers of a stack that has crashed are waited for.
        """
        try:
            descriptor = _open_lock(data_dir)
        except OSError as error:
            raise LocalStackError(
                f"the data directory {data_dir} is not usable: {error}; choose another one"
            ) from error
        try:
            deadline = time.monotonic() + _LEFTOVER_SECONDS
            while not _try_lock(descriptor, fcntl.LOCK_EX):
                owner = _owner(data_dir)
                if owner is not None:
                    raise LocalStackError(
                        f"{data_dir} is in use by pid {owner}: end that with `impact-in down`, "
                        "or choose another data directory"
                    )
                if time.monotonic() > deadline:
                    raise LocalStackError(
                        f"{data_dir} is still locked by servers of an earlier run: look for them with "
                        f"`fuser {data_dir / 'lock'}`"
                    )
                await asyncio.sleep(_POLL_SECONDS)
            state = {
                "pid": os.getpid(),
                "process_started": _process_started(os.getpid()),
                "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            write_private(data_dir / "stack.json", json.dumps(state) + "\n")
        except BaseException:
            os.close(descriptor)
            raise
        return cls(data_dir, descriptor)

    def release(self) -> None:
        """Give the directory up. What tells others how to reach the stack goes with it."""
        for name in ("stack.json", "env"):
            (self.data_dir / name).unlink(missing_ok=True)
        os.close(self.descriptor)


def running(data_dir: Path) -> int | None:
    """The process id of the stack that runs on the directory, or None."""
    return _owner(data_dir) if _locked(data_dir) else None


async def down(data_dir: Path, timeout: float = 60.0) -> bool:
    """End the stack that runs on the directory: SIGTERM to its process, and wait until its servers have ended.

    False if none was running. Raises LocalStackError if it may not be ended, or has not within ``timeout`` s.
    """
    pid = running(data_dir)
    if pid is not None:
        _terminate(data_dir, pid)
    deadline = time.monotonic() + timeout
    while _locked(data_dir):
        if time.monotonic() > deadline:
            who = f"pid {pid}" if pid is not None else "the last server of an earlier run"
            raise LocalStackError(f"{who} has not ended within {timeout:g} s: look at it with ps, or end it by force")
        await asyncio.sleep(_POLL_SECONDS)
    return pid is not None


def write_env_file(data_dir: Path, env: Mapping[str, str]) -> Path:
    """Write ``data_dir/env``, for ``source``. It holds passwords, and is for the owner only."""
    lines = []
    for name, value in env.items():
        if not _NAME.fullmatch(name) or "\0" in value:
            raise ValueError(f"no shell takes {name!r} as a variable")
        quoted = value.replace("'", "'\\''")
        lines.append(f"export {name}='{quoted}'\n")
    file = data_dir / "env"
    write_private(file, "".join(lines))
    return file


def _open_lock(data_dir: Path) -> int:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    ignore = data_dir / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")  # passwords and data do not belong into anybody's repository
    return os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locked(data_dir: Path) -> bool:
    try:
        descriptor = os.open(data_dir / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _owner(data_dir: Path) -> int | None:
    """The process that stack.json names, if it is still that process."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        state = json.loads((data_dir / "stack.json").read_text())
        pid = int(state["pid"])
        os.kill(pid, 0)
        if _process_started(pid) == state["process_started"]:
            return pid
    return None


def _process_started(pid: int) -> int | None:
    """When the process was started, in the kernel's ticks since boot; None where there is no /proc."""
    with suppress(OSError):
        # The second field is the name in parentheses, which may hold anything; the 22nd is the start.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return None


def _terminate(data_dir: Path, pid: int) -> None:
    try:
        if not hasattr(os, "pidfd_open"):
            os.kill(pid, signal.SIGTERM)
            return
        handle = os.pidfd_open(pid)
        try:
            # Looked at again now that the handle cannot come to mean another process.
            if _owner(data_dir) == pid:
                signal.pidfd_send_signal(handle, signal.SIGTERM)
        finally:
            os.close(handle)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise LocalStackError(f"pid {pid} is another user's: only that user or root can end it") from error
