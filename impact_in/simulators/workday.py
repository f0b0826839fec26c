"""Workday's REST interface, as contract section 4 describes it, with its OAuth 2.0 token endpoint."""

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

from aiohttp import web

from impact_in.simulators.checks import (
    Wrong,
    amount,
    common_headers,
    day,
    document,
    fields,
    many,
    moment,
    one_of,
    period,
    same,
    text,
)
from impact_in.simulators.contract import Handler, Record, Refusal, Submission, rfc3339
from impact_in.simulators.quotas import Limit
from impact_in.simulators.webhooks import base64_signature, hex_signature

DEFAULT_CLIENT_ID = "simulated-workday-client"
DEFAULT_CLIENT_SECRET = "simulated-workday-secret"  # noqa: S105 - a documented default, no secret
DEFAULT_TENANT = "simulated_tenant"
_SCOPE = "volunteer_management"
_TYPES = frozenset(("volunteer", "training", "mentorship", "community_service"))
_STATUSES = frozenset(("completed", "in_progress", "planned"))
_BODY = frozenset(("organizationId", "reportingPeriod", "volunteerActivities", "programEnrollments", "metadata"))
_ACTIVITY = frozenset(
    (
        "activityId",
        "activityName",
        "activityType",
        "volunteerHours",
        "participantCount",
        "activityDate",
        "status",
    )
)
_ENROLLMENT = frozenset(("programId", "programName", "enrollmentCount", "periodStart", "periodEnd"))
_HOURS_SCALE = 5  # a session with four decimals is 1.5 hours a session


class Workday:
    name = "workday"
    submit_paths: tuple[str, ...] = ("/ccx/service/volunteer-management/v1/activities",)
    limits: tuple[Limit, ...] = (Limit(10, 1),)
    bad_content = "ACTIVITY_INVALID"
    duplicate: Refusal | None = Refusal(409, "DUPLICATE_ACTIVITY", "The activity is already there")
    refuses_records = False

    def __init__(
        self,
        client_id: str = DEFAULT_CLIENT_ID,
        client_secret: str = DEFAULT_CLIENT_SECRET,
        tenant: str = DEFAULT_TENANT,
        token_lifetime: int = 3600,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client_id, self._client_secret, self._tenant = client_id, client_secret, tenant
        self._token_lifetime, self._clock = token_lifetime, clock
        self._tokens: dict[str, float] = {}  # token → when it ends
        self._tokens_issued = 0

    def environment(self, url: str) -> dict[str, str]:
        values = {
            "WORKDAY_CLIENT_ID": (self._client_id, DEFAULT_CLIENT_ID),
            "WORKDAY_CLIENT_SECRET": (self._client_secret, DEFAULT_CLIENT_SECRET),
            "WORKDAY_TENANT_ID": (self._tenant, DEFAULT_TENANT),
        }
        known = {name: default for name, (value, default) in values.items() if value == default}
        return {"WORKDAY_API_URL": f"{url}/ccx/service", **known}

    def extra_routes(self) -> list[tuple[str, str, Handler]]:
        return [("POST", "/oauth2/token", self._token)]

    def revoke_tokens(self) -> None:
        self._tokens.clear()

    def counters(self) -> dict[str, int]:
        return {"tokensIssued": self._tokens_issued}

    def authenticate(self, headers: Mapping[str, str], raw: bytes) -> Refusal | None:
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or self._tokens.get(token, 0.0) <= self._clock():
            return Refusal(401, "AUTH_INVALID", "The access token is not valid")
        if headers.get("X-Workday-Tenant") != self._tenant:
            return Refusal(403, "TENANT_INVALID", "The tenant is not valid for this token")
        return None

    def read(self, path: str, headers: Mapping[str, str], raw: bytes) -> Submission:
        common_headers(headers, api_version=None)
        body = fields(document(raw), "body", _BODY)
        organization = text(body["organizationId"], "organizationId")
        start, end = period(body["reportingPeriod"], "reportingPeriod", "startDate", "endDate")
        amounts: list[tuple[str, Decimal]] = []
        activities, programs = [], []
        for index, value in enumerate(many(body["volunteerActivities"], "volunteerActivities", least=0)):
            where = f"volunteerActivities[{index}]"
            activity = fields(value, where, _ACTIVITY)
            activities.append(text(activity["activityId"], f"{where}.activityId"))
            if not start <= day(activity["activityDate"], f"{where}.activityDate") <= end:
                raise Wrong(f"{where}.activityDate: outside the reporting period")
            amounts += _activity_amounts(activity, where)
        for index, value in enumerate(many(body["programEnrollments"], "programEnrollments", least=0)):
            where = f"programEnrollments[{index}]"
            enrollment = fields(value, where, _ENROLLMENT, frozenset(("completionCount",)))
            programs.append(text(enrollment["programId"], f"{where}.programId"))
            amounts += _enrollment_amounts(enrollment, where)
        if not activities and not programs:
            raise Wrong("body: neither an activity nor an enrolment")
        if len(set(activities)) != len(activities):
            raise Wrong("volunteerActivities: an activityId appears twice")
        _metadata(body["metadata"])
        refs = tuple(activities + programs)
        return Submission((Record(organization, refs, tuple(amounts), body, tuple(activities)),))

    def quota_scope(self, submission: Submission) -> str:
        return "account"

    def transaction_prefix(self, submission: Submission) -> str:
        return "WD"

    def accepted(self, submission: Submission, failed: Collection[int], transaction: str) -> dict[str, Any]:
        body = submission.records[0].body
        return {
            "success": True,
            "transactionId": transaction,
            "activitiesProcessed": len(body["volunteerActivities"]),
            "enrollmentsProcessed": len(body["programEnrollments"]),
        }

    def error(self, refusal: Refusal) -> dict[str, Any]:
        code = {"errorCode": refusal.code} if refusal.code else {}
        return {"success": False, "error": refusal.message, **code, "timestamp": rfc3339()}

    def refusals(self) -> tuple[Refusal, ...]:
        return (Refusal(422, "ACTIVITY_INVALID", "An activity is not valid for this organization"),)

    def statuses(
        self, submission: Submission, failed: Collection[int], transaction: str, *, rejected: bool
    ) -> list[dict[str, Any]]:
        """One for each activity, one for each enrolment."""
        record = submission.records[0]
        common = {
            "transactionId": transaction,
            "status": "error" if rejected else "success",
            "timestamp": rfc3339(),
            **({"message": "Rejected on review"} if rejected else {}),
        }
        return [
            {"eventType": "activity.created", "activityId": activity, **common} for activity in record.activity_ids
        ] + [
            {
                "eventType": "enrollment.confirmed",
                "enrollmentId": "ENR-" + sha256(f"{transaction}|{index}".encode()).hexdigest()[:16],
                **common,
            }
            for index in range(len(record.body["programEnrollments"]))
        ]

    def sign(self, form: str, key: bytes, body: bytes, now: datetime) -> dict[str, str]:
        if form == "plain":
            return {"X-Workday-Signature": f"sha256={hex_signature(key, body)}"}
        stamp = rfc3339(now)
        return {
            "X-Workday-Request-Timestamp": stamp,
            "X-Workday-Signature": base64_signature(key, f"{stamp}:".encode() + body),
        }

    async def _token(self, request: web.Request) -> web.Response:
        """RFC 6749 section 4.4, the client's credentials in the form body; errors as in section 5.2."""
        if request.content_type != "application/x-www-form-urlencoded":
            return _oauth_error(400, "invalid_request")
        form = await request.post()
        given = {name: str(value) for name, value in form.items()}
        if len(given) != len(form):
            return _oauth_error(400, "invalid_request")
        if not (
            same(given.get("client_id", ""), self._client_id)
            & same(given.get("client_secret", ""), self._client_secret)
        ):
            return _oauth_error(401, "invalid_client")
        if given.get("grant_type") != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type")
        if _SCOPE not in given.get("scope", "").split():
            return _oauth_error(400, "invalid_scope")
        now = self._clock()
        self._tokens = {token: end for token, end in self._tokens.items() if end > now}
        token = secrets.token_urlsafe(32)
        self._tokens[token] = now + self._token_lifetime
        self._tokens_issued += 1
        return web.json_response(
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": self._token_lifetime,
                "scope": _SCOPE,
            },
            headers={"Cache-Control": "no-store"},
        )


