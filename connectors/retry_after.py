"""`Retry-After` (RFC 9110, section 10.2.3): seconds, or an HTTP date, read for the contract's section 4."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MOST_SECONDS = 3600.0
_SECONDS = re.compile(r"[0-9]{1,100}(?:\.[0-9]{1,20})?")


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds to wait, 0 to 3600; None where the header is missing, negative, in the past or garbage.

    A date counts from the answer's own `Date`, so that the platform's clock need not agree with ours; without one
    from `now` (unix seconds; the clock's where None).
    """
    text = headers.get("Retry-After")
    if text is None:
        return None
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), MOST_SECONDS)
    until = _moment(text)
    if until is None:
        return None
    since = _moment(headers.get("Date", ""))
    seconds = until - (since if since is not None else time.time() if now is None else now)
    return min(seconds, MOST_SECONDS) if seconds >= 0 else None


def _moment(text: str) -> float | None:
    try:
        moment: datetime = parsedate_to_datetime(text)
        # `-0000` and asctime dates come back naive; HTTP dates are GMT.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
