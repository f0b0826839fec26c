import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import asyncpg
import pytest

from impact_in.local_stack import Broker, Cache, Database, LocalStack, Server
from impact_in.local_stack import supervised as supervised_module
from impact_in.local_stack.supervised import Command, SupervisedProcess
from tests.local_stack.processes import alive, descendants, linux_only, parent_of, up
from tests.servers.waiting import eventually

pytestmark = [pytest.mark.servers, linux_only]


async def test_the_sigkill_of_a_parent_ends_all_servers_and_the_directory_is_free_again(tmp_path: Path) -> None:
    async with up(tmp_path) as (process, env):
        connection = await asyncpg.connect(env["DATABASE_URL"])  # a backend at work ends as well
        family = descendants(process.pid)
        assert len(alive(family)) > 6

        process.kill()
        await process.wait()
        # At once: the servers of the crashed stack are waited for, not fought with.
        async with LocalStack(tmp_path, durable=False):
            assert not alive(family)
        connection.terminate()


FORK_A_COPY_AND_DIE = """
import os, pathlib, signal, sys
from impact_in.local_stack import Cache
cache = Cache(pathlib.Path(sys.argv[1]))
cache.start()
copy = os.fork()
if copy == 0:
    os.close(1)
    signal.pause()
print(cache.pid, copy, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_a_forked_copy_of_the_parent_does_not_keep_the_servers_alive(tmp_path: Path) -> None:
    # The copy has inherited the pipe, so there is no end of file.
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FORK_A_COPY_AND_DIE, str(tmp_path)), stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    server, copy = (int(pid) for pid in (await parent.stdout.readline()).split())
    try:
        await asyncio.wait_for(parent.wait(), 10)
        await eventually(lambda: not alive([server]))
        assert alive([copy])
    finally:
        os.kill(copy, signal.SIGKILL)


@pytest.mark.parametrize("kind", [Broker, Cache, Database])
def test_the_sigkill_of_a_supervisor_ends_its_server(kind: type[Server], tmp_path: Path) -> None:
    ended = threading.Event()
    with kind(tmp_path) as server:
        server.on_unexpected_end = lambda _message: ended.set()
        supervisor = parent_of(server.pid)
        family = {supervisor} | descendants(supervisor)
        os.kill(supervisor, signal.SIGKILL)
        assert ended.wait(10)
        assert not alive(family)
        server.start()


def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    # PR_SET_PDEATHSIG alone would end it here.
    broker = Broker(tmp_path)
    starter = threading.Thread(target=broker.start)
    starter.start()
    starter.join()
    assert broker.running
    assert broker.answers(broker.port, broker.pid)
    broker.stop()


async def test_ctrl_c_reaches_us_and_not_the_servers(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, only=frozenset({"kafka", "redis"})) as stack:
        for server in (stack.broker, stack.cache):
            for pid in (server.pid, parent_of(server.pid)):
                assert os.getpgid(pid) != os.getpgid(0)
                assert os.getsid(pid) != os.getsid(0)


def supervised(script: str, log: Path) -> SupervisedProcess:
    command = Command(argv=["/bin/sh", "-c", script], cwd=Path("/"), stop_signal=signal.SIGTERM, grace=0.1)
    return SupervisedProcess(command, log=log, keep=(), on_unexpected_end=lambda _process: None)


async def test_a_server_that_ignores_its_stop_signal_ends_by_force_after_its_grace(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = supervised("trap '' TERM; echo ready; while :; do sleep 1; done", log)
    await eventually(lambda: "ready" in log.read_text())
    await asyncio.to_thread(process.stop)
    assert process.how_it_ended == "SIGKILL"
    assert not alive([process.pid])


async def test_what_a_server_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = supervised("setsid sleep 600 & echo $! ready; wait", log)
    await eventually(lambda: "ready" in log.read_text())
    child = int(log.read_text().split()[0])
    assert alive([child])
    await asyncio.to_thread(process.kill)
    assert not alive([child])


async def test_a_supervisor_that_hangs_is_ended_with_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cache(tmp_path) as cache:
        pid = cache.pid
        os.kill(parent_of(pid), signal.SIGSTOP)
        monkeypatch.setattr(supervised_module, "SUPERVISOR_SECONDS", -cache._process._grace)
        await asyncio.to_thread(cache.stop)
        assert not alive([pid])
