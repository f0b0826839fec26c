"""What the three servers have in common: a port, a log, a start that is proved, and an end."""

import re
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from impact_in.local_stack import ports
from impact_in.local_stack.errors import LocalStackError
from impact_in.local_stack.supervised import Command, SupervisedProcess

START_SECONDS = 30.0
_PROBE_SECONDS = 0.005
_PORT_ATTEMPTS = 5
_LOG_BYTES = 10_000_000
_TELLING = re.compile(r"FATAL|PANIC|ERROR|panicked|error|cannot", re.ASCII)


class Server(ABC):
    """One server of the local stack. Every method blocks; from asyncio call it through ``asyncio.to_thread``.

    ``port`` 0 takes the port of the last run on the same ``data_dir`` if it is free, else any free one. Once
    started, an object keeps its port: ``restart``, or ``start`` after ``kill``, come back at the same address
    or raise. ``keep`` are descriptors (a lock) that stay open until the server has ended, even if we have not
    lived that long. A server that ends while nobody asked it to calls ``on_unexpected_end`` with a message,
    in a thread of its own.

    Two servers of one kind on one ``data_dir`` are for the caller to prevent (LocalStack does).
    """

    name: ClassVar[str]
    remembers_port: ClassVar[bool] = True

    def __init__(self, data_dir: Path, *, port: int = 0, keep: Sequence[int] = ()) -> None:
        self.data_dir = data_dir.resolve()
        self.home = self.data_dir / self.name
        self.log = self.data_dir / "logs" / f"{self.name}.log"
        self.port = port
        self.keep = keep
        self.on_unexpected_end: Callable[[str], None] = lambda _message: None
        self._process: SupervisedProcess | None = None
        self._abandoned = threading.Event()
        self._log_start = 0

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect."""

    @abstractmethod
    def prepare(self) -> None:
        """Bring ``home`` into a state from which the server can start. Called before each start."""

    @abstractmethod
    def command(self, port: int) -> Command:
        """How to run the server on the port."""

    @abstractmethod
    def answers(self, port: int, pid: int) -> bool:
        """Whether the server of this start, and not a stranger at the same address, is ready for clients."""

    @property
    def running(self) -> bool:
        return self._process is not None and not self._process.ended

    @property
    def pid(self) -> int:
        """The server's own process id (not its supervisor's)."""
        if self._process is None:
            raise LocalStackError(f"{self.name} is not running: start it first")
        return self._process.pid

    def start(self) -> None:
        """Start the server and return once it answers. Raises LocalStackError."""
        if self.running:
            raise LocalStackError(f"{self.name} is already running as pid {self.pid}: stop it first")
        self._abandoned.clear()
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open_log()
            self.prepare()
            for _ in range(_PORT_ATTEMPTS):
                if self._run_on(self._choose_port()):
                    return
        except OSError as error:
            raise LocalStackError(f"{self.name} cannot start in {self.home}: {error}") from error
        raise LocalStackError(f"{self.name} found no port to itself in {_PORT_ATTEMPTS} attempts: try again")

    def stop(self) -> None:
        """Stop the server in an orderly way, by force after its grace. Nothing happens if it does not run."""
        self._abandoned.set()
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL the server, as a crash would end it; ``start`` brings it back. Not an unexpected end."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def abandon(self) -> None:
        """Make a ``start`` that runs in another thread give up soon."""
        self._abandoned.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def log_tail(self, lines: int = 12) -> list[str]:
        """The last lines that the server wrote since its start."""
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(max(self._log_start, self.log.stat().st_size - 16_384))
            return log.read().decode(errors="replace").splitlines()[-lines:]
        return []

    def _choose_port(self) -> int:
        if not self.port:
            remembered = self._remembered_port()
            return remembered if remembered and ports.is_free(remembered) else ports.free_port()
        if not ports.is_free(self.port):
            raise LocalStackError(
                f"port {self.port} for {self.name} is in use by {ports.holder(self.port)}: "
                "stop that, or choose another port (0 takes a free one)"
            )
        return self.port

    def _run_on(self, port: int) -> bool:
        """Start on this port. False when somebody else took the port first, and any other would do."""
        process = SupervisedProcess(
            self.command(port), log=self.log, keep=self.keep, on_unexpected_end=self._tell_unexpected_end
        )
        started = False
        try:
            started = self._wait_until_ready(process, port)
        finally:
            if not started:
                process.stop()
        if started:
            self.port, self._process = port, process
            if self.remembers_port:
                (self.home / "port").write_text(f"{port}\n")
            if process.ended:  # between its first answer and these lines
                raise self._failure(process)
            return True
        if not ports.is_free(port) and not self.port:
            return False
        self._choose_port()  # a port that was asked for, and lost: says who has it
        raise self._failure(process)

    def _wait_until_ready(self, process: SupervisedProcess, port: int) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while not process.wait_for_end(_PROBE_SECONDS):
            if self.answers(port, process.pid):
                return True
            if self._abandoned.is_set():
                raise LocalStackError(f"the start of {self.name} was given up")
            if time.monotonic() > deadline:
                raise LocalStackError(
                    f"{self.name} does not answer within {START_SECONDS:.0f} s: look into {self.log}",
                    log_tail=self.log_tail(),
                )
        return False

    def _failure(self, process: SupervisedProcess) -> LocalStackError:
        return LocalStackError(
            f"{self.name} did not start ({process.how_it_ended}): {self._telling_line()}; look into {self.log}",
            log_tail=self.log_tail(),
        )

    def _tell_unexpected_end(self, process: SupervisedProcess) -> None:
        if process is self._process:
            self.on_unexpected_end(
                f"{self.name} (pid {process.pid}) ended unexpectedly ({process.how_it_ended}); "
                f"the last it said: {self._telling_line()}; look into {self.log}"
            )

    def _telling_line(self) -> str:
        tail = [line.strip() for line in self.log_tail() if line.strip()]
        telling = [line for line in tail if _TELLING.search(line)] or tail
        return telling[-1] if telling else "nothing"

    def _remembered_port(self) -> int:
        with suppress(OSError, ValueError):
            return int((self.home / "port").read_text())
        return 0

    def _open_log(self) -> None:
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > _LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
        self.log.touch(mode=0o600)
        self._log_start = self.log.stat().st_size


def kept_password(file: Path) -> str:
    """The password in the file; a new random one if there is no file yet. Readable for the owner only."""
    with suppress(FileNotFoundError):
        return file.read_text().strip()
    write_private(file, f"{secrets.token_urlsafe(24)}\n")
    return file.read_text().strip()


def write_private(file: Path, text: str) -> None:
    """Write the file anew, in one step, for the owner only."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(file)


def wheel_directory(package: str) -> Path:
    """Where the package of a server wheel lies. It is found, not imported: importing starts things."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LocalStackError(f"the package {package} is not installed: install impact-in with its dependencies")
    return Path(spec.submodule_search_locations[0])
