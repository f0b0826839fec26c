"""Our end of a lifeline: one run of one server."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from impact_in.local_stack.errors import LocalStackError

SUPERVISOR_SECONDS = 6.0  # beyond the server's grace, which the supervisor itself sees to

_LIFELINE = Path(__file__).with_name("lifeline.py")


@dataclass(frozen=True)
class Command:
    """How to run a server, and how to end it. ``account`` is (uid, gid), or None to run as we do."""

    argv: Sequence[str]
    cwd: Path
    stop_signal: signal.Signals
    death_signal: signal.Signals = signal.SIGKILL
    grace: float = 5.0
    env: Mapping[str, str] | None = None
    account: tuple[int, int] | None = None


class SupervisedProcess:
    """A running server behind its lifeline.

    ``on_unexpected_end`` is called, in a thread of its own, when the server ends while neither ``stop`` nor
    ``kill`` was called. ``how_it_ended`` reads ``exit status 1`` or ``SIGKILL``.
    """

    def __init__(
        self,
        command: Command,
        *,
        log: Path,
        keep: Sequence[int],
        on_unexpected_end: Callable[["SupervisedProcess"], None],
    ) -> None:
        self.pid = 0
        self.how_it_ended = ""
        self._grace = command.grace
        self._on_unexpected_end = on_unexpected_end
        self._launched = threading.Event()
        self._ended = threading.Event()
        self._wanted = True
        order = {
            "argv": list(command.argv),
            "cwd": str(command.cwd),
            # Nothing of our environment: PG* and OTEL_* variables would change what the servers do.
            "env": {"PATH": os.defpath, "LANG": "C", "TZ": "UTC", "NO_COLOR": "1", **(command.env or {})},
            "stop_signal": command.stop_signal,
            "death_signal": command.death_signal,
            "grace": command.grace,
            "account": command.account,
            "keep": list(keep),
            "parent": os.getpid(),
        }
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own file, run by our own interpreter
                [sys.executable, "-I", "-S", str(_LIFELINE), json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd="/",
                pass_fds=keep,
                # Out of the terminal's process group: Ctrl-C is ours to answer, with an orderly stop.
                start_new_session=True,
                bufsize=0,
            )
        threading.Thread(target=self._listen, name=f"lifeline-{self._process.pid}", daemon=True).start()
        self._launched.wait()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def wait_for_end(self, timeout: float) -> bool:
        return self._ended.wait(timeout)

    def stop(self) -> None:
        """Ask the server to end, and return when it has. SIGKILL after its grace."""
        self._wanted = False
        assert self._process.stdin is not None
        self._process.stdin.close()
        if not self._ended.wait(self._grace + SUPERVISOR_SECONDS):
            # The supervisor itself hangs (somebody stopped it): the kernel passes its death on.
            self._process.kill()
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash. Returns when nothing of the server is left, so that it can be started again."""
        self._wanted = False
        if self.pid and not self.ended:
            os.kill(self.pid, signal.SIGKILL)
        if not self._ended.wait(10):
            raise LocalStackError(f"process {self.pid} does not end even by SIGKILL: look at its state with ps")
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                kind, _, rest = line.decode().strip().partition(" ")
                if kind == "pid":
                    self.pid = int(rest)
                    self._launched.set()
                elif kind == "ended":
                    self.how_it_ended = rest
        status = self._process.wait()
        if not self.how_it_ended:
            self.how_it_ended = f"its supervisor ended with {status}"
            self._outlast_orphan()
        self._ended.set()
        self._launched.set()
        if self._wanted:
            self._on_unexpected_end(self)

    def _outlast_orphan(self) -> None:
        """The supervisor is gone, and the kernel has sent the server its death signal: see it through."""
        if self.pid and not _ends_within(self.pid, self._grace):
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            _ends_within(self.pid, 5)


def _ends_within(pid: int, seconds: float) -> bool:
    """Whether a process that is not our child ends in that time.

    Through a pidfd where there is one: the process id itself stays taken until process 1 notices the end, which
    takes long in some containers, and a look at its state is answered by its first thread alone.
    """
    if hasattr(os, "pidfd_open"):
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            end = select.poll()
            end.register(handle, select.POLLIN)
            return bool(end.poll(seconds * 1000))
        finally:
            os.close(handle)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False
