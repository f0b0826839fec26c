"""Durations as people write them: a number with `ms`, `s`, `m`, `h` or `d` (contract, section 1)."""

import re
from datetime import timedelta

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)")

EXPECTED = "a number with ms, s, m, h or d, such as 500ms, 30s, 10m, 24h or 400d"


def parse_duration(text: str) -> timedelta:
    """`"90s"` → 90 seconds. Raises ValueError, with what a duration looks like, on anything else."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a duration: it takes {EXPECTED}")
    milliseconds = float(match[1]) * _UNITS_MS[match[2]]
    return timedelta(milliseconds=round(milliseconds))


def format_duration(duration: timedelta) -> str:
    """The one spelling of a duration: the largest unit that divides it, so that `60s` and `1m` are both `1m`."""
    milliseconds = round(duration / timedelta(milliseconds=1))
    for unit in ("d", "h", "m", "s"):
        if milliseconds and milliseconds % _UNITS_MS[unit] == 0:
            return f"{milliseconds // _UNITS_MS[unit]}{unit}"
    return f"{milliseconds}ms"
