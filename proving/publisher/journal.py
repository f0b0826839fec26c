"""The publisher's log: one JSON line a record, in the order of publication."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

from proving.publisher.encoding import content_sha256
from proving.publisher.events import Intended


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """One record as it was sent. `partition` and `offset` as the broker confirmed them; null: nobody confirmed it, so
    it may be there or not. `metrics`: names and amounts as decimal strings. `platforms`: null is all of them."""

    n: int
    at: str
    kind: str
    topic: str
    partition: int | None
    offset: int | None
    key: str | None
    value_sha256: str | None
    encoding: str | None = None
    event_id: str | None = None
    company: str | None = None
    label: str | None = None
    content_sha256: str | None = None
    metrics: list[tuple[str, str]] = []
    platforms: list[str] | None = None

    @property
    def place(self) -> tuple[str, int, int] | None:
        if self.partition is None or self.offset is None:
            return None
        return self.topic, self.partition, self.offset


def entry(
    number: int, topic: str, what: Intended, value: bytes | None, encoding: str | None, confirmed: Any | None
) -> Published:
    """`confirmed`: the broker's answer, with its `partition` and `offset`."""
    event = what.event
    return Published(
        n=number,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        kind=what.kind,
        topic=topic,
        partition=None if confirmed is None else confirmed.partition,
        offset=None if confirmed is None else confirmed.offset,
        key=str(what.company_id),
        value_sha256=None if value is None else sha256(value).hexdigest(),
        encoding=encoding,
        event_id=None if event is None else str(event.event_id),
        company=None if event is None else str(event.company_id),
        label=None if event is None else event.label,
        content_sha256=None if event is None else content_sha256(event),
        metrics=[] if event is None else [(metric.name, format(metric.value, "f")) for metric in event.metrics],
        platforms=None if event is None or event.platforms is None else list(event.platforms),
    )
