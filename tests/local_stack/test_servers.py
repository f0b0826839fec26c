import asyncio
import os
import signal
import socket
from pathlib import Path

import asyncpg
import pytest
import redis

from impact_in.local_stack import Broker, Cache, Database, LocalStackError, Server, ports
from tests.servers.waiting import eventually

pytestmark = pytest.mark.servers


def test_a_killed_cache_comes_back_on_its_port_with_what_it_had_saved(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        client = redis.Redis.from_url(cache.url)
        client.set("saved", "1")
        client.save()
        url, pid = cache.url, cache.pid

        cache.kill()
        assert not cache.running
        with pytest.raises(redis.exceptions.ConnectionError):
            client.ping()

        cache.start()
        assert (cache.url, cache.pid != pid) == (url, True)
        assert client.get("saved") == b"1"
        client.close()


def test_a_killed_database_recovers_even_with_clients_at_work(tmp_path: Path) -> None:
    with Database(tmp_path) as database:

        async def crash_while_a_query_runs() -> None:
            working, other = await asyncpg.connect(database.url), await asyncpg.connect(database.url)
            await other.execute("CREATE TABLE kept AS SELECT 42 AS answer")
            query = asyncio.create_task(working.execute("SELECT count(*) FROM generate_series(1, 1000000000)"))
            await eventually(lambda: other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"))
            await asyncio.to_thread(database.kill)
            with pytest.raises((asyncpg.PostgresError, OSError)):
                await query
            working.terminate()
            other.terminate()
            await asyncio.to_thread(database.start)
            connection = await asyncpg.connect(database.url)
            assert await connection.fetchval("SELECT answer FROM kept") == 42
            await connection.close()

        asyncio.run(crash_while_a_query_runs())


def test_a_paused_server_can_be_stopped(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        os.kill(cache.pid, signal.SIGSTOP)
        cache.stop()
        assert not cache.running


def test_a_remembered_port_that_is_busy_by_now_is_replaced(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        before = cache.port
    with socket.create_server(("127.0.0.1", before)), Cache(tmp_path) as cache:
        assert cache.port != before


@pytest.mark.parametrize("kind", [Broker, Cache, Database])
def test_a_port_lost_to_somebody_else_after_the_check_is_replaced(
    kind: type[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        offered = iter([stranger.getsockname()[1]])
        really_free = ports.free_port
        monkeypatch.setattr(ports, "free_port", lambda: next(offered, 0) or really_free())
        with kind(tmp_path) as server:
            assert server.running
            assert server.port != stranger.getsockname()[1]


def test_an_orphan_on_the_port_is_not_taken_for_the_server(tmp_path: Path) -> None:
    with Broker(tmp_path / "orphan") as orphan, Cache(tmp_path / "other orphan") as other_orphan:
        broker, cache = Broker(tmp_path), Cache(tmp_path)
        broker.prepare()
        cache.home.mkdir()
        cache.prepare()
        assert orphan.answers(orphan.port, orphan.pid)
        assert not broker.answers(orphan.port, orphan.pid)
        assert other_orphan.answers(other_orphan.port, other_orphan.pid)
        assert not cache.answers(other_orphan.port, other_orphan.pid)


def test_a_server_is_not_started_twice(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, pytest.raises(LocalStackError, match=f"already running as pid {broker.pid}"):
        broker.start()


def test_the_environment_of_the_project_does_not_reach_the_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGOPTIONS", "--no-such-option")
    monkeypatch.setenv("STORAGE_ENGINE", "nowhere://")
    monkeypatch.setenv("AUTHENTICATION", "true")
    for kind in (Broker, Database):
        with kind(tmp_path) as server:
            assert server.running


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    with Database(tmp_path, durable=False) as database:
        pass
    (database.cluster / "PG_VERSION").write_text("17\n")
    with pytest.raises(LocalStackError, match="is of PostgreSQL 17, and PostgreSQL 18 is installed"):
        database.start()


def test_half_a_cluster_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "cluster.new" / "base").mkdir(parents=True)
    with Database(tmp_path, durable=False) as database:
        assert database.running


def test_a_pid_file_that_names_another_program_does_not_keep_the_database_from_starting(tmp_path: Path) -> None:
    with Database(tmp_path, durable=False) as database:
        pid_file = database.cluster / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        database.kill()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    database.start()
    database.stop()
