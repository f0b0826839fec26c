"""Goodera's webhooks (contract, section 5).

`X-Goodera-Signature: sha256={hex}` over `{ts}.{body}` where `X-Goodera-Request-Timestamp: {unix}` is there, else over
`{body}`. The event type decides; `status` has to be there and is not interpreted.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from connectors import signatures, webhook_body
from connectors.contract import PlatformStatus, StatusReport

_TIMESTAMP = "x-goodera-request-timestamp"
_STATUS = {
    "data.received": PlatformStatus.RECEIVED,
    "data.processed": PlatformStatus.CONFIRMED,
    "data.failed": PlatformStatus.REJECTED,
}


class _Body(msgspec.Struct, rename="camel"):
    event_type: Literal["data.received", "data.processed", "data.failed"]
    transaction_id: str | int
    project_id: str | int
    status: str
    timestamp: str
    records_processed: Any = None
    error: str | None = None


_decoder = msgspec.json.Decoder(_Body)


def _claim(headers: signatures.Headers, value: str, raw: bytes) -> signatures.Claim:
    signature = signatures.from_hex(value)
    moment = headers.optional(_TIMESTAMP)
    if moment is None:
        return signatures.Claim(raw, (signature,))
    at = signatures.unix_time(moment)
    return signatures.Claim(moment.encode() + b"." + raw, (signature,), at)


_FORMS = {"x-goodera-signature": _claim}


class GooderaWebhook:
    def verify(self, headers: Sequence[tuple[str, str]], raw: bytes, secrets: Sequence[bytes], now: float) -> None:
        signatures.verify(headers, raw, secrets, now, _FORMS)

    def parse(self, raw: bytes) -> StatusReport:
        body = webhook_body.read(_decoder, raw)
        webhook_body.identity(body.project_id, "projectId")
        return StatusReport(
            event_type=body.event_type,
            status=_STATUS[body.event_type],
            transaction_id=webhook_body.identity(body.transaction_id, "transactionId"),
            error_message=webhook_body.message(body.error),
            occurred_at=webhook_body.moment(body.timestamp),
        )
