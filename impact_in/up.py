"""`impact-in up` and `down`: the embedded servers, a worker and a gateway in the foreground, data kept on disk."""

import asyncio
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

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

_SERVERS = ("KAFKA_", "DATABASE_URL", "REDIS_URL")
_STOP_SECONDS = 30.0


def run_up(data: Path, *, kafka_port: int = 0, database_port: int = 0, redis_port: int = 0) -> int:
    """Until Ctrl-C, SIGTERM, `down`, or the end of one of its parts. Raises StartError, LocalStackError,
    SettingsError."""
    return asyncio.run(_up(data.resolve(), kafka_port, database_port, redis_port))


def run_down(data: Path) -> int:
    """0 where a stack was stopped, 1 where none was running."""
    console = Console(stderr=True)
    if asyncio.run(down(data, timeout=_STOP_SECONDS + 30.0)):
        console.print(f"Stopped the stack on {data}.", highlight=False)
        return 0
    console.print(f"No stack is running on {data}.", highlight=False)
    return 1


async def _up(data: Path, kafka_port: int, database_port: int, redis_port: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console = Console(stderr=True)
    mocked = platforms_without_variables()
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(
            LocalStack(data, kafka_port=kafka_port, database_port=database_port, redis_port=redis_port)
        )
        logs = data / "logs"
        logs.mkdir(exist_ok=True)
        env = _environment(servers.servers.as_env(), mocked)
        settings = load("kafka", "database", "redis", "platforms", "gateway", "worker", environ=env)
        async with await Database.open(settings.database_url) as database:
            applied = await migrate(database)
        await create_topics(settings.kafka, settings.topics, list(settings.platforms), settings.retry.topics())
        gateway = await Child.start("gateway", ["impact_in", "gateway"], env, logs)
        stack.push_async_callback(gateway.stop, _STOP_SECONDS)
        url = await gateway.first_line()
        worker = await Child.start("worker", ["impact_in", "worker"], env, logs)
        stack.push_async_callback(worker.stop, _STOP_SECONDS)
        written = write_env_file(data, _for_a_second_terminal(env))
        _print(console, applied, mocked, url, env, written)
        return await _until_over(console, stop, servers, [gateway, worker])


async def _until_over(console: Console, stop: asyncio.Event, stack: LocalStack, children: list[Child]) -> int:
    stopping = asyncio.create_task(stop.wait())
    died = stack.died()
    ends = [asyncio.create_task(child.wait()) for child in children]
    waited: list[asyncio.Future[Any]] = [stopping, died, *ends]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    problems = [died.result()] if died.done() else []
    problems += [await child.epitaph() for child, end in zip(children, ends, strict=True) if end.done()]
    for problem in problems:
        console.print(f"[red]{problem}[/]", highlight=False)
    for future in waited:
        future.cancel()
    console.print("Stopping …")
    return 1 if problems else 0


def _environment(servers: Mapping[str, str], mocked: list[str]) -> dict[str, str]:
    env = inherited_env(without_prefixes=_SERVERS) | dict(servers)
    env |= {f"{platform.upper()}_MOCK_MODE": "true" for platform in mocked}
    env.setdefault("IMPACT_IN_INSTANCE", "local")
    env = EMBEDDED_BROKER | env
    for variable, usual in (("PORT_IMPACT_IN", 3007), ("IMPACT_IN_WORKER_PORT", 3008)):
        if variable not in env:
            env[variable] = str(usual if is_free(usual) else free_port())
        elif env[variable] not in ("", "0") and env[variable].isdigit() and not is_free(int(env[variable])):
            raise StartError(
                f"{variable}: port {env[variable]} is in use by {holder(int(env[variable]))}; choose another"
            )
    return env


def _for_a_second_terminal(env: Mapping[str, str]) -> dict[str, str]:
    """What a second terminal needs: our servers, and how this stack was set, without the platforms' secrets."""
    names = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "REDIS_URL", "IMPACT_IN_TOPIC_PREFIX", "IMPACT_IN_RETRY_DELAYS")
    kept = {name: env[name] for name in names if name in env}
    return kept | {name: value for name, value in env.items() if name.endswith("_MOCK_MODE")}


def _print(
    console: Console, applied: list[str], mocked: list[str], url: str, env: Mapping[str, str], written: Path
) -> None:
    if applied:
        console.print(f"Migrated: {', '.join(applied)}", highlight=False)
    for platform in mocked:
        console.print(
            f"[yellow]{platform}[/] runs in mock mode: none of its variables is set, so nobody is called.",
            highlight=False,
        )
    console.print(
        f"Gateway {url} · worker http://127.0.0.1:{env['IMPACT_IN_WORKER_PORT']}/health/ready", highlight=False
    )
    console.print(f"In a second terminal:  set -a; . {written}; set +a", highlight=False)
    console.print("Running. Ctrl-C, SIGTERM or `impact-in down` ends it.", highlight=False)
