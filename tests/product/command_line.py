"""The product as its users have it: commands in processes of their own, in an environment that is known."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

from tests.servers import eventually

_KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
# -P: as the console script has it, without the current directory among the places to import from.
IMPACT_IN = (sys.executable, "-P", "-m", "impact_in")


def environment(**variables: str) -> dict[str, str]:
    """None of the variables of whoever runs the tests but those that every process needs."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | variables


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str
    seconds: float

    def json(self) -> Any:
        return json.loads(self.out)


def impact_in(*arguments: str, env: Mapping[str, str], cwd: Path, stdin: bytes = b"", timeout: float = 60.0) -> Ended:
    """Runs a command to its end."""
    started = time.monotonic()
    done = subprocess.run(
        [*IMPACT_IN, *arguments], env=env, cwd=cwd, input=stdin, capture_output=True, timeout=timeout, check=False
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode(), time.monotonic() - started)


def done(*arguments: str, env: Mapping[str, str], cwd: Path, stdin: bytes = b"") -> Ended:
    """Runs a command that has to succeed."""
    ended = impact_in(*arguments, env=env, cwd=cwd, stdin=stdin)
    assert ended.status == 0, ended
    return ended


class Running:
    """A command that runs until it is told to stop. As a context manager it is killed in the end, if need be."""

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str],
        cwd: Path,
        name: str = "",
        command: Sequence[str] = IMPACT_IN,
    ) -> None:
        name = name or arguments[0]
        self.cwd = cwd
        self._out, self._err = cwd / f"{name}.{time.monotonic_ns()}.out", cwd / f"{name}.{time.monotonic_ns()}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [*command, *arguments],
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                # Signals are sent to it alone: what has to reach its children is its own business.
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def status(self) -> int | None:
        return self._process.poll()

    async def says(self, text: str, *, timeout: float = 60.0) -> None:
        """Waits for the text on stdout or stderr."""

        def said() -> bool:
            found = text in self.out or text in self.err
            assert found or self.status is None, f"ended with {self.status}: {self.err}"
            return found

        await eventually(said, timeout=timeout, what=f"{text!r} is said")

    async def ended(self, *, timeout: float = 60.0) -> int:
        """Its exit status, once it has ended."""
        await eventually(lambda: self.status is not None, timeout=timeout, what=f"its end; it said {self.err}")
        assert self.status is not None
        return self.status

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout: float = 60.0) -> int:
        self.send(number)
        return await self.ended(timeout=timeout)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


class Platforms:
    """The simulated platforms, in a process of their own."""

    def __init__(self, running: Running, ready: Mapping[str, Any]) -> None:
        self.running = running
        self._urls: dict[str, str] = {name: found["url"] for name, found in ready.items()}
        self.env: dict[str, str] = {}
        for found in ready.values():
            self.env |= found["env"]

    @classmethod
    async def ready(cls, running: Running) -> Self:
        await running.says('"ready": true')
        return cls(running, json.loads(running.out.splitlines()[0])["platforms"])

    def received(self, platform: str) -> dict[str, Any]:
        return dict(ask(f"{self._urls[platform]}/_received")[1])

    def requests(self, platform: str) -> list[dict[str, Any]]:
        """Every request of a platform, in its order."""
        return list(ask(f"{self._urls[platform]}/_received/requests?after=0&limit=1000")[1]["items"])

    def outage(self, kind: str | None) -> None:
        """Of all platforms: `503`, or None for its end."""
        for url in self._urls.values():
            body = json.dumps({"outage": kind}).encode()
            request = urllib.request.Request(f"{url}/_faults", body, {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=10).close()

    def effects(self) -> dict[str, int]:
        """Platform → events that took effect there. Each key has its effect once, or this fails."""
        found = {}
        for platform in self._urls:
            received = self.received(platform)
            assert all(key["effects"] <= 1 for key in received["keys"].values()), platform
            found[platform] = int(received["records"])
        return found


def ask(url: str) -> tuple[int, Any]:
    """Status and JSON."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


async def rows(database_url: str, query: str, *values: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database_url)
    try:
        return list(await connection.fetch(query, *values))
    finally:
        await connection.close()


async def states(database_url: str) -> dict[tuple[str, str], int]:
    """(platform, status) → how many deliveries."""
    found = await rows(database_url, "select platform, status, count(*) as n from impact_deliveries group by 1, 2")
    return {(row["platform"], row["status"]): row["n"] for row in found}
