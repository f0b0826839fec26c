"""The command line in this process, in an environment of its own: arguments in, exit status and texts out."""

import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from impact_in.cli import run
from impact_in.local_stack import Broker

KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without any of our variables, in a directory without `.env`. `setenv` adds to it."""
    for name in os.environ:
        if name not in KEPT:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


@pytest.fixture
def impact_in(environment: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """`impact_in("topics", "--json")`; `stdin=` is bytes."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in ("aiokafka", "asyncio")}

    def command(*arguments: str, stdin: bytes = b"") -> Ended:
        environment.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        status = run(arguments)
        sys.stdout.flush()
        captured = capfd.readouterr()
        return Ended(int(status), captured.out, captured.err)

    yield command
    root.handlers, root.level = before[0], before[1]
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def embedded_bootstrap() -> Iterator[str]:
    """Bootstrap servers of an embedded broker; name topics with `topic_prefix`."""
    with tempfile.TemporaryDirectory(prefix="impact-in-broker-") as directory, Broker(Path(directory)) as broker:
        yield broker.url
