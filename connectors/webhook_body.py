"""What the platforms' webhook bodies share: a body is read whole, checked by field, and no error quotes it."""

import re
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from connectors.contract import WebhookBodyError

MAX_MESSAGE_BYTES = 1024
MAX_ID = 255

_T = TypeVar("_T")
_MISSING = re.compile(r"missing required field `([A-Za-z_]{1,64})`")
_AT = re.compile(r" - at `\$\.([A-Za-z_]{1,64})")


def read(decoder: msgspec.json.Decoder[_T], raw: bytes) -> _T:
    """Raises WebhookBodyError that names the field at fault, where there is one."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        text = str(error)
        if found := _MISSING.search(text):
            raise WebhookBodyError(f"{found[1]} is missing") from None
        found = _AT.search(text)
        raise WebhookBodyError(f"{found[1]} does not fit" if found else "the body is not the object expected") from None
    except (ValueError, RecursionError):  # msgspec's DecodeError and bad UTF-8 are ValueErrors
        raise WebhookBodyError("the body is no JSON that can be read") from None


def identity(value: str | int | None, name: str) -> str | None:
    """An id of the platform's, as text; None stays None."""
    if value is None:
        return None
    text = str(value)
    if not 0 < len(text) <= MAX_ID or not text.isprintable():
        raise WebhookBodyError(f"{name} must be printable text of 1 to {MAX_ID} characters")
    return text


def moment(text: str) -> datetime:
    """RFC 3339 → UTC; a time without a zone is taken as UTC."""
    try:
        found = msgspec.convert(text, datetime)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise WebhookBodyError("timestamp must be an RFC 3339 time") from None


def message(text: str | None) -> str | None:
    """The platform's words: printable, at most 1 KiB; nothing left is None."""
    if not text:
        return None
    text = "".join(c if c.isprintable() else " " for c in text[:MAX_MESSAGE_BYTES])
    return text.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore").strip() or None
