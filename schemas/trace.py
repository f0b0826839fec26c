"""W3C trace context: enough of it to carry a trace through records and rows (https://www.w3.org/TR/trace-context/)."""

import os
import re

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


def valid_traceparent(text: str | None) -> str | None:
    """The text where it is a well-formed version-00 traceparent, else None."""
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


def new_traceparent() -> str:
    """A fresh sampled trace, for a record that came without one."""
    random = os.urandom(24).hex()
    return f"00-{random[:32]}-{random[32:]}-01"


def child_of(traceparent: str) -> str:
    """The same trace with a new span id, for the next step of the way."""
    return f"{traceparent[:36]}{os.urandom(8).hex()}{traceparent[52:]}"


def trace_id(traceparent: str) -> str:
    """32 hex digits."""
    return traceparent[3:35]
