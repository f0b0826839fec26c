"""Ports on 127.0.0.1: finding a free one, and saying who has a busy one."""

import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LOWEST = 15_000
_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now. True does not mean that it still can a moment later."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do it: connections that are only waiting out their time do not make a port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A free port below the range from which the kernel takes the ports of outgoing connections.

    A port from within that range can be lost while its server restarts: to any outgoing connection, and
    even to the server's own client, which, connecting again and again, at some time gets the very same
    port as its own and is then connected to itself.
    """
    below = _first_ephemeral_port()
    for _ in range(100 if below > LOWEST else 0):
        port = random.randrange(LOWEST, below)  # noqa: S311 - nothing secret about a port
        if is_free(port):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address: tuple[str, int] = probe.getsockname()
        return address[1]


def holder(port: int) -> str:
    """Who listens on the port: ``pid 123 (command line)``, or ``another process`` where we may not look."""
    inodes = set(_listening_inodes(port))
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    if os.readlink(descriptor) in inodes:
                        return f"pid {process.name} ({_command_line(process)})"
    return "another process"


def _first_ephemeral_port() -> int:
    with suppress(OSError, ValueError):
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return 0


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"


def _command_line(process: Path) -> str:
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    line = " ".join(word for word in words if word)
    return line if len(line) <= 120 else f"{line[:119]}…"
