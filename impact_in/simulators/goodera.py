"""Goodera, as contract section 4 describes it: single records, and batches of 1 to 100."""

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

DEFAULT_API_KEY = "simulated-goodera-key"
_BATCH_SIZE = 100
_SINGLE, _BATCH = "/v1/impact-data", "/v1/impact-data/batch"
_UNITS: dict[str, tuple[str, int | None]] = {
    "volunteer_engagement": ("volunteers", None),
    "volunteer_hours": ("hours", None),
    "program_reach": ("participants", None),
    "session_count": ("sessions", None),
    "integration_outcome": ("percentage", 100),
    "language_proficiency": ("level_0_10", 10),
    "employability": ("percentage", 100),
}
# Event names of metrics that have a dimension of their own: they may not arrive unmapped.
_UNMAPPED = frozenset(
    ("participants", "volunteers", "sessions", "integration_score", "language_level", "job_readiness")
)
_RECORD = frozenset(("projectId", "organizationId", "reportingPeriod", "impactDimensions", "metadata"))
_DIMENSION = frozenset(("dimensionId", "dimensionName", "value", "unit"))


class Goodera:
    name = "goodera"
    submit_paths: tuple[str, ...] = (_SINGLE, _BATCH)
    limits: tuple[Limit, ...] = (Limit(100, 60),)
    bad_content = "DIMENSION_INVALID"
    duplicate: Refusal | None = None
    refuses_records = True

    def __init__(self, api_key: str = DEFAULT_API_KEY) -> None:
        self._api_key = api_key

    def environment(self, url: str) -> dict[str, str]:
        known = {"GOODERA_API_KEY": DEFAULT_API_KEY} if self._api_key == DEFAULT_API_KEY else {}
        return {"GOODERA_API_URL": f"{url}/v1", **known}

    def extra_routes(self) -> list[tuple[str, str, Handler]]:
        return [("GET", "/v1/health", self._health)]

    def authenticate(self, headers: Mapping[str, str], raw: bytes) -> Refusal | None:
        if same(headers.get("X-API-Key", ""), self._api_key):
            return None
        return Refusal(401, "AUTH_INVALID", "The API key is not valid")

    def read(self, path: str, headers: Mapping[str, str], raw: bytes) -> Submission:
        common_headers(headers, api_version="1.0")
        body = document(raw)
        if path == _SINGLE:
            return Submission((_record(body, "body"),))
        records = fields(body, "body", frozenset(("records",)))["records"]
        if type(records) is list and not 1 <= len(records) <= _BATCH_SIZE:
            raise Wrong("records: 1 to 100 are expected", status=400, code="BATCH_SIZE_EXCEEDED")
        return Submission(
            tuple(_record(entry, f"records[{index}]") for index, entry in enumerate(many(records, "records"))),
            batch=True,
        )

    def revoke_tokens(self) -> None:
        return None

    def counters(self) -> dict[str, int]:
        return {}

    def quota_scope(self, submission: Submission) -> str:
        return "account"

    def transaction_prefix(self, submission: Submission) -> str:
        return "GDB" if submission.batch else "GDR"

    def accepted(self, submission: Submission, failed: Collection[int], transaction: str) -> dict[str, Any]:
        taken = len(submission.records) - len(failed)
        if not submission.batch:
            return {
                "success": True,
                "transactionId": transaction,
                "recordsProcessed": taken,
                "message": "Impact data received",
            }
        refused = {"success": False, "error": "A dimension is not valid", "errorCode": "DIMENSION_INVALID"}
        return {
            "success": taken > 0,
            "batchId": transaction,
            "recordsProcessed": taken,
            "message": "Batch processed",
            "results": [
                {"index": index, **(refused if index in failed else {"success": True})}
                for index in range(len(submission.records))
            ],
        }

    def error(self, refusal: Refusal) -> dict[str, Any]:
        code = {"errorCode": refusal.code} if refusal.code else {}
        return {"success": False, "error": refusal.message, **code, "timestamp": rfc3339()}

    def refusals(self) -> tuple[Refusal, ...]:
        return (
            Refusal(422, "DIMENSION_INVALID", "A dimension is not valid for this project"),
            Refusal(404, "PROJECT_NOT_FOUND", "A project is not known"),
        )

    def statuses(
        self, submission: Submission, failed: Collection[int], transaction: str, *, rejected: bool
    ) -> list[dict[str, Any]]:
        first = {
            "transactionId": transaction,
            "projectId": submission.records[0].refs[0],
            "timestamp": rfc3339(),
        }
        last: dict[str, Any] = {"eventType": "data.processed", "status": "success"}
        last["recordsProcessed"] = len(submission.records) - len(failed)
        if rejected:
            last = {"eventType": "data.failed", "status": "failed", "error": "Rejected on review"}
        return [
            {"eventType": "data.received", "status": "received", **first},
            {**first, **last},
        ]

    def sign(self, form: str, key: bytes, body: bytes, now: datetime) -> dict[str, str]:
        if form == "plain":
            return {"X-Goodera-Signature": f"sha256={hex_signature(key, body)}"}
        unix = int(now.timestamp())
        return {
            "X-Goodera-Request-Timestamp": str(unix),
            "X-Goodera-Signature": f"sha256={hex_signature(key, f'{unix}.'.encode() + body)}",
        }

    async def _health(self, request: web.Request) -> web.Response:
        refusal = self.authenticate(request.headers, b"")
        if refusal is not None:
            return web.json_response(self.error(refusal), status=refusal.status)
        return web.json_response({"status": "healthy"})


def _record(value: Any, where: str) -> Record:
    record = fields(value, where, _RECORD)
    if record["projectId"] == "":
        raise Wrong(f"{where}.projectId: empty", status=404, code="PROJECT_NOT_FOUND")
    project = text(record["projectId"], f"{where}.projectId")
    organization = text(record["organizationId"], f"{where}.organizationId")
    period(record["reportingPeriod"], f"{where}.reportingPeriod", "from", "to")
    amounts = tuple(
        _dimension(entry, f"{where}.impactDimensions[{index}]")
        for index, entry in enumerate(many(record["impactDimensions"], f"{where}.impactDimensions", most=100))
    )
    metadata = fields(record["metadata"], f"{where}.metadata", frozenset(("source", "timestamp", "version")))
    text(metadata["source"], f"{where}.metadata.source", empty=True)
    moment(metadata["timestamp"], f"{where}.metadata.timestamp")
    text(metadata["version"], f"{where}.metadata.version")
    return Record(organization, (project,), amounts, record)


def _dimension(value: Any, where: str) -> tuple[str, Decimal]:
    entry = fields(value, where, _DIMENSION, frozenset(("beneficiaries",)))
    dimension = text(entry["dimensionId"], f"{where}.dimensionId")
    text(entry["dimensionName"], f"{where}.dimensionName")
    if dimension in _UNMAPPED:
        raise Wrong(f"{where}.dimensionId: {dimension} has a dimension of another name")
    most = None
    if dimension in _UNITS:
        unit, most = _UNITS[dimension]
        if entry["unit"] != unit:
            raise Wrong(f"{where}.unit: {unit} is expected of {dimension}")
    else:
        text(entry["unit"], f"{where}.unit", empty=True)
    if "beneficiaries" in entry:
        amount(entry["beneficiaries"], f"{where}.beneficiaries")
    return dimension, amount(entry["value"], f"{where}.value", most=most)
