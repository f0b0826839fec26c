"""A platform's webhook: prove, understand, store, answer, in this order: forged ones cost the ledger nothing."""

import hashlib
from http import HTTPStatus
from uuid import UUID, uuid5

import structlog
from aiohttp import web

from connectors.contract import SignatureRejected, StatusReport, Webhook, WebhookBodyError
from delivery_log.contract import StatusEvent
from delivery_log.storable import check_storable, check_text
from schemas.identity import NAMESPACE
from schemas.trace import valid_traceparent
from webhook_gateway.bodies import check_media, read_body
from webhook_gateway.dependencies import GatewayDependencies, usable_keys
from webhook_gateway.group_commit import GroupCommit
from webhook_gateway.linker import Linker
from webhook_gateway.problems import Problem

_INVALID_SIGNATURE = b'{"error": "Invalid signature"}'
_RECEIVED = b'{"received": true}'
_LONGEST_ID = 512
_LONGEST_MESSAGE = 1024

_log = structlog.get_logger("webhook_gateway")


class WebhookEndpoint:
    """POST /webhooks/{platform}."""

    def __init__(
        self, platform: str, dependencies: GatewayDependencies, group_commit: GroupCommit, linker: Linker
    ) -> None:
        self._platform = platform
        self._webhook: Webhook = dependencies.connectors[platform].webhook
        self._keys = usable_keys(dependencies, platform)
        self._dependencies = dependencies
        self._group_commit = group_commit
        self._linker = linker

    async def handle(self, request: web.Request) -> web.Response:
        if not self._keys:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "No webhook secret is configured for this platform.", unread=True
            )
        check_media(request)
        raw = await read_body(request, self._dependencies.body_timeout)
        reason = self._reason_to_reject(request, raw)
        if reason is not None:
            self._dependencies.observer.webhook_verification_failed(self._platform, reason)
            _log.info("webhook.rejected", platform=self._platform, reason=reason)
            return _json(_INVALID_SIGNATURE, HTTPStatus.UNAUTHORIZED)
        event = self._understand(request, raw)
        try:
            new = await self._group_commit.record(event)
        except ValueError:
            raise self._misfit("the body holds a value that cannot be stored") from None
        self._received(event, new)
        return _json(_RECEIVED)

    def _reason_to_reject(self, request: web.Request, raw: bytes) -> str | None:
        headers = list(request.headers.items())  # all of them: two of a kind are for the verifier to refuse
        try:
            self._webhook.verify(headers, raw, self._keys, self._dependencies.clock())
        except SignatureRejected as rejected:
            return rejected.reason
        except Exception as error:
            # Whatever a malformed header made of the verifier: it is not proved, and the sender learns nothing else.
            _log.error("webhook.verifier_failed", platform=self._platform, error=type(error).__name__)
            return "malformed"
        return None

    def _understand(self, request: web.Request, raw: bytes) -> StatusEvent:
        try:
            payload = raw.decode()
            check_storable(payload)
        except UnicodeDecodeError:
            raise self._misfit("the body is not UTF-8") from None
        except ValueError as error:
            raise self._misfit(str(error)) from None
        try:
            report = self._webhook.parse(raw)
            return _status_event(self._platform, raw, payload, report, request.headers.get("traceparent"))
        except WebhookBodyError as error:
            # Names the field, quotes nothing; what any other ValueError says is not known to.
            raise self._misfit(str(error)) from None
        except ValueError:
            raise self._misfit("the body does not fit") from None

    def _misfit(self, detail: str) -> Problem:
        _log.info("webhook.misfit", platform=self._platform, detail=detail)
        return Problem(HTTPStatus.BAD_REQUEST, detail)

    def _received(self, event: StatusEvent, new: bool) -> None:
        observer = self._dependencies.observer
        if new:
            observer.webhook_received(self._platform)
            self._linker.wake()
        else:
            observer.webhook_repeated(self._platform)
        _log.info(
            "webhook.received",
            platform=self._platform,
            event_type=event.event_type,
            status_id=str(event.id),
            transaction_id=event.transaction_id,
            repeated=not new,
        )


def status_event_id(platform: str, raw: bytes) -> UUID:
    """Of platform and body alone: a webhook sent again has another timestamp and signature in its headers."""
    return uuid5(NAMESPACE, f"status:{platform}:{hashlib.sha256(raw).hexdigest()}")


def _status_event(
    platform: str, raw: bytes, payload: str, report: StatusReport, traceparent: str | None
) -> StatusEvent:
    for name, text in (
        ("event type", report.event_type),
        ("transaction id", report.transaction_id),
        ("activity id", report.activity_id),
        ("error message", report.error_message),
    ):
        try:
            check_text(text or "")
        except ValueError as error:
            raise WebhookBodyError(f"the {name} is {error}") from None
        if len(text or "") > _LONGEST_ID and name != "error message":  # beyond what an index entry holds
            raise WebhookBodyError(f"the {name} has more than {_LONGEST_ID} characters")
    return StatusEvent(
        id=status_event_id(platform, raw),
        platform=platform,
        event_type=report.event_type,
        transaction_id=report.transaction_id,
        activity_id=report.activity_id,
        platform_status=report.status.value if report.status is not None else None,
        payload=payload,
        error_message=report.error_message[:_LONGEST_MESSAGE] if report.error_message else None,
        occurred_at=report.occurred_at,
        traceparent=valid_traceparent(traceparent),
    )


def _json(body: bytes, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")
