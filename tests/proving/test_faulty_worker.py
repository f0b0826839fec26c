"""The wrapped ports: every point exists in the product as it is now, and a lost reply is what the port says then."""

import subprocess
import sys
from pathlib import Path

import pytest

from proving.failpoints import POINTS
from proving.mutants import MUTANTS

_ROOT = Path(__file__).parents[2]


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    # In a process of its own: the wrapping stays for as long as one lives.
    return subprocess.run(
        [sys.executable, "-m", "proving.faulty_worker", *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_point_can_be_wrapped() -> None:
    points = [word for point in POINTS for word in ("--failpoint", f"{point}:1:kill")]
    done = _run(*points, "--", "worker", "--help")
    assert done.returncode == 0, done.stderr
    assert "Take events from Kafka" in done.stdout


@pytest.mark.parametrize("mutant", list(MUTANTS))
def test_every_mutant_can_be_switched_on(mutant: str) -> None:
    done = _run("--mutant", mutant, "--", "worker", "--help")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mutant", list(MUTANTS.values()))
def test_every_mutant_says_what_shall_catch_it(mutant: object) -> None:
    assert "E" in (mutant.__doc__ or "")
