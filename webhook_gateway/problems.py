"""Errors as problem details (RFC 9457): no stack, no payload, no address in an answer."""

import traceback
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import msgspec
import structlog
from aiohttp import web

from delivery_log.contract import LedgerUnavailable

RETRY_AFTER_SECONDS = 5

_log = structlog.get_logger("webhook_gateway")


class Problem(Exception):
    """An answer that a handler gives by raising. `unread`: the body was left on the wire, so the connection ends."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        unread: bool = False,
    ) -> None:
        super().__init__(status.phrase)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.unread = unread

    def response(self) -> web.Response:
        response = problem_response(self.status, self.detail, self.headers)
        if self.unread:
            response.force_close()
        return response


def problem_response(
    status: HTTPStatus, detail: str | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    body: dict[str, object] = {"type": "about:blank", "title": status.phrase, "status": int(status)}
    if detail is not None:
        body["detail"] = detail
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/problem+json", headers=headers
    )


def unavailable() -> web.Response:
    """503 because nothing can be made durable now."""
    return problem_response(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The ledger is out of reach; nothing was stored.",
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turns what handlers and the router raise into problem details."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except LedgerUnavailable:
        return unavailable()
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return problem_response(HTTPStatus(error.status), headers=kept)
    except Exception as error:
        # Where, not what: an exception's message may quote a payload.
        last = traceback.extract_tb(error.__traceback__)[-1]
        _log.error("gateway.failed", error=type(error).__name__, at=f"{last.filename}:{last.lineno}")
        return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR)
