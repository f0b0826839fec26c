"""python -m benchmarks.profile whole_way|deliver_only|baseline [EVENTS]

Where the time of a worker's main thread goes, over one whole run. Takes samples from outside with py-spy, which is no
dependency of ours: have it on the PATH or in $PY_SPY (`uv tool install py-spy`). The raw samples (for a flame graph)
stay beside the results.
"""

import asyncio
import logging
import os
import re
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

from benchmarks.flow import Run, measured
from benchmarks.results import RESULTS
from benchmarks.stand import PLATFORM, Stand, installation, stand

_HERTZ = 250
_SHOWN = 40
_ROOT = f"{Path(__file__).parent.parent}/"
_PARTS = (
    ("log lines", "impact_in/observers.py", "LogObserver"),
    ("metrics", "impact_in/observers.py", "MetricsObserver"),
    ("HTTP client", "connectors/http_client.py", ""),
    ("connectors", "connectors/", ""),
    ("ledger", "delivery_log/", ""),
    ("Redis", "guards/", ""),
    ("schemas", "schemas/", ""),
    ("the heart", "delivery/", ""),
    ("producing", "streams/publisher.py", ""),
    ("producing", "aiokafka/producer", ""),
    ("reading (streams, Faust, mode)", "streams/", ""),
    ("reading (streams, Faust, mode)", "faust/", ""),
    ("reading (streams, Faust, mode)", "mode/", ""),
    ("Kafka's protocol", "aiokafka/", ""),
    ("HTTP client, in callbacks", "aiohttp/", ""),
    ("ledger, in callbacks", "asyncpg/", ""),
)


async def _profile(what: str, events: int, spy: str) -> Path:
    raw = RESULTS / f"{what}.profile.raw"
    RESULTS.mkdir(exist_ok=True)
    async with stand() as place:
        await _run(place, what, max(events // 4, 500), None, raw)
        run = await _run(place, what, events, spy, raw)
    print(f"{what}: {run.speed:,.0f} deliveries/s, {run.cpu_ms:.3f} ms of CPU each (sampling included)")
    return raw


async def _run(place: Stand, what: str, events: int, spy: str | None, raw: Path) -> Run:
    async with installation(place) as at:
        await at.publish(events)
        if what == "baseline":
            child = await at.baseline()
        elif what == "deliver_only":
            ingest = await at.worker("ingest")
            await at.requested(events)
            await ingest.stop(15.0)
            child = await at.worker(f"deliver:{PLATFORM}", ready=False)
        else:
            child = await at.worker(ready=False)
        sampling = None
        if spy is not None:
            await place.sink.accepted(1, every=0.02)
            arguments = ["record", "-r", str(_HERTZ), "-d", "3600", "-f", "raw", "-o", str(raw), "-p", str(child.pid)]
            sampling = await asyncio.create_subprocess_exec(
                spy, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
        run = await measured(at, what, child.pid, events)
        if sampling is not None:
            sampling.send_signal(signal.SIGINT)
            await sampling.wait()
        if what == "baseline":
            await child.stop(5.0)
        return run


def report(raw: Path) -> str:
    """Of the main thread alone: parts, then functions by what they take themselves and with what they call."""
    parts: Counter[str] = Counter()
    own: Counter[str] = Counter()
    with_called: Counter[str] = Counter()
    total = 0
    for line in raw.read_text().splitlines():
        stack, _, count_text = line.rpartition(" ")
        if "_run_module_as_main" not in stack:
            continue
        count = int(count_text)
        frames = [_short(frame) for frame in stack.split(";")]
        total += count
        own[frames[-1]] += count
        for frame in set(frames):
            with_called[frame] += count
        parts[_part(frames)] += count
    lines = [f"main thread, {total} samples"]
    for title, counter in (
        ("parts", parts),
        ("functions, themselves", own),
        ("functions, with what they call", with_called),
    ):
        lines += ["", title, *(f"{count / total:7.1%}  {name}" for name, count in counter.most_common(_SHOWN))]
    return "\n".join(lines)


def _short(frame: str) -> str:
    frame = re.sub(r"^\S*?/site-packages/", "", re.sub(r":\d+\)$", ")", frame)).replace(_ROOT, "")
    return re.sub(r"\(\S*?/site-packages/", "(", frame)


def _part(frames: list[str]) -> str:
    if frames[-1].startswith("Runner.run"):
        return "idle, or inside uvloop"
    for frame in reversed(frames):
        for part, path, name in _PARTS:
            if f"({path}" in frame and frame.startswith(name):
                return part
    return "other"


def main() -> int:
    what, events = sys.argv[1] if len(sys.argv) > 1 else "", int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    if what not in ("whole_way", "deliver_only", "baseline"):
        print(__doc__, file=sys.stderr)
        return 2
    spy = os.environ.get("PY_SPY") or shutil.which("py-spy")
    if spy is None:
        print("py-spy is not on the PATH and PY_SPY is not set: `uv tool install py-spy`", file=sys.stderr)
        return 2
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    print(report(asyncio.run(_profile(what, events, spy))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
