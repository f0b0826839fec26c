"""Benevity's webhooks (contract, section 5).

`X-Benevity-Signature: t={unix},v1={hex}` over `{t}.{body}`, or `sha256={hex}` over `{body}`. The event type decides;
`status` has to be there and is not interpreted.
"""

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from connectors import signatures, webhook_body
from connectors.contract import PlatformStatus, SignatureRejected, StatusReport

_TIMESTAMPED = re.compile(r"t=([0-9]{1,15}),v1=([0-9a-fA-F]{64})")
_STATUS = {
    "delivery.success": PlatformStatus.CONFIRMED,
    "delivery.failed": PlatformStatus.REJECTED,
    "delivery.retry": None,
}


class _Body(msgspec.Struct):
    event_type: Literal["delivery.success", "delivery.failed", "delivery.retry"]
    transaction_id: str | int
    organization_id: str | int
    status: str
    timestamp: str
    error_message: str | None = None


_decoder = msgspec.json.Decoder(_Body)


def _claim(headers: signatures.Headers, value: str, raw: bytes) -> signatures.Claim:
    if value.startswith("sha256="):
        return signatures.Claim(raw, (signatures.from_hex(value),))
    match = _TIMESTAMPED.fullmatch(value)
    if match is None:
        raise SignatureRejected("malformed")
    return signatures.Claim(match[1].encode() + b"." + raw, (bytes.fromhex(match[2]),), signatures.unix_time(match[1]))


_FORMS = {"x-benevity-signature": _claim}


class BenevityWebhook:
    def verify(self, headers: Sequence[tuple[str, str]], raw: bytes, secrets: Sequence[bytes], now: float) -> None:
        signatures.verify(headers, raw, secrets, now, _FORMS)

    def parse(self, raw: bytes) -> StatusReport:
        body = webhook_body.read(_decoder, raw)
        return StatusReport(
            event_type=body.event_type,
            status=_STATUS[body.event_type],
            transaction_id=webhook_body.identity(body.transaction_id, "transaction_id"),
            organization_id=webhook_body.identity(body.organization_id, "organization_id"),
            error_message=webhook_body.message(body.error_message),
            occurred_at=webhook_body.moment(body.timestamp),
        )
