"""What a platform says in free text, made fit for tables, topics and logs.

A platform may quote our request back at us: a credential from a header, a name or an amount from the body. Neither
may leave through an error text (guarantees, E12). So every run of eight characters or more that the text shares with
a credential or with the event, every shorter one of their texts, and every number that is one of the event's amounts
is replaced, whatever the case of its letters; what is left is printable and at most 1 KiB. Runs, not whole texts,
because platforms cut what they quote.
"""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from urllib.parse import quote, quote_plus

from schemas.event import ImpactMetricEvent

MAX_MESSAGE_BYTES = 1024
HIDDEN = "…"

_RUN = 8
_SHORTEST_CONTENT = 3
_LOOKED_AT = 2 * MAX_MESSAGE_BYTES
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}  # keeps lengths, unlike str.lower
_NUMBER = re.compile(r"\d{1,30}(?:\.\d{1,30})?", re.ASCII)


def credential_texts(*credentials: str | None) -> tuple[str, ...]:
    """The credentials, also as they look in a form body or an address."""
    found = {text for text in credentials if text}
    return tuple(found | {quote(text, safe="") for text in found} | {quote_plus(text) for text in found})


def redacted(text: str, credentials: Iterable[str], events: Iterable[ImpactMetricEvent]) -> str:
    """The text without credentials and content, printable, at most 1 KiB of UTF-8."""
    text = "".join(c if c.isprintable() else " " for c in text[:_LOOKED_AT])
    lower = text.translate(_LOWER)
    hidden = bytearray(len(text))
    runs: dict[str, list[int]] = {}
    for start in range(len(lower) - _RUN + 1):
        runs.setdefault(lower[start : start + _RUN], []).append(start)
    amounts: set[Decimal] = set()
    events = list(events)
    for needle in credentials:
        _mark(needle.translate(_LOWER), lower, runs, hidden)
    for event in events:
        for needle in _content(event):
            if len(needle) >= _SHORTEST_CONTENT:
                _mark(needle.translate(_LOWER), lower, runs, hidden)
        for entry in event.metrics:
            amounts.update((entry.value, entry.value * Decimal("1.5"), entry.value * 100))
    for match in _NUMBER.finditer(text):
        if Decimal(match[0]) in amounts:
            hidden[match.start() : match.end()] = b"\1" * (match.end() - match.start())
    kept = "".join(_without(text, hidden))
    return kept.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore").strip()


def _content(event: ImpactMetricEvent) -> Iterator[str]:
    yield event.program_id
    yield event.program_name
    yield event.program_description or ""
    yield event.correlation_id or ""
    yield event.source
    yield from event.metadata
    yield from event.metadata.values()
    for entry in event.metrics:
        yield entry.metric
        yield entry.unit
        yield entry.category or ""
        yield entry.description or ""


def _mark(needle: str, lower: str, runs: dict[str, list[int]], hidden: bytearray) -> None:
    if len(needle) < _RUN:
        start = lower.find(needle)
        while start >= 0:
            hidden[start : start + len(needle)] = b"\1" * len(needle)
            start = lower.find(needle, start + 1)
        return
    if not runs:
        return
    for start in range(len(needle) - _RUN + 1):
        for found in runs.get(needle[start : start + _RUN], ()):
            hidden[found : found + _RUN] = b"\1" * _RUN


def _without(text: str, hidden: bytearray) -> Iterator[str]:
    before = 0
    for character, mark in zip(text, hidden, strict=True):
        if not mark:
            yield character
        elif not before:
            yield HIDDEN
        before = mark
