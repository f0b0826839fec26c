"""`impact-in up`, as a developer uses it: a terminal for the stack, another for everything else."""

import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from impact_in.local_stack.ports import free_port
from tests.local_stack.processes import alive, descendants, linux_only
from tests.product.command_line import Platforms, Running, ask, done, environment, impact_in, rows, states
from tests.servers import eventually

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(200)]

EXAMPLES = Path(__file__).parents[2] / "examples"
# Of the examples' events, those that the platforms understand and the companies have enabled.
DELIVERIES = {"benevity": 15, "goodera": 20, "workday": 12}


class Stack:
    """An `up` that runs, and what its second terminal knows."""

    def __init__(self, running: Running, data: Path) -> None:
        self.running = running
        self.data = data
        self.env = environment(**_sourced(data / "env"))

    @classmethod
    async def ready(cls, running: Running, data: Path) -> "Stack":
        await running.says("Running. ")
        return cls(running, data)

    def family(self) -> set[int]:
        """All its processes: the servers with their supervisors, worker, gateway."""
        family = descendants(self.running.pid)
        commands = " ".join(alive(family).values())
        for part in ("impact_in worker", "impact_in gateway", "tansu broker", "valkey-server", "postgres"):
            assert part in commands
        return family | {self.running.pid}

    @property
    def gateway(self) -> str:
        found = re.search(r"Gateway (\S+)", self.running.err)
        assert found is not None
        return found[1]

    @property
    def worker(self) -> str:
        found = re.search(r"worker (\S+)/health/ready", self.running.err)
        assert found is not None
        return found[1]

    async def delivered(self, *, timeout: float = 90.0) -> None:
        """Waits until all deliveries of the examples are delivered."""
        wanted = {(platform, "delivered"): count for platform, count in DELIVERIES.items()}

        async def so() -> bool:
            return await states(self.env["DATABASE_URL"]) == wanted

        await eventually(so, timeout=timeout, what="all examples are delivered as they should be")


def _sourced(file: Path) -> dict[str, str]:
    """What a shell has after reading the file."""
    script = 'set -a; . "$0"; set +a; exec env -0'
    shell = subprocess.run(["/bin/sh", "-c", script, str(file)], env={}, capture_output=True, check=True)
    pairs = (entry.partition("=") for entry in shell.stdout.decode().split("\0") if entry)
    return {name: value for name, _, value in pairs if name not in ("PWD", "_", "SHLVL", "OLDPWD")}


def up(data: Path, cwd: Path, *options: str, **variables: str) -> Running:
    return Running("up", "--data", str(data), *options, env=environment(**variables), cwd=cwd)


@pytest.fixture
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="impact-in-up-") as directory:  # short, for the sockets in it
        yield Path(directory)


