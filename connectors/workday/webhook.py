"""Workday's webhooks (contract, section 5).

`X-Workday-Signature: {base64}`, which needs `X-Workday-Request-Timestamp: {iso 8601}`, or `sha256={hex}`; signed are
`{iso}:{body}` where that header is there, else `{body}`. `status` decides. A body names a transaction, an activity or
an enrolment; one at least has to be there, or nothing could be linked to it.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from connectors import signatures, webhook_body
from connectors.contract import PlatformStatus, SignatureRejected, StatusReport, WebhookBodyError

_TIMESTAMP = "x-workday-request-timestamp"


class _Body(msgspec.Struct, rename="camel"):
    event_type: Literal["activity.created", "activity.updated", "enrollment.confirmed"]
    status: Literal["success", "error"]
    timestamp: str
    activity_id: str | int | None = None
    enrollment_id: str | int | None = None
    transaction_id: str | int | None = None
    message: str | None = None


_decoder = msgspec.json.Decoder(_Body)


def _claim(headers: signatures.Headers, value: str, raw: bytes) -> signatures.Claim:
    moment = headers.optional(_TIMESTAMP)
    if value.startswith("sha256="):
        signature = signatures.from_hex(value)
    else:
        signature = signatures.from_base64(value)
        if moment is None:
            raise SignatureRejected("missing")
    if moment is None:
        return signatures.Claim(raw, (signature,))
    at = signatures.iso_time(moment)
    return signatures.Claim(moment.encode() + b":" + raw, (signature,), at)


_FORMS = {"x-workday-signature": _claim}


class WorkdayWebhook:
    def verify(self, headers: Sequence[tuple[str, str]], raw: bytes, secrets: Sequence[bytes], now: float) -> None:
        signatures.verify(headers, raw, secrets, now, _FORMS)

    def parse(self, raw: bytes) -> StatusReport:
        body = webhook_body.read(_decoder, raw)
        transaction = webhook_body.identity(body.transaction_id, "transactionId")
        activity = webhook_body.identity(body.activity_id, "activityId")
        enrollment = webhook_body.identity(body.enrollment_id, "enrollmentId")
        if transaction is None and activity is None and enrollment is None:
            raise WebhookBodyError("transactionId, activityId or enrollmentId is missing")
        return StatusReport(
            event_type=body.event_type,
            status=PlatformStatus.CONFIRMED if body.status == "success" else PlatformStatus.REJECTED,
            transaction_id=transaction,
            activity_id=activity if activity is not None else enrollment,
            error_message=webhook_body.message(body.message),
            occurred_at=webhook_body.moment(body.timestamp),
        )