def _activity_amounts(activity: dict[str, Any], where: str) -> list[tuple[str, Decimal]]:
    text(activity["activityName"], f"{where}.activityName", empty=True)
    kind = one_of(activity["activityType"], f"{where}.activityType", _TYPES)
    one_of(activity["status"], f"{where}.status", _STATUSES)
    hours = amount(activity["volunteerHours"], f"{where}.volunteerHours", scale=_HOURS_SCALE)
    people = amount(activity["participantCount"], f"{where}.participantCount")
    return [(f"{kind}/volunteerHours", hours), (f"{kind}/participantCount", people)]


def _enrollment_amounts(enrollment: dict[str, Any], where: str) -> list[tuple[str, Decimal]]:
    text(enrollment["programName"], f"{where}.programName", empty=True)
    start, end = (
        day(enrollment["periodStart"], f"{where}.periodStart"),
        day(enrollment["periodEnd"], f"{where}.periodEnd"),
    )
    if end < start:
        raise Wrong(f"{where}: the period ends before it starts")
    found = [("enrollmentCount", amount(enrollment["enrollmentCount"], f"{where}.enrollmentCount"))]
    if "completionCount" in enrollment:
        found.append(("completionCount", amount(enrollment["completionCount"], f"{where}.completionCount")))
    return found


def _metadata(value: Any) -> None:
    metadata = fields(value, "metadata", frozenset(("source", "version", "timestamp")))
    text(metadata["source"], "metadata.source", empty=True)
    text(metadata["version"], "metadata.version")
    moment(metadata["timestamp"], "metadata.timestamp")


def _oauth_error(status: int, code: str) -> web.Response:
    return web.json_response({"error": code}, status=status, headers={"Cache-Control": "no-store"})
