"""Processes of ours that end with us: worker, gateway and simulators of `up` and `demo`."""

import asyncio
import ctypes
import functools
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import IO

import aiohttp

from impact_in.errors import StartError

_PR_SET_PDEATHSIG = 1
_LOG_TAIL = 65_536
_TELLING = re.compile(r"^impact-in: |\b(?:error|critical)\b")


def _die_with_parent(parent: int) -> None:
    # In the child, before exec. Linux only; elsewhere an orderly stop is all there is.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before that took hold
            os._exit(1)


async def spawn(
    arguments: Sequence[str],
    env: Mapping[str, str],
    *,
    cwd: Path | None = None,
    stdout: int | None = None,
    stderr: IO[bytes] | None = None,
) -> asyncio.subprocess.Process:
    """`python -m …` in `cwd`, or where we are; must be called in the main thread, whose end is the child's. Its streams
    are ours where nothing is said."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the directory that we run in may be a project with a schemas/ or a redis.py of its own
        "-m",
        *arguments,
        env=dict(env),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,  # Ctrl-C in the terminal is ours to pass on
        preexec_fn=functools.partial(_die_with_parent, os.getpid()),
    )


class Child:
    """One process: its standard output is ours to read, its log goes to a file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path, log_start: int) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._log_start = log_start

    @classmethod
    async def start(
        cls, name: str, arguments: Sequence[str], env: Mapping[str, str], logs: Path, *, cwd: Path | None = None
    ) -> "Child":
        """As `spawn`."""
        log = logs / f"{name}.log"
        with log.open("ab") as output:
            log_start = output.tell()  # before it stands what earlier ones said
            process = await spawn(arguments, env, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=output)
        return cls(name, process, log, log_start)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    async def first_line(self, timeout: float = 30.0) -> str:
        """What it says when it is ready. Raises StartError where it ends, or says nothing for so long (seconds)."""
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout)
        except TimeoutError:
            raise StartError(f"{self.name} did not start within {timeout:g} s; see {self.log}") from None
        if not line:
            raise StartError(await self.epitaph())
        return line.decode().strip()

    async def until_ready(self, url: str, timeout: float = 60.0) -> None:
        """Returns once the address answers 200. Raises StartError where the process ends first, or it takes longer."""
        ended = asyncio.create_task(self.wait())
        try:
            async with asyncio.timeout(timeout), aiohttp.ClientSession() as session:
                while not ended.done():
                    try:
                        async with session.get(url) as answer:
                            if answer.status == HTTPStatus.OK:
                                return
                    except aiohttp.ClientError:
                        pass  # not listening yet
                    await asyncio.wait([ended], timeout=0.1)
            raise StartError(await self.epitaph())
        except TimeoutError:
            raise StartError(f"{self.name} was not ready within {timeout:g} s; see {self.log}") from None
        finally:
            ended.cancel()

    async def wait(self) -> int:
        return await self._process.wait()

    async def epitaph(self) -> str:
        """One line on how it ended, with the line of its log that says most about it."""
        status = await self._process.wait()
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _LOG_TAIL))
            lines = log.read().decode(errors="replace").strip().splitlines()
        telling = [line for line in lines if _TELLING.search(line)] or lines
        return f"{self.name} ended with status {status}{': ' + telling[-1] if telling else ''} (log: {self.log})"

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self, timeout: float) -> int:
        """SIGTERM, and SIGKILL where that takes longer (seconds); its exit status."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), timeout)
            except TimeoutError:
                self.kill()
        return await self._process.wait()


# What a user has set for real must not reach what runs under conditions of its own.
OWN_CONDITIONS = (
    "BENEVITY_",
    "GOODERA_",
    "WORKDAY_",
    "IMPACT_IN_",
    "KAFKA_",
    "DATABASE_URL",
    "REDIS_URL",
    "PORT_IMPACT_IN",
)


def inherited_env(*, without_prefixes: Sequence[str] = ()) -> dict[str, str]:
    """Our environment for a child, less what would set conditions of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(tuple(without_prefixes) or "\0")}
