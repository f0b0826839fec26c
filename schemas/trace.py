"""W3C trace context: enough of it to carry a trace through records and rows (https://www.w3.org/TR/trace-context/)."""

import os
import random
import re

# Ids are no secrets: a generator that the system seeds once is spared thousands of calls into it a second.
_chance = random.Random(os.urandom(32))  # noqa: S311
os.register_at_fork(after_in_child=lambda: _chance.seed(os.urandom(32)))

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


def valid_traceparent(text: str | None) -> str | None:
    """The text where it is a well-formed version-00 traceparent, else None."""
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


def new_traceparent() -> str:
    """A fresh sampled trace, for a record that came without one."""
    return f"00-{_chance.getrandbits(128) or 1:032x}-{_chance.getrandbits(64) or 1:016x}-01"


def child_of(traceparent: str) -> str:
    """The same trace with a new span id, for the next step of the way."""
    return f"{traceparent[:36]}{_chance.getrandbits(64) or 1:016x}{traceparent[52:]}"


def trace_id(traceparent: str) -> str:
    """32 hex digits."""
    return traceparent[3:35]
