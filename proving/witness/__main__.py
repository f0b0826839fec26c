"""`python -m proving.witness`: one JSON line when it listens, then receipts until it is told to end."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from impact_in.simulators.__main__ import main as simulate
from impact_in.simulators.faults import LEVELS


def main(arguments: Sequence[str] | None = None) -> int:
    """Ends as the simulators do: 0 after SIGTERM, 1 where it could not go on, 2 on usage."""
    found = _parser().parse_args(arguments)
    return simulate(
        [
            "--receipts", str(found.receipts),
            "--seed", str(found.seed),
            "--faults", found.faults,
            "--no-fault-exceptions",
            "--honour-keys" if found.personality == "keys" else "--no-honour-keys",
            "--latency-ms", str(found.answer_ms),
            *(word for name, port in found.port for word in (f"--port-{name}", port)),
        ]
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proving.witness",
        description="Benevity, Goodera and Workday as a witness. Prints one JSON line with their addresses.",
        epilog="Example: python -m proving.witness --receipts receipts.jsonl --faults some --personality counts",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--receipts", type=Path, required=True, metavar="FILE", help="JSON lines; goes on from it")
    add("--seed", type=int, default=1, help="the same seed meets the same faults (default: 1)")
    add("--faults", choices=tuple(LEVELS), default="none", help="default: none")
    add("--personality", choices=("keys", "counts"), default="keys", help="default: keys")
    add("--answer-ms", type=float, default=5.0, metavar="MS", help="added to each answer (default: 5)")
    add("--port", action="append", default=[], type=_port, metavar="PLATFORM=PORT", help="default: any free ports")
    return parser


def _port(text: str) -> tuple[str, str]:
    name, equals, port = text.partition("=")
    if not equals:
        raise ValueError
    return name, port


if __name__ == "__main__":
    sys.exit(main())
