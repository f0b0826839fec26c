"""A process's own directory goes with it, or with the next."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from impact_in.own_directory import own_directory

pytestmark = pytest.mark.fast
HOLD = (
    "import sys, tempfile\n"
    "tempfile.tempdir = sys.argv[1]\n"
    "from impact_in.own_directory import own_directory\n"
    "with own_directory('ours-') as directory:\n"
    "    (directory / 'metrics').mkdir()\n"
    "    print(directory, flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def holder(temporary: Path) -> tuple["subprocess.Popen[str]", Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(temporary)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: "subprocess.Popen[str]") -> None:
    process.communicate(timeout=20)


def test_it_goes_at_the_end_also_by_an_error(temporary: Path) -> None:
    def fail() -> None:
        with own_directory("ours-") as directory:
            (directory / "file").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_lives_is_not(temporary: Path) -> None:
    killed, left = holder(temporary)
    living, in_use = holder(temporary)
    try:
        assert left.is_dir(), "another start removes nothing that is in use"
        killed.send_signal(signal.SIGKILL)
        end(killed)
        assert (left / "metrics").is_dir()
        with own_directory("ours-") as mine:
            assert set(temporary.iterdir()) == {in_use, mine}
    finally:
        end(living)
    assert list(temporary.iterdir()) == []


def test_nothing_else_is_touched(temporary: Path) -> None:
    (temporary / "theirs-1").mkdir()
    (temporary / "ours-file").touch()
    (temporary / "elsewhere").mkdir()
    os.symlink(temporary / "elsewhere", temporary / "ours-link")
    before = set(temporary.iterdir())
    with own_directory("ours-"):
        pass
    assert set(temporary.iterdir()) == before
