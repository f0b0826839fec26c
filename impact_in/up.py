"""`impact-in up` and `down`: the embedded servers, a worker and a gateway in the foreground, data kept on disk."""

import asyncio
import shlex
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from delivery_log.postgres.database import Database
from delivery_log.postgres.migrations import migrate
from impact_in.children import Child, inherited_env
from impact_in.embedded import EMBEDDED_BROKER
from impact_in.errors import StartError
from impact_in.local_stack import LocalStack, down, write_env_file
from impact_in.local_stack.ports import free_port, holder, is_free
from impact_in.operations.topics import create_topics
from impact_in.settings import load, platforms_without_variables
from impact_in.settings.sources import reading
from impact_in.settings.variables import Variables

_SERVERS = ("KAFKA_", "DATABASE_URL", "REDIS_URL")
_STOP_SECONDS = 30.0


def run_up(data: Path, *, kafka_port: int = 0, database_port: int = 0, redis_port: int = 0) -> int:
    """Until Ctrl-C, SIGTERM, `down`, or the end of one of its parts. Raises StartError, LocalStackError,
    SettingsError."""
    return asyncio.run(_up(data.resolve(), kafka_port, database_port, redis_port))


def run_down(data: Path) -> int:
    """0 where a stack was stopped, 1 where none was running."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    # The worker first, then the gateway, then the servers: each has its time.
    if asyncio.run(down(data, timeout=2 * _STOP_SECONDS + 20.0)):
        console.print(f"Stopped the stack on {data}.", markup=False)
        return 0
    console.print(f"No stack is running on {data}.", markup=False)
    return 1


class _Running(NamedTuple):
    servers: LocalStack
    children: list[Child]


async def _up(data: Path, kafka_port: int, database_port: int, redis_port: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    servers = LocalStack(data, kafka_port=kafka_port, database_port=database_port, redis_port=redis_port)
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(_start(stack, servers, console))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            console.print("Stopping before everything runs …")
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        return await _until_over(console, stopping, await starting)


async def _start(stack: AsyncExitStack, servers: LocalStack, console: Console) -> _Running:
    """Everything, in its order; `stack` ends what was started."""
    env, mocked = _ours()
    load("platforms", "gateway", "worker", environ=env)  # what is wrong with a variable is known before anything runs
    await stack.enter_async_context(servers)
    logs = servers.data_dir / "logs"
    logs.mkdir(exist_ok=True)
    env = _with_ports(env | servers.servers.as_env())
    settings = load("kafka", "database", "redis", "platforms", "gateway", "worker", environ=env)
    async with await Database.open(settings.database_url) as database:
        applied = await migrate(database)
    await create_topics(settings.kafka, settings.topics, list(settings.platforms), settings.retry.topics())
    gateway = await Child.start("gateway", ["impact_in", "gateway"], env, logs)
    patience = max(_STOP_SECONDS, settings.drain_seconds + 15.0)
    stack.push_async_callback(gateway.stop, patience)
    url = await gateway.first_line()
    worker = await Child.start("worker", ["impact_in", "worker"], env, logs)
    stack.push_async_callback(worker.stop, patience)
    if settings.worker_port:
        await worker.until_ready(f"http://127.0.0.1:{settings.worker_port}/health/ready")
    written = write_env_file(servers.data_dir, _for_a_second_terminal(env))
    _print(console, applied, mocked, url, settings.worker_port, written)
    return _Running(servers, [gateway, worker])


async def _until_over(console: Console, stopping: "asyncio.Task[Any]", running: _Running) -> int:
    died = running.servers.died()
    ends = [asyncio.create_task(child.wait()) for child in running.children]
    waited: list[asyncio.Future[Any]] = [stopping, died, *ends]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    problems = [died.result()] if died.done() else []
    problems += [await child.epitaph() for child, end in zip(running.children, ends, strict=True) if end.done()]
    for problem in problems:
        console.print(problem, style="red", markup=False)  # it quotes a log, whose brackets are no markup
    for future in waited:
        future.cancel()
    console.print("Stopping …")
    return 1 if problems else 0


def _ours() -> tuple[dict[str, str], list[str]]:
    """Our environment for the children, less the servers that it may name, and the platforms that are mocked in it. It
    goes before `.env`. Raises SettingsError."""
    env = inherited_env(without_prefixes=_SERVERS) | {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}
    mocked = platforms_without_variables(env)
    chosen = _chosen(env)
    usual = {"IMPACT_IN_INSTANCE": "local", **EMBEDDED_BROKER}
    env |= {name: value for name, value in usual.items() if name not in chosen}
    return env | {f"{platform.upper()}_MOCK_MODE": "true" for platform in mocked}, mocked


def _chosen(env: Mapping[str, str]) -> set[str]:
    """The variables that the environment or `.env` sets. For an environment that `load` takes."""
    with reading(env):
        return {name.upper() for name in Variables().model_fields_set}


def _with_ports(env: Mapping[str, str]) -> dict[str, str]:
    """The usual ports where they are free and nobody chose others. Raises StartError on a chosen one that is busy."""
    settings, chosen = load(environ=env), _chosen(env)
    ports: dict[str, str] = {}
    for variable, port in (("PORT_IMPACT_IN", settings.port), ("IMPACT_IN_WORKER_PORT", settings.worker_port)):
        if port and not is_free(port):
            if variable in chosen:
                raise StartError(f"{variable}: port {port} is in use by {holder(port)}; choose another")
            port = free_port()
        ports[variable] = str(port)
    return {**env, **ports}


def _for_a_second_terminal(env: Mapping[str, str]) -> dict[str, str]:
    """What a second terminal needs: our servers, and how this stack was set, without the platforms' secrets."""
    names = ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_SECURITY_PROTOCOL", "DATABASE_URL", "REDIS_URL", *EMBEDDED_BROKER)
    names += ("IMPACT_IN_TOPIC_PREFIX", "IMPACT_IN_RETRY_DELAYS")
    kept = {name: env[name] for name in names if name in env}
    return kept | {name: value for name, value in env.items() if name.endswith("_MOCK_MODE")}


def _print(console: Console, applied: list[str], mocked: list[str], url: str, worker_port: int, written: Path) -> None:
    if applied:
        console.print(f"Migrated: {', '.join(applied)}")
    for platform in mocked:
        console.print(f"[yellow]{platform}[/] runs in mock mode: none of its variables is set, so nobody is called.")
    worker = f" · worker http://127.0.0.1:{worker_port}/health/ready" if worker_port else ""
    console.print(f"Gateway {url}{worker}")
    console.print(f"In a second terminal:  set -a; . {shlex.quote(str(written))}; set +a", markup=False)
    console.print("Running. Ctrl-C, SIGTERM or `impact-in down` ends it.")
