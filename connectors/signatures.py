"""HMAC-SHA256 signatures, ours and the platforms' (contract, section 5).

A webhook carries exactly one signature, in exactly one header: its platform's own, or `webhook-signature` of Standard
Webhooks (https://www.standardwebhooks.com). Two are refused, not tried in turn: which of them was meant would be the
sender's choice, and so an attacker's. Every accepted secret is tried, without stopping at the first that fits, and
compared in constant time; the time is looked at only once the signature is right.

Reasons of a rejection: `no_secret`, `missing`, `ambiguous` (two of a header), `malformed`, `mismatch`, `expired`.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec

from connectors.contract import SignatureRejected

TOLERANCE_SECONDS = 300
_STANDARD_PREFIX = "whsec_"

# Unix times have few digits, and no `nan`, `inf` or non-ASCII digits get past these.
_UNIX = re.compile(r"[0-9]{1,15}")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2})")
_HEX = re.compile(r"sha256=([0-9a-fA-F]{64})")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{43}=")
_ID = re.compile(r"[!-~]{1,256}")
_MOST_STANDARD_SIGNATURES = 16

ID = "webhook-id"
TIMESTAMP = "webhook-timestamp"
SIGNATURE = "webhook-signature"


def secret_key(text: str) -> bytes:
    """A secret as written in settings → the HMAC key: its UTF-8 bytes, or the base64-decoded rest after `whsec_`.

    Raises ValueError, quoting nothing, where it is empty or no base64.
    """
    if text.startswith(_STANDARD_PREFIX):
        rest = text.removeprefix(_STANDARD_PREFIX)
        try:
            key = base64.b64decode(rest + "=" * (-len(rest) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("a secret that starts with whsec_ must go on in base64") from None
    else:
        try:
            key = text.encode()
        except UnicodeEncodeError:
            raise ValueError("a secret must be UTF-8 text") from None
    if not key:
        raise ValueError("a secret must not be empty")
    return key


def sign(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 over the parts, one after another."""
    return hmac.digest(key, b"".join(parts), "sha256")


class Claim(msgspec.Struct, frozen=True):
    """What a signature header claims: these bytes are signed, at this time (unix seconds) where there is one."""

    signed: bytes
    signatures: tuple[bytes, ...]
    at: float | None = None


class Headers:
    """The headers of one webhook, by lower-case name; every one that is used must be there once only."""

    def __init__(self, headers: Sequence[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in headers:
            self._values.setdefault(name.lower(), []).append(value.strip(" \t"))

    def count(self, name: str) -> int:
        return len(self._values.get(name, ()))

    def optional(self, name: str) -> str | None:
        """Raises SignatureRejected where there are two."""
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise SignatureRejected("ambiguous")
        return values[0]

    def required(self, name: str) -> str:
        value = self.optional(name)
        if not value:
            raise SignatureRejected("missing")
        return value


ReadClaim = Callable[[Headers, str, bytes], Claim]
"""A platform's own form: its headers, the signature header's value, the raw body → what it claims."""


def verify(
    headers: Sequence[tuple[str, str]],
    raw: bytes,
    secrets: Sequence[bytes],
    now: float,
    forms: Mapping[str, ReadClaim],
) -> None:
    """`forms`: the platform's signature headers (lower case) and how each is read; Standard Webhooks is added.

    Raises SignatureRejected, and nothing else, unless the one signature is right under one secret and in time.
    """
    keys = [key for key in secrets if key]  # under an empty key anybody can sign
    if not keys:
        raise SignatureRejected("no_secret")
    found = Headers(headers)
    names = [name for name in (*forms, SIGNATURE) for _ in range(found.count(name))]
    if len(names) != 1:
        raise SignatureRejected("ambiguous" if names else "missing")
    value = found.required(names[0])
    claim = (standard_claim if names[0] == SIGNATURE else forms[names[0]])(found, value, raw)
    right = False
    for key in keys:
        expected = sign(key, claim.signed)
        for signature in claim.signatures:
            right |= hmac.compare_digest(expected, signature)
    if not right:
        raise SignatureRejected("mismatch")
    if claim.at is not None and not abs(now - claim.at) <= TOLERANCE_SECONDS:  # a NaN is out of time too
        raise SignatureRejected("expired")


def standard_claim(headers: Headers, value: str, raw: bytes) -> Claim:
    """`webhook-signature: v1,{base64} …` over `{id}.{timestamp}.{body}`; other versions beside v1 are passed over."""
    identity = headers.required(ID)
    moment = headers.required(TIMESTAMP)
    if not _ID.fullmatch(identity):
        raise SignatureRejected("malformed")
    tokens = value.split(" ")
    signatures = tuple(from_base64(token[3:]) for token in tokens if token.startswith("v1,"))
    if not signatures or len(tokens) > _MOST_STANDARD_SIGNATURES:
        raise SignatureRejected("malformed")
    return Claim(f"{identity}.{moment}.".encode("ascii", "replace") + raw, signatures, unix_time(moment))


def from_hex(value: str) -> bytes:
    """`sha256={hex}` → 32 bytes."""
    match = _HEX.fullmatch(value)
    if match is None:
        raise SignatureRejected("malformed")
    return bytes.fromhex(match[1])


def from_base64(value: str) -> bytes:
    """Standard base64 of 32 bytes."""
    if not _BASE64.fullmatch(value):
        raise SignatureRejected("malformed")
    return base64.b64decode(value)


def unix_time(value: str) -> float:
    if not _UNIX.fullmatch(value):
        raise SignatureRejected("malformed")
    return float(int(value))


def iso_time(value: str) -> float:
    """ISO 8601 with a zone: without one nobody knows when it was."""
    if not _ISO.fullmatch(value):
        raise SignatureRejected("malformed")
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError):
        raise SignatureRejected("malformed") from None


def timestamped_header(key: bytes, body: bytes, now: int) -> str:
    """`t={unix},v1={hex}` over `{t}.{body}`: what an outgoing body carries where a signature secret is set."""
    return f"t={now},v1={sign(key, str(now).encode(), b'.', body).hex()}"
