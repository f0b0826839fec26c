"""What all rows stand on: Apache Kafka, PostgreSQL that syncs, Valkey, and a proxy in front of each; started once."""

import asyncio
import json
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from impact_in.children import Child
from impact_in.local_stack.cache import Cache
from impact_in.local_stack.database import Database
from impact_in.local_stack.ports import free_port
from impact_in.set_up import SetUp
from proving.tight_disk import TightDisk
from tests.servers.environment import checkout_env
from tests.servers.kafka import GivenKafka, KafkaServer, NoKafka, find_kafka

_ROOT = Path(__file__).parent.parent
# With 12 roles and waiters a row, and rows one after another: room for the garbage of deleted topics.
_JVM = ("-Xmx768m", "-Xms256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class NoGround(Exception):
    """What faults need is not here; the message says what."""


class Ground(SetUp):
    """`kafka`, `database` and `cache` may be killed and started again; `road` commands a proxy."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path()
        self.kafka: KafkaServer
        self.database: Database
        self.cache: Cache
        self._ports: dict[str, int] = {}
        self._control: tuple[asyncio.StreamReader, asyncio.StreamWriter]

    async def _set_up(self) -> None:
        source = find_kafka()
        if isinstance(source, NoKafka):
            raise NoGround(source.reason)
        if isinstance(source, GivenKafka):
            raise NoGround("KAFKA_BOOTSTRAP_SERVERS names a Kafka that is not ours to kill; unset it")
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="impact-in-faults-")))
        self.database = Database(self.directory, durable=True)
        self.cache = Cache(self.directory)
        self._stack.callback(self.database.stop)
        self._stack.callback(self.cache.stop)
        self.database.start()
        self.cache.start()
        kafka_port, listen = free_port(), free_port()
        self.kafka = source.server(self.directory / "kafka", jvm_options=_JVM, port=kafka_port, advertised_port=listen)
        self._stack.callback(self.kafka.kill)
        await self.kafka.start()
        await self._start_proxy(
            f"kafka={listen}:127.0.0.1:{kafka_port}",
            f"postgres=0:127.0.0.1:{self.database.port}",
            f"redis=0:127.0.0.1:{self.cache.port}",
        )

    async def _start_proxy(self, *roads: str) -> None:
        proxy = await Child.start("proxy", ["proving.proxy", *roads], checkout_env(), self.directory)
        self._stack.push_async_callback(proxy.stop, 2.0)
        told = json.loads(await proxy.first_line())
        self._ports = told["ports"]
        self._control = await asyncio.open_connection("127.0.0.1", told["control"])
        self._stack.callback(self._control[1].close)

    async def road(self, name: str, command: str) -> dict[str, Any]:
        """Commands the proxy in front of `kafka`, `postgres` or `redis`; its state afterwards."""
        reader, writer = self._control
        writer.write(f"{name} {command}\n".encode())
        answer: dict[str, Any] = json.loads(await asyncio.wait_for(reader.readline(), 10.0))
        if "error" in answer:
            raise ValueError(f"{name} {command}: {answer['error']}")
        return answer

    def through_proxy(self, name: str, url: str) -> str:
        """The same address, by way of the proxy."""
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{self._ports[name]}"))

    async def clear_roads(self) -> None:
        for name in self._ports:
            await self.road(name, "pass")

    @asynccontextmanager
    async def tight_disk(self) -> AsyncIterator[None]:
        """Meanwhile `database` is one whose disk can be filled. Raises CannotMount."""
        usual = self.database
        self.database = tight = TightDisk.mounted(self.directory / f"tight-{secrets.token_hex(3)}")
        try:
            tight.start()
            yield
        finally:
            self.database = usual
            tight.free()
            tight.stop()
            tight.unmounted()

    async def mend(self) -> None:
        """However a row left the servers, the next one finds them running."""
        await self.clear_roads()
        self.kafka.resume()
        if not self.kafka.is_running():
            await self.kafka.start()
        for server in (self.database, self.cache):
            if not server.running:
                await asyncio.to_thread(server.start)
