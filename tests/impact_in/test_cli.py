"""How every command explains itself, and how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.exceptions
import typer
from aiokafka.errors import NodeNotReadyError

from delivery.ports import PublishFailed
from delivery_log.contract import LedgerUnavailable
from delivery_log.postgres.migrations import MigrationError
from impact_in.cli import app
from impact_in.cli.ending import Status, UsageError, explain
from impact_in.cli.moments import parse_moment
from impact_in.errors import StartError
from impact_in.local_stack import LocalStackError
from impact_in.operations.topics import KafkaUnavailable
from impact_in.settings import SettingsError
from tests.impact_in.conftest import Command

pytestmark = pytest.mark.fast

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

MOCKED = {"BENEVITY_MOCK_MODE": "true", "GOODERA_MOCK_MODE": "true", "WORKDAY_MOCK_MODE": "true"}
SERVERS = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "DATABASE_URL": "postgresql://impact:geheim@127.0.0.1:1/impact",
    "REDIS_URL": "redis://:geheim@127.0.0.1:1/0",
}


def _paths(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, below in getattr(command, "commands", {}).items():
        if hasattr(below, "commands"):
            yield from _paths(below, (*path, name))
        else:
            yield (*path, name)


COMMANDS = sorted(_paths(typer.main.get_command(app)))
SETUP = {
    ("migrate",): ("DATABASE_URL",),
    ("topics",): ("KAFKA_BOOTSTRAP_SERVERS",),
    ("publish", "-"): ("KAFKA_BOOTSTRAP_SERVERS",),
    ("companies", "list"): ("DATABASE_URL",),
    ("deliveries", "list"): ("DATABASE_URL",),
    ("platforms", "status"): ("DATABASE_URL",),
    ("platforms", "pause", "benevity"): ("DATABASE_URL",),
    ("deliveries", "show", "5f0c8a52-9c5e-5d0e-8f6b-0a4f5b1c2d3e"): ("DATABASE_URL",),
    ("worker",): ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "REDIS_URL", "BENEVITY_API_KEY"),
    ("gateway",): ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "REDIS_URL"),
}


def test_the_commands_are_those_of_this_release() -> None:
    assert {" ".join(path) for path in COMMANDS} == {
        "companies import",
        "companies list",
        "companies set",
        "deliveries list",
        "deliveries show",
        "demo",
        "platforms pause",
        "platforms resume",
        "platforms set",
        "platforms status",
        "down",
        "gateway",
        "migrate",
        "publish",
        "simulate",
        "topics",
        "up",
        "worker",
    }


@pytest.mark.parametrize("path", [(), ("companies",), ("deliveries",), *COMMANDS], ids=" ".join)
def test_help_shows_an_example(impact_in: Command, path: tuple[str, ...]) -> None:
    ended = impact_in(*path, "--help")
    assert (ended.status, ended.err) == (0, "")
    words = " ".join(ended.out.split())
    assert f"Example: impact-in {' '.join(path)}".strip() in words


@pytest.mark.parametrize("path", [path for path in COMMANDS if path[-1] in ("list", "show", "topics", "migrate")])
def test_whatever_prints_a_table_prints_json_too(impact_in: Command, path: tuple[str, ...]) -> None:
    assert "--json" in impact_in(*path, "--help").out


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("companies",),
        ("companies", "nonsense"),
        ("publish",),
        ("publish", "-", "--encoding", "xml"),
        ("topics", "--partitions", "0"),
        ("topics", "--partitions", "x"),
        ("worker", "--role"),
        ("companies", "set", "no-uuid", "--platform", "benevity", "--organization", "o"),
        ("companies", "set", "11111111-1111-4111-8111-111111111111"),
        ("companies", "set", "11111111-1111-4111-8111-111111111111", "--platform", "x", "--organization", "o"),
        ("companies", "set", "11111111-1111-4111-8111-111111111111", "--platform", "benevity", "--organization", " "),
        ("deliveries", "list", "--status", "lost"),
        ("deliveries", "list", "--since", "yesterday"),
        ("deliveries", "list", "--limit", "0"),
        ("deliveries", "show", "1"),
        ("demo", "--faults", "all"),
        ("simulate", "nobody"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_and_one_line(
    impact_in: Command, environment: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    for name, value in SERVERS.items():
        environment.setenv(name, value)
    ended = impact_in(*arguments)
    assert ended.status == Status.USAGE
    assert len(ended.err.splitlines()) == (0 if arguments == ("companies",) else 1)  # a bare group shows its help


@pytest.mark.parametrize("arguments", SETUP, ids=" ".join)
def test_a_command_asks_for_its_own_variables_and_ends_with_status_2(
    impact_in: Command, environment: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    for variable in SETUP[arguments]:
        ended = impact_in(*arguments)
        assert (ended.status, ended.out) == (Status.USAGE, "")
        assert ended.err.startswith(f"impact-in: {variable} is missing: it takes ")
        assert len(ended.err.splitlines()) == 1
        environment.setenv(variable, SERVERS.get(variable, "x"))


@pytest.mark.parametrize(
    "arguments", [arguments for arguments in SETUP if arguments[0] not in ("worker", "gateway")], ids=" ".join
)
def test_a_server_out_of_reach_is_status_3_and_one_line(
    impact_in: Command, environment: pytest.MonkeyPatch, arguments: tuple[str, ...], free_port: int
) -> None:
    for name, value in SERVERS.items():
        environment.setenv(name, value.replace("127.0.0.1:1", f"127.0.0.1:{free_port}"))
    ended = impact_in(*arguments)
    assert (ended.status, ended.out) == (Status.UNREACHABLE, "")
    assert len(ended.err.splitlines()) == 1
    assert "geheim" not in ended.err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("u"), 2),
        (SettingsError("s"), 2),
        (StartError("s"), 1),
        (MigrationError("m"), 1),
        (asyncpg.InsufficientPrivilegeError("a row"), 1),
        (LedgerUnavailable("l"), 3),
        (PublishFailed("p"), 3),
        (KafkaUnavailable("k"), 3),
        (NodeNotReadyError("n"), 3),
        (redis.exceptions.ConnectionError("geheim"), 3),
        (LocalStackError("port 9092 is in use by java (7)"), 3),
    ],
)
def test_every_failure_that_can_be_foreseen_is_one_line(error: Exception, status: int) -> None:
    explained = explain(error)
    assert explained is not None
    assert explained[0] == status
    assert len(explained[1].splitlines()) == 1
    assert "geheim" not in explained[1]
    assert "a row" not in explained[1]


def test_what_nobody_foresaw_keeps_its_traceback(impact_in: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert explain(KeyError("x")) is None
    monkeypatch.setattr("impact_in.up.run_down", lambda data: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        impact_in("down")


def test_a_file_that_cannot_be_read_is_named(
    impact_in: Command, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    for path in ("nowhere.jsonl", str(tmp_path)):
        ended = impact_in("publish", path)
        assert ended.status == Status.USAGE
        assert ended.err.startswith(f"impact-in: {path} cannot be read: ")


def test_a_role_that_does_not_exist_is_named_with_those_that_do(
    impact_in: Command, environment: pytest.MonkeyPatch
) -> None:
    for name, value in (SERVERS | MOCKED | {"IMPACT_IN_WORKDAY_ENABLED": "false"}).items():
        environment.setenv(name, value)
    ended = impact_in("worker", "--role", "ingest", "--role", "deliver:workday")
    assert ended.status == Status.USAGE
    assert ended.err == (
        "impact-in: --role deliver:workday: no such role here, it takes ingest, deliver:benevity, deliver:goodera\n"
    )


def test_arguments_reach_what_they_are_for(impact_in: Command, environment: pytest.MonkeyPatch) -> None:
    for name, value in (SERVERS | MOCKED).items():
        environment.setenv(name, value)
    calls: list[Any] = []

    def recorded(*arguments: Any, **named: Any) -> int:
        calls.append((arguments, named))
        return 1

    for target in ("worker.run_worker", "gateway.run_gateway", "up.run_up", "up.run_down", "demo.run_demo"):
        environment.setattr(f"impact_in.{target}", recorded)

    async def all_there(settings: Any) -> dict[str, int]:
        return {}

    environment.setattr("impact_in.needed_topics.needed_topics", all_there)
    assert impact_in("worker", "--role", "ingest", "--role", "deliver:goodera").status == 1
    assert impact_in("worker").status == 1
    assert impact_in("gateway").status == 1
    assert impact_in("up", "--data", "d", "--kafka-port", "9092").status == 1
    assert impact_in("down").status == 1
    assert impact_in("demo", "--events", "7", "--rate", "0", "--faults", "many", "--exit", "--json").status == 1
    (settings, roles), _ = calls[0]
    assert (settings.redis_url, roles) == (SERVERS["REDIS_URL"], ["ingest", "deliver:goodera"])
    assert calls[1][0][1:] == ([],)
    assert calls[2][0][0].port == 3007
    assert calls[3] == ((Path("d"),), {"kafka_port": 9092, "database_port": 0, "redis_port": 0})
    assert calls[4][0] == (Path(".impact-in"),)
    options = calls[5][0][0]
    assert (options.events, options.rate, options.faults, options.exit, options.json) == (7, 0.0, "many", True, True)


def test_simulate_passes_its_arguments_on(impact_in: Command, environment: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def recorded() -> int:
        seen.append(sys.argv[1:])
        return 0

    environment.setattr(sys, "argv", list(sys.argv))
    environment.setattr("impact_in.simulators.__main__.main", recorded)
    assert impact_in("simulate", "benevity", "goodera", "--faults", "some", "--port-goodera", "0").status == 0
    assert seen == [["--platform", "benevity", "--platform", "goodera", "--faults", "some", "--port-goodera", "0"]]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T12:00:00+02:00"),
        ("24h", "2026-01-30T12:00:00+00:00"),
    ],
)
def test_moments_are_read_as_people_write_them(text: str, moment: str) -> None:
    read = parse_moment(text, "--since", NOON)
    assert read is not None
    assert read.isoformat() == moment


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-31T12:00:00", "999999999d", "2026-13-01"])
def test_a_moment_that_is_none_names_its_option(text: str) -> None:
    with pytest.raises(UsageError, match="--until takes a time such as"):
        parse_moment(text, "--until", NOON)


def test_logs_go_to_stderr_as_json_in_production(
    impact_in: Command, environment: pytest.MonkeyPatch, tmp_path: Path, free_port: int
) -> None:
    environment.setenv("DATABASE_URL", f"postgresql://u@127.0.0.1:{free_port}/d")
    environment.setenv("NODE_ENV", "production")
    readable = impact_in("companies", "list").err.splitlines()
    assert "settings.node_env_is_not_read" in readable[0]
    assert "\x1b" not in readable[0]
    code = (
        "import structlog, logging\n"
        "from impact_in import logs\n"
        "logs.configure(production=True)\n"
        "structlog.get_logger('ours').warning('it.happened', count=3)\n"
        "logging.getLogger('theirs').error('also %s', 'this')\n"
        "logging.getLogger('aiokafka').info('chatter')\n"
        "try:\n    secret = 'geheim'; 1 / 0\n"
        "except ZeroDivisionError:\n    structlog.get_logger('ours').exception('it.broke')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    first, second, third = (json.loads(line) for line in done.stderr.splitlines())
    assert (first["event"], first["count"], first["level"], first["logger"]) == ("it.happened", 3, "warning", "ours")
    assert second["event"] == "also this"
    assert "ZeroDivisionError" in third["exception"]


def test_the_entry_point_ends_with_the_status(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "impact_in", "migrate"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("impact-in: DATABASE_URL is missing")