@pytest.fixture(scope="module")
def shared_data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="impact-in-up-") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def shared_run(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with up(shared_data, tmp_path_factory.mktemp("up")) as running:
        yield running


@pytest.fixture
async def stack(shared_run: Running, shared_data: Path) -> Stack:
    """One stack for the tests that leave it as it is."""
    return await Stack.ready(shared_run, shared_data)


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port that this very process has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_the_variables_for_a_second_terminal_are_for_their_owner_only(stack: Stack) -> None:
    file = stack.data / "env"
    assert file.stat().st_mode & 0o777 == 0o600
    assert {"KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "REDIS_URL"} <= set(stack.env)
    assert str(file) in stack.running.err
    for platform in DELIVERIES:
        assert f"{platform} runs in mock mode" in stack.running.err


async def test_examples_published_from_a_second_terminal_are_delivered_in_mock_mode(
    stack: Stack, tmp_path: Path
) -> None:
    done("companies", "import", str(EXAMPLES / "companies.jsonl"), env=stack.env, cwd=tmp_path)
    published = done("publish", str(EXAMPLES / "events.jsonl"), "--json", env=stack.env, cwd=tmp_path)
    assert published.json()["published"] == 20

    await stack.delivered()

    listed = done("deliveries", "list", "--json", env=stack.env, cwd=tmp_path).json()["items"]
    assert len(listed) == sum(DELIVERIES.values())
    assert {(item["status"], item["outcome"], item["mocked"]) for item in listed} == {("delivered", "delivered", True)}


async def test_gateway_and_worker_say_that_they_are_healthy(stack: Stack) -> None:
    assert ask(f"{stack.gateway}/health/ready")[0] == 200
    await eventually(lambda: ask(f"{stack.worker}/health/ready")[0] == 200, timeout=30, what="the worker is ready")


async def test_a_second_up_on_the_same_data_is_refused_and_names_the_first(stack: Stack, tmp_path: Path) -> None:
    with up(stack.data, tmp_path) as second:
        assert await second.ended() not in (0, None)
        (line,) = second.err.splitlines()
    assert f"pid {stack.running.pid}" in line
    assert "impact-in down" in line
    assert stack.running.status is None
    assert (stack.data / "env").exists()


@linux_only
@pytest.mark.parametrize("what", ["PORT_IMPACT_IN", "IMPACT_IN_WORKER_PORT", "--kafka-port"])
async def test_a_port_in_use_is_refused_by_naming_who_has_it(
    what: str, busy_port: int, data: Path, tmp_path: Path
) -> None:
    options = (what, str(busy_port)) if what.startswith("--") else ()
    variables = {} if what.startswith("--") else {what: str(busy_port)}
    with up(data, tmp_path, *options, **variables) as running:
        assert await running.ended() not in (0, None)
        (line,) = running.err.splitlines()
    assert str(busy_port) in line
    assert f"pid {os.getpid()} (" in line
    assert what in line or "kafka" in line or "tansu" in line


async def test_a_worker_of_a_second_terminal_is_refused_the_port_of_the_first(stack: Stack, tmp_path: Path) -> None:
    port = stack.worker.rpartition(":")[2]
    ended = impact_in("worker", env=stack.env | {"IMPACT_IN_WORKER_PORT": port}, cwd=tmp_path)
    assert ended.status == 1
    assert ended.err.splitlines()[-1].startswith(f"impact-in: IMPACT_IN_WORKER_PORT: port {port} cannot be used")


def test_a_malformed_variable_ends_up_before_anything_is_started(data: Path, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("IMPACT_IN_RETRY_DELAYS=soon\n")
    ended = impact_in("up", "--data", str(data), env=environment(), cwd=tmp_path)
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert "IMPACT_IN_RETRY_DELAYS" in line
    assert not (data / "logs").exists()


async def test_a_dotenv_sets_the_ports_and_not_the_servers(data: Path, tmp_path: Path) -> None:
    port, worker_port = free_port(), free_port()
    (tmp_path / ".env").write_text(
        f"PORT_IMPACT_IN={port}\nIMPACT_IN_WORKER_PORT={worker_port}\n"
        "KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9\nKAFKA_SECURITY_PROTOCOL=SASL_SSL\nREDIS_URL=redis://127.0.0.1:9/0\n"
    )
    with up(data, tmp_path) as running:
        stack = await Stack.ready(running, data)
        assert (stack.gateway, stack.worker) == (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{worker_port}")
        assert ask(f"{stack.gateway}/health")[0] == 200
        assert await running.stop() == 0


@linux_only
async def test_another_stack_runs_beside_it_until_down(stack: Stack, data: Path, tmp_path: Path) -> None:
    with up(data, tmp_path) as running:
        other = await Stack.ready(running, data)
        family = other.family()
        assert other.gateway != stack.gateway
        assert {other.env[name] for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "REDIS_URL")}.isdisjoint(
            stack.env.values()
        )
        assert await rows(other.env["DATABASE_URL"], "select from impact_events") == []

        assert impact_in("down", "--data", str(data), env=environment(), cwd=tmp_path).status == 0

        assert await running.ended() == 0
        assert not alive(family)
        assert impact_in("down", "--data", str(data), env=environment(), cwd=tmp_path).status == 1
        assert stack.running.status is None
        assert not (data / "env").exists()


@linux_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
async def test_an_up_that_is_ended_leaves_no_process_behind(number: signal.Signals, data: Path, tmp_path: Path) -> None:
    with up(data, tmp_path) as running:
        family = (await Stack.ready(running, data)).family()

        status = await running.stop(number)

        assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        await eventually(lambda: not alive(family), timeout=20, what="all its processes have ended")


@linux_only
async def test_an_up_that_is_interrupted_while_it_starts_ends_and_leaves_no_process_behind(
    data: Path, tmp_path: Path
) -> None:
    with up(data, tmp_path) as running:
        family: set[int] = set()

        def a_server_runs() -> bool:
            family.update(descendants(running.pid))
            return len(alive(family)) > 1

        await eventually(a_server_runs, timeout=30)

        assert await running.stop(signal.SIGINT) == 0

        assert "Running. " not in running.err
        await eventually(lambda: not alive(family), timeout=20)


@linux_only
async def test_the_kill_of_the_worker_alone_ends_up_with_an_error_that_names_it(data: Path, tmp_path: Path) -> None:
    with up(data, tmp_path) as running:
        family = (await Stack.ready(running, data)).family()
        (worker,) = (pid for pid, command in alive(family).items() if command.rstrip().endswith("impact_in worker"))

        os.kill(worker, signal.SIGKILL)

        assert await running.ended() == 1
        assert "worker ended with status -9" in running.err
        assert not alive(family)


async def test_after_a_kill_and_a_restart_everything_unfinished_is_delivered_once(data: Path, tmp_path: Path) -> None:
    # The embedded broker forgets its topics: what brings the deliveries back is the sweeper.
    with Running("simulate", env=environment(), cwd=tmp_path) as simulators:
        platforms = await Platforms.ready(simulators)
        platforms.outage("503")
        variables = platforms.env | {"IMPACT_IN_RETRY_DELAYS": "1s"}
        with up(data, tmp_path, **variables) as running:
            stack = await Stack.ready(running, data)
            assert "mock mode" not in running.err
            done("companies", "import", str(EXAMPLES / "companies.jsonl"), env=stack.env, cwd=tmp_path)
            done("publish", str(EXAMPLES / "events.jsonl"), env=stack.env, cwd=tmp_path)

            async def all_have_failed() -> bool:
                found = await states(stack.env["DATABASE_URL"])
                retrying = {platform for platform, status in found if status == "retrying"}
                return sum(found.values()) == sum(DELIVERIES.values()) and retrying == set(DELIVERIES)

            await eventually(all_have_failed, timeout=60, what="deliveries are waiting for a retry everywhere")
            await running.stop(signal.SIGKILL)
        assert platforms.effects() == dict.fromkeys(DELIVERIES, 0)
        platforms.outage(None)

        with up(data, tmp_path, **variables) as again:
            stack = await Stack.ready(again, data)
            await stack.delivered()
            assert platforms.effects() == DELIVERIES
            assert await again.stop() == 0
