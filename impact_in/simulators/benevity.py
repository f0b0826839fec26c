"""Benevity, as contract section 4 describes it."""

import time
from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from aiohttp import web

from impact_in.simulators.checks import (
    Wrong,
    amount,
    common_headers,
    document,
    fields,
    many,
    moment,
    period,
    same,
    text,
)
from impact_in.simulators.contract import Handler, Record, Refusal, Submission, rfc3339
from impact_in.simulators.quotas import Limit
from impact_in.simulators.webhooks import hex_signature

DEFAULT_API_KEY = "simulated-benevity-key"
_UNITS = {"volunteer_hours": "hours", "participant_count": "count", "program_participation": "count"}
_SCORES = {"integration": ("score", 1), "language": ("level", 10), "job_readiness": ("score", 1)}
# Metrics that have a place of their own, or none: they may not arrive as an outcome under their event name.
_NOT_OUTCOMES = frozenset(
    ("volunteer_hours", "participants", "volunteers", "sessions", "integration_score", "language_level")
)
_BODY = frozenset(("organizationId", "programId", "reportingPeriod", "metrics", "programName", "timestamp"))
_METRIC = frozenset(("metricType", "metricValue", "metricUnit"))


class Benevity:
    name = "benevity"
    submit_paths: tuple[str, ...] = ("/v1/impact",)
    limits: tuple[Limit, ...] = (Limit(100, 60), Limit(10_000, 86_400))
    bad_content = "INVALID_METRIC"
    duplicate: Refusal | None = None
    refuses_records = False

    def __init__(self, api_key: str = DEFAULT_API_KEY, signature_secret: bytes | None = None) -> None:
        self._api_key, self._signature_secret = api_key, signature_secret

    def environment(self, url: str) -> dict[str, str]:
        known = {"BENEVITY_API_KEY": DEFAULT_API_KEY} if self._api_key == DEFAULT_API_KEY else {}
        return {"BENEVITY_WEBHOOK_URL": f"{url}/v1/impact", **known}

    def extra_routes(self) -> list[tuple[str, str, Handler]]:
        return [("GET", "/v1/health", self._health)]

    def authenticate(self, headers: Mapping[str, str], raw: bytes) -> Refusal | None:
        if not same(headers.get("Authorization", ""), f"Bearer {self._api_key}"):
            return Refusal(401, "AUTH_INVALID", "The API key is not valid")
        if self._signature_secret is not None and not self._signed(
            headers.get("X-Benevity-Signature", ""), raw, self._signature_secret
        ):
            return Refusal(401, "AUTH_INVALID", "The body's signature is not valid")
        return None

    def read(self, path: str, headers: Mapping[str, str], raw: bytes) -> Submission:
        common_headers(headers, api_version="1.0")
        body = fields(document(raw), "body", _BODY, frozenset(("programDescription",)))
        organization = text(body["organizationId"], "organizationId")
        program = text(body["programId"], "programId")
        period(body["reportingPeriod"], "reportingPeriod", "startDate", "endDate")
        text(body["programName"], "programName", empty=True)
        if "programDescription" in body:
            text(body["programDescription"], "programDescription", empty=True)
        moment(body["timestamp"], "timestamp")
        amounts = tuple(
            _metric(entry, f"metrics[{index}]")
            for index, entry in enumerate(many(body["metrics"], "metrics", most=100))
        )
        return Submission((Record(organization, (program,), amounts, body),))

    def revoke_tokens(self) -> None:
        return None

    def counters(self) -> dict[str, int]:
        return {}

    def quota_scope(self, submission: Submission) -> str:
        return submission.records[0].organization

    def transaction_prefix(self, submission: Submission) -> str:
        return "BNV"

    def accepted(self, submission: Submission, failed: Collection[int], transaction: str) -> dict[str, Any]:
        return {
            "success": True,
            "transactionId": transaction,
            "message": "Impact data received",
            "processedAt": rfc3339(),
        }

    def error(self, refusal: Refusal) -> dict[str, Any]:
        code = {"errorCode": refusal.code} if refusal.code else {}
        return {"success": False, "error": refusal.message, **code, "timestamp": rfc3339()}

    def refusals(self) -> tuple[Refusal, ...]:
        return (
            Refusal(422, "INVALID_METRIC", "A metric is not valid for this program"),
            Refusal(404, "ORG_NOT_FOUND", "The organization is not known"),
        )

    def statuses(
        self, submission: Submission, failed: Collection[int], transaction: str, *, rejected: bool
    ) -> list[dict[str, Any]]:
        body = {
            "event_type": "delivery.failed" if rejected else "delivery.success",
            "transaction_id": transaction,
            "organization_id": submission.records[0].organization,
            "status": "failed" if rejected else "success",
            "timestamp": rfc3339(),
        }
        return [{**body, "error_message": "Rejected on review"} if rejected else body]

    def sign(self, form: str, key: bytes, body: bytes, now: datetime) -> dict[str, str]:
        if form == "plain":
            return {"X-Benevity-Signature": f"sha256={hex_signature(key, body)}"}
        unix = int(now.timestamp())
        return {"X-Benevity-Signature": f"t={unix},v1={hex_signature(key, f'{unix}.'.encode() + body)}"}

    async def _health(self, request: web.Request) -> web.Response:
        if not same(request.headers.get("Authorization", ""), f"Bearer {self._api_key}"):
            return web.json_response(self.error(Refusal(401, "AUTH_INVALID", "The API key is not valid")), status=401)
        return web.json_response({"status": "healthy"})

    @staticmethod
    def _signed(signature: str, raw: bytes, key: bytes) -> bool:
        """`t={unix},v1={hex}` over `{t}.{body}`, or `sha256={hex}` over the body, as for its webhooks."""
        if signature.startswith("sha256="):
            return same(signature.removeprefix("sha256="), hex_signature(key, raw))
        parts = dict(part.strip().partition("=")[::2] for part in signature.split(","))
        stamp = parts.get("t", "")
        if not (stamp.isascii() and stamp.isdigit()) or abs(time.time() - int(stamp[:12])) > 300:
            return False
        return same(parts.get("v1", ""), hex_signature(key, f"{stamp}.".encode() + raw))


def _metric(value: Any, where: str) -> tuple[str, Decimal]:
    entry = fields(value, where, _METRIC, frozenset(("category", "description")))
    kind, unit = text(entry["metricType"], f"{where}.metricType"), entry["metricUnit"]
    if "description" in entry:
        text(entry["description"], f"{where}.description", empty=True)
    if kind in _UNITS:
        if unit != _UNITS[kind]:
            raise Wrong(f"{where}.metricUnit: {_UNITS[kind]} is expected of {kind}")
        if "category" in entry:
            text(entry["category"], f"{where}.category", empty=True)
        return kind, amount(entry["metricValue"], f"{where}.metricValue")
    if kind != "outcome_score":
        raise Wrong(f"{where}.metricType: {', '.join(sorted(_UNITS))} or outcome_score is expected")
    category = text(entry.get("category"), f"{where}.category")
    if category in _NOT_OUTCOMES:
        raise Wrong(f"{where}.category: {category} is not sent as an outcome")
    most = None
    if category in _SCORES:
        expected, most = _SCORES[category]
        if unit != expected:
            raise Wrong(f"{where}.metricUnit: {expected} is expected of {category}")
    else:
        text(unit, f"{where}.metricUnit", empty=True)
    return f"outcome_score/{category}", amount(entry["metricValue"], f"{where}.metricValue", most=most)
