"""The vocabulary in which a platform says what it takes. Every check raises Wrong with a reason."""

import hmac
import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from impact_in.simulators import exact_json

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_DIGITS = 18  # the event's decimal(18,4), contract section 3


class Wrong(Exception):
    """A request that breaks the contract. `code` is the platform's; None: its usual one for bad content."""

    def __init__(self, reason: str, *, status: int = 422, code: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.status, self.code = reason, status, code


def same(given: str, expected: str) -> bool:
    """Whether a credential is the right one, in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode("utf-8"))


def common_headers(headers: Mapping[str, str], *, api_version: str | None) -> None:
    """What section 4 asks of every request, whatever the platform."""
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise Wrong("Content-Type: application/json is expected", status=400)
    if api_version is not None and headers.get("X-API-Version") != api_version:
        raise Wrong(f"X-API-Version: {api_version} is expected", status=400)
    if not _KEY.fullmatch(headers.get("Idempotency-Key", "")):
        raise Wrong("Idempotency-Key: 1 to 255 visible ASCII characters are expected", status=400)
    traceparent = headers.get("traceparent")
    if traceparent is not None and not _TRACEPARENT.fullmatch(traceparent):
        raise Wrong("traceparent: not well-formed (W3C Trace Context, version 00)", status=400)


def document(raw: bytes) -> Any:
    try:
        return exact_json.loads(raw)
    except exact_json.NotJson as error:
        raise Wrong(f"body: {error}", status=400) from None


def fields(value: Any, where: str, required: frozenset[str], optional: frozenset[str] = frozenset()) -> dict[str, Any]:
    """An object with all of `required` and nothing beyond `optional`; absent is not the same as null."""
    if type(value) is not dict:
        raise Wrong(f"{where}: an object is expected", status=400)
    found = value.keys()
    if not required <= found:
        raise Wrong(f"{where}: {', '.join(sorted(required - found))} missing", status=400)
    if not found <= required | optional:
        strange = ascii(sorted(found - required - optional)[0])
        raise Wrong(f"{where}: {strange:.80} is no field of the format", status=400)
    return value


def many(value: Any, where: str, *, least: int = 1, most: int = 1000) -> list[Any]:
    if type(value) is not list:
        raise Wrong(f"{where}: an array is expected", status=400)
    if not least <= len(value) <= most:
        raise Wrong(f"{where}: {least} to {most} entries are expected", status=400)
    return value


def text(value: Any, where: str, *, empty: bool = False) -> str:
    if type(value) is not str or not (value or empty):
        raise Wrong(f"{where}: {'a' if empty else 'a non-empty'} string is expected", status=400)
    return value


def one_of(value: Any, where: str, allowed: frozenset[str]) -> str:
    if type(value) is not str or value not in allowed:
        raise Wrong(f"{where}: one of {', '.join(sorted(allowed))} is expected")
    return value


def amount(value: Any, where: str, *, scale: int = 4, most: int | None = None) -> Decimal:
    """A JSON number, not negative, exact at `scale` decimals; so it can be added up without rounding."""
    if type(value) is int:
        value = Decimal(value)
    if type(value) is not Decimal:
        raise Wrong(f"{where}: a JSON number is expected")
    if value < 0:
        raise Wrong(f"{where}: may not be negative")
    if value and value.adjusted() >= _DIGITS:
        raise Wrong(f"{where}: too large")
    if _decimals(value) > scale:
        raise Wrong(f"{where}: more than {scale} decimals")
    if most is not None and value > most:
        raise Wrong(f"{where}: more than {most}")
    return value


def day(value: Any, where: str) -> date:
    if type(value) is str and _DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise Wrong(f"{where}: a date YYYY-MM-DD is expected", status=400)


def period(value: Any, where: str, first: str, last: str) -> tuple[date, date]:
    found = fields(value, where, frozenset((first, last)))
    start, end = day(found[first], f"{where}.{first}"), day(found[last], f"{where}.{last}")
    if end < start:
        raise Wrong(f"{where}: ends before it starts")
    return start, end


def moment(value: Any, where: str) -> None:
    if type(value) is str and _MOMENT.fullmatch(value):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return
    raise Wrong(f"{where}: an RFC 3339 time is expected", status=400)


def _decimals(value: Decimal) -> int:
    """Decimals that matter: 1.50 has one. Looks at the digits, so that 1e-999999 costs nothing."""
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # JSON knows no NaN and no infinity
    if not value or exponent >= 0:
        return 0
    trailing = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return max(0, -exponent - trailing)
