"""Exact amounts and times in the platforms' JSON bodies.

Amounts are JSON numbers that read back as the exact decimal: integer arithmetic on ten-thousandths, no float between,
no exponent, no trailing zeros. `msgspec` copies a `Raw` into the body as it stands, so nothing re-formats them.
"""

from datetime import UTC, datetime

import msgspec

from schemas.event import SCALE, ImpactMetricEvent, to_unscaled

encode = msgspec.json.Encoder().encode


def number(unscaled: int, scale: int = SCALE) -> msgspec.Raw:
    """`unscaled` ÷ 10^scale (not negative) as a JSON number: (12500, 4) → `1.25`."""
    whole, rest = divmod(unscaled, 10**scale)
    text = f"{whole}.{rest:0{scale}d}".rstrip("0") if rest else str(whole)
    return msgspec.Raw(text.encode())


def timestamp(event: ImpactMetricEvent) -> str:
    """`occurred_at` as RFC 3339 in UTC with milliseconds: `2026-01-31T12:00:00.000Z`."""
    moment: datetime = event.occurred_at
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


__all__ = ["encode", "number", "timestamp", "to_unscaled"]
