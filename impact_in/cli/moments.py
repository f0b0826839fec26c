# ruff: noqa: PLC0415 - imports stand in the functions, so that --help need not wait for them
"""Moments as people write them: RFC 3339, a day, or how long ago."""

from datetime import UTC, datetime

from impact_in.cli.ending import UsageError

TAKES = "a time such as 2026-01-31T12:00:00Z, a day (from 00:00 UTC), or how long ago: 90m, 24h, 7d"


def parse_moment(text: str | None, option: str, now: datetime) -> datetime | None:
    """Raises UsageError naming the option."""
    if text is None:
        return None
    from schemas.durations import parse_duration

    try:
        return now - parse_duration(text)
    except OverflowError:
        raise UsageError(f"{option} takes {TAKES}") from None
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"{option} takes {TAKES}") from None
    if moment.tzinfo is None:
        if len(text.strip()) > len("2026-01-31"):  # a time of day without a zone could be anywhere
            raise UsageError(f"{option} takes {TAKES}")
        moment = moment.replace(tzinfo=UTC)
    return moment
