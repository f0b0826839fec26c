import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from impact_in.local_stack import LocalStack, LocalStackError, down, running, write_env_file
from tests.local_stack.processes import alive, descendants, linux_only, up

pytestmark = pytest.mark.servers

KAFKA = "kafka"


async def test_down_ends_the_stack_of_another_process(tmp_path: Path) -> None:
    assert running(tmp_path) is None
    assert await down(tmp_path) is False
    async with up(tmp_path, KAFKA) as (process, _):
        family = descendants(process.pid)
        assert running(tmp_path) == process.pid

        assert await down(tmp_path) is True

        assert not alive(family)
        assert await process.wait() == 0
        assert running(tmp_path) is None
        assert await down(tmp_path) is False


async def test_down_says_who_does_not_end(tmp_path: Path) -> None:
    async with up(tmp_path, KAFKA) as (process, _):
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(LocalStackError, match=f"pid {process.pid} has not ended within 0.2 s"):
            await down(tmp_path, timeout=0.2)


@linux_only
async def test_a_process_that_got_the_number_of_another_is_never_ended(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, only=frozenset({KAFKA})):
        assert running(tmp_path) == os.getpid()
        stranger = await asyncio.create_subprocess_exec("sleep", "60")
        state = json.loads((tmp_path / "stack.json").read_text())
        (tmp_path / "stack.json").write_text(json.dumps(state | {"pid": stranger.pid}))

        assert running(tmp_path) is None
        with pytest.raises(LocalStackError, match="the last server of an earlier run has not ended"):
            await down(tmp_path, timeout=0.1)

        assert stranger.returncode is None
        stranger.kill()
        await stranger.wait()


async def test_a_state_file_without_the_lock_means_nothing(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, only=frozenset({KAFKA})):
        left_behind = (tmp_path / "stack.json").read_text()
    assert not (tmp_path / "stack.json").exists()
    (tmp_path / "stack.json").write_text(left_behind)
    assert running(tmp_path) is None


def test_the_env_file_gives_a_shell_every_value_unchanged(tmp_path: Path) -> None:
    env = {"PLAIN": "value", "AWKWARD": 'it\'s $HOME; `id` "quoted"\nsecond line \\', "EMPTY": ""}
    file = write_env_file(tmp_path, env)
    assert file == tmp_path / "env"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().startswith("export PLAIN='value'\n")
    script = 'set -eu; . "$0"; printf "%s\\0" "$PLAIN" "$AWKWARD" "$EMPTY"'
    told = subprocess.run(["/bin/sh", "-c", script, file], capture_output=True, check=True, text=True).stdout
    assert told.split("\0")[:3] == list(env.values())


def test_the_env_file_takes_no_name_that_a_shell_would_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no shell takes"):
        write_env_file(tmp_path, {"A=1; rm": "x"})


async def test_addresses_of_a_stopped_stack_are_taken_away_and_git_ignores_the_directory(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, only=frozenset({KAFKA})) as stack:
        file = write_env_file(tmp_path, stack.servers.as_env())
        assert (tmp_path / ".gitignore").read_text() == "*\n"
    assert not file.exists()
