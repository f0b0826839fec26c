"""The process between us and one server, so that no server outlives us.

Started as ``python -I -S lifeline.py '{…}'``: the standard library only, no package around it. The parent
holds the write end of a pipe that is this process's stdin and never writes to it. Who dies, and what follows:

==========================  ===========================================================================
the parent, in any way      end of file on stdin (or another parent id, where a forked copy of the parent
                            still holds the pipe): the server is stopped as for SIGTERM
SIGTERM here                the server gets its own stop signal, and SIGKILL once the grace is over
the server                  what it left behind is ended, and this process tells how the server ended
this process, by SIGKILL    the kernel sends the server its death signal (PR_SET_PDEATHSIG, Linux)
==========================  ===========================================================================

PR_SET_PDEATHSIG directly from the parent to the server would not do: the kernel sends it when the *thread*
that forked ends, and a server here may be started from any worker thread. This process has one thread.

Output, one line each: ``pid N`` once the server runs, ``ended exit status N`` or ``ended SIGNAME``.
Argument, one JSON object: ``argv``, ``cwd``, ``env``, ``stop_signal``, ``death_signal``, ``grace`` (seconds),
``keep`` (descriptors to hold open as long as this process lives, and to hide from the server), and ``account``
(``[uid, gid]``, to run the server without our rights, or null). stderr becomes the server's stdout and stderr.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 1.0


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def spawn(order: dict[str, Any]) -> int:
    supervisor = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o077)
        os.chdir(order["cwd"])
        if order["account"] is not None:
            uid, gid = order["account"]
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        # After setuid, which clears it.
        prctl(PR_SET_PDEATHSIG, order["death_signal"])
        if os.getppid() != supervisor:
            os._exit(127)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        os.execve(order["argv"][0], order["argv"], order["env"])  # noqa: S606 - no shell is wanted
    except BaseException as error:
        os.write(2, f"cannot run {order['argv'][0]}: {error}\n".encode())
    os._exit(127)


def end_descendants() -> None:
    """Kill what the server left behind, which the kernel has handed to us (PR_SET_CHILD_SUBREAPER)."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    deadline = time.monotonic() + 5
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                for child in children.read_text().split():
                    os.kill(int(child), signal.SIGKILL)
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.005)


def watch(server: int, order: dict[str, Any]) -> int:
    """Wait until the server has ended; stop it when nobody wants it any more. Returns its wait status."""
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    asked_to_stop = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    parent = order["parent"]
    sources = [0, wake_read]
    kill_at = None
    while True:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == server:
                return status
            if pid == 0:
                break
        now = time.monotonic()
        if kill_at is None and (asked_to_stop or os.getppid() != parent):
            kill_at = now + order["grace"]
            os.kill(server, order["stop_signal"])
            os.kill(server, signal.SIGCONT)  # a stopped server takes no other signal than SIGKILL
        elif kill_at is not None and now >= kill_at:
            os.kill(server, signal.SIGKILL)
        ready, _, _ = select.select(sources, [], [], POLL_SECONDS if kill_at is None else 0.05)
        if wake_read in ready:
            os.read(wake_read, 1024)
        if 0 in ready and not os.read(0, 1024):
            asked_to_stop = True
            sources.remove(0)


def tell(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{line}\n".encode())


def main() -> None:
    order = json.loads(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for descriptor in order["keep"]:
        os.set_inheritable(descriptor, False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)

    server = spawn(order)
    tell(f"pid {server}")
    status = watch(server, order)
    end_descendants()
    code = os.waitstatus_to_exitcode(status)
    tell(f"ended {signal.Signals(-code).name}" if code < 0 else f"ended exit status {code}")


if __name__ == "__main__":
    main()
