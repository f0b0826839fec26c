"""The three servers together, on one data directory."""

import asyncio
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from impact_in.local_stack.broker import Broker
from impact_in.local_stack.cache import Cache
from impact_in.local_stack.database import Database
from impact_in.local_stack.errors import LocalStackError
from impact_in.local_stack.server import Server
from impact_in.local_stack.state import DirectoryLock

ALL = frozenset({"kafka", "postgres", "redis"})


@dataclass(frozen=True)
class Servers:
    """Where clients connect. Empty for a server that was left out."""

    kafka_bootstrap_servers: str
    database_url: str
    redis_url: str

    def as_env(self) -> dict[str, str]:
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
        }
        return {name: value for name, value in env.items() if value}


class LocalStack:
    """A broker, a database and a fast memory, which end with this process however it ends.

    ``data_dir`` gets ``postgres/``, ``valkey/``, ``tansu/``, ``logs/`` and, while the stack runs,
    ``stack.json``. PostgreSQL's and Valkey's data and addresses come back with the next stack on the same
    directory; the broker forgets. ``durable=False`` gives up surviving a power cut, for speed.

    A server that is stopped, killed or restarted through ``broker``, ``database`` or ``cache`` has not died;
    see ``died``.

    Processes forked (not spawned) from this one keep the directory locked as long as they live.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        kafka_port: int = 0,
        database_port: int = 0,
        redis_port: int = 0,
        only: Set[str] = ALL,
        durable: bool = True,
    ) -> None:
        if not only or not only <= ALL:
            raise ValueError(f"only takes some of {sorted(ALL)}, not {sorted(only)}")
        self.data_dir = data_dir.resolve()
        self.broker = Broker(data_dir, port=kafka_port)
        self.database = Database(data_dir, port=database_port, durable=durable)
        self.cache = Cache(data_dir, port=redis_port)
        kinds: dict[str, Server] = {"kafka": self.broker, "postgres": self.database, "redis": self.cache}
        self._chosen = [server for kind, server in kinds.items() if kind in only]
        self._lock: DirectoryLock | None = None
        self._servers: Servers | None = None
        self._died: asyncio.Future[str] | None = None
        self._starts: list[asyncio.Task[None]] = []
        self._stopping: asyncio.Task[None] | None = None

    @property
    def servers(self) -> Servers:
        """Raises LocalStackError unless the stack has been started."""
        if self._servers is None:
            raise LocalStackError("the local stack is not running: start it first")
        return self._servers

    async def start(self) -> Servers:
        """Start all servers side by side, and return once all answer. Raises LocalStackError, with none left."""
        if self._lock is not None:
            raise LocalStackError(f"the local stack on {self.data_dir} is already running: stop it first")
        self._lock = await DirectoryLock.acquire(self.data_dir)
        loop = asyncio.get_running_loop()
        died: asyncio.Future[str] = loop.create_future()
        self._died = died

        def set_died(message: str) -> None:
            if not died.done():
                died.set_result(message)

        def report(message: str) -> None:  # called in a server's own thread
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(set_died, message)

        for server in self._chosen:
            server.keep = (self._lock.descriptor,)
            server.on_unexpected_end = report
        self._starts = [asyncio.create_task(asyncio.to_thread(server.start)) for server in self._chosen]
        try:
            # Not gather: cancelled, it would drop the tasks while their threads go on.
            done, _ = await asyncio.wait(self._starts, return_when=asyncio.FIRST_EXCEPTION)
            for start in done:
                start.result()
        except BaseException:
            await self.stop()
            raise
        self._starts = []
        self._servers = Servers(
            kafka_bootstrap_servers=self.broker.url if self.broker.running else "",
            database_url=self.database.url if self.database.running else "",
            redis_url=self.cache.url if self.cache.running else "",
        )
        return self._servers

    async def stop(self) -> None:
        """Stop all servers in parallel, each in an orderly way and by force after its grace (15 s at most).

        Can be called again, also while it runs; and goes on to its end if its caller is cancelled.
        """
        if self._lock is None:
            return
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(self._lock))
        await asyncio.shield(self._stopping)

    def died(self) -> asyncio.Future[str]:
        """Resolves once a server has ended that nobody asked to: says which, how, and the last of its log.

        Pending for ever if none does. Every call gives a future of its own, free to be cancelled.
        """
        if self._died is None:
            raise LocalStackError("the local stack is not running: start it first")
        return asyncio.shield(self._died)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _stop(self, lock: DirectoryLock) -> None:
        try:
            for server in self._chosen:
                server.abandon()
            if self._starts:
                await asyncio.wait(self._starts)
                for start in self._starts:
                    if not start.cancelled():
                        start.exception()  # the first has been raised; the others are its consequence
            stops = (asyncio.to_thread(server.stop) for server in self._chosen)
            failures = [end for end in await asyncio.gather(*stops, return_exceptions=True) if end is not None]
        finally:
            self._starts = []
            self._servers = None
            self._lock = None
            self._stopping = None
            lock.release()
        for failure in failures:
            raise failure
