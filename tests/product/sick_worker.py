"""A worker that falls sick when it is told to (SIGUSR1), with less patience than a real one: `sick_worker.py loop` or
`consumer`."""

import signal
import sys
import threading
from typing import Any

from impact_in.cli.start import prepare
from impact_in.health import Patience
from impact_in.worker import run_worker
from streams.role import Role

PATIENCE = Patience(unhealthy=1.0, stuck=4.0, stalled=6.0)


def stick_the_loop() -> None:
    def stick(*_: Any) -> None:
        threading.Event().wait()

    signal.signal(signal.SIGUSR1, stick)


def stick_the_consumer() -> None:
    """Its agents take nothing any more."""
    stuck = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: stuck.set())
    declare = Role._declare_agent

    def declared(role: Role) -> None:
        accept = role._accept

        async def accept_until_stuck(record: Any) -> None:
            if stuck.is_set():
                return  # swallowed: it is in hand, and nobody works on it
            await accept(record)

        role._accept = accept_until_stuck
        declare(role)

    Role._declare_agent = declared  # type: ignore[method-assign]


def main() -> int:
    {"loop": stick_the_loop, "consumer": stick_the_consumer, "well": lambda: None}[sys.argv[1]]()
    settings = prepare("kafka", "database", "redis", "platforms", "worker", quiet=False)
    return run_worker(settings, [], patience=PATIENCE)


if __name__ == "__main__":
    sys.exit(main())
