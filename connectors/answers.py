"""What an answer means: the contract's section 4 as data, shared by all platforms.

The status decides, and an `errorCode` in the body refines 2xx and 4xx:

| answer | outcome |
|---|---|
| nothing sent | Unavailable, fate known |
| sent, no status came back | Uncertain |
| 2xx, `success: true` | Accepted |
| 2xx, `success: false` | by its code, else Refused |
| 2xx, anything else (empty, HTML, cut, too long, no boolean `success`) | Uncertain |
| 3xx | Unavailable, fate unknown |
| 401 | CredentialsRejected |
| 403 | Forbidden (`ORG_FORBIDDEN`); Throttled with code `RATE_LIMIT` |
| 408 · 425 | Unavailable, fate unknown · known |
| 429 | Throttled |
| other 4xx | by its code, else Refused; cut or timed out within the body: Uncertain |
| 5xx | Unavailable, fate unknown |
| 1xx, 6xx and beyond | Uncertain |

A redirect is never followed: it says where the platform lives, not what is wrong with a record. Refusing would drain
every delivery into the dead letters because an address moved; retrying lets the breaker hold the platform. A 303 may
follow an effect, so the fate counts as unknown.

401, 408, 425, 429, 3xx and 5xx are decided by their status alone, even where their body never came whole. A 4xx whose
body is cut may be a `DUPLICATE_ACTIVITY` or `RATE_LIMIT` unread: uncertain, not final. One that is merely too long
will always be, so its status decides. `AUTH_INVALID` does not refine a 403: that holds one organization, and one
organization's trouble must not hold a platform.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final

import msgspec

from connectors.contract import (
    Accepted,
    CredentialsRejected,
    Forbidden,
    Outcome,
    Refused,
    Shipment,
    Throttled,
    Unavailable,
    Uncertain,
)
from connectors.http_client import SENTENCES, Lost, Problem, Reply, Result, Unsent
from connectors.redaction import redacted
from connectors.retry_after import retry_after


class Kind(Enum):
    """What an answer comes to, before it is dressed as an outcome."""

    ACCEPTED = auto()
    REFUSED = auto()
    THROTTLED = auto()
    UNAVAILABLE = auto()  # fate unknown
    NOT_NOW = auto()  # unavailable, fate known
    CREDENTIALS = auto()
    FORBIDDEN = auto()
    UNCERTAIN = auto()


BY_STATUS: Final[Mapping[int, Kind]] = {
    401: Kind.CREDENTIALS,
    403: Kind.FORBIDDEN,
    408: Kind.UNAVAILABLE,
    425: Kind.NOT_NOW,
    429: Kind.THROTTLED,
}
BY_CLASS: Final[Mapping[int, Kind]] = {
    2: Kind.UNCERTAIN,
    3: Kind.UNAVAILABLE,
    4: Kind.REFUSED,
    5: Kind.UNAVAILABLE,
}
DECIDED_BY_STATUS: Final = frozenset({401, 408, 425, 429})
WAITS_AS_TOLD: Final = frozenset({429, 503})
COMMON_CODES: Final[Mapping[str, Kind]] = {"RATE_LIMIT": Kind.THROTTLED, "AUTH_INVALID": Kind.CREDENTIALS}

ORG_FORBIDDEN: Final = "ORG_FORBIDDEN"
MAX_TRANSACTION_ID: Final = 255
_CODE = re.compile(r"[A-Z0-9_]{1,64}")


class Body(msgspec.Struct):
    """What the platforms' answers share. Every field may hold anything: nothing here is trusted."""

    success: Any = None
    transactionId: Any = None  # noqa: N815 (the platforms' names)
    batchId: Any = None  # noqa: N815
    error: Any = None
    errorCode: Any = None  # noqa: N815
    message: Any = None
    recordsProcessed: Any = None  # noqa: N815
    results: Any = None


_decode = msgspec.json.Decoder(Body).decode
_NOTHING = Body()


def read_body(raw: bytes | None) -> Body | None:
    """The answer's JSON object, or None: empty, HTML, cut, nested too deep, wrong charset."""
    if not raw:
        return None
    try:
        return _decode(raw)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors, bad UTF-8 too
        return None


class AnswerReader:
    """Answers → outcomes for one platform.

    `codes`: what its error codes mean; a code that is not listed leaves the decision to the status, and the message
    says so. `credentials`: the texts that no outcome may quote, asked anew each time, since tokens change.
    """

    def __init__(self, codes: Mapping[str, Kind], credentials: Callable[[], Iterable[str]]) -> None:
        self._codes = codes
        self._credentials = credentials

    def outcome(self, result: Result, shipments: Sequence[Shipment]) -> Outcome:
        """What this answer says of the request as a whole."""
        match result:
            case Reply():
                return self.of_reply(result, read_body(result.body), shipments)
            case Unsent(problem):
                return Unavailable(error_code=problem.value, error_message=SENTENCES[problem], fate_known=True)
            case Lost(problem):
                return Uncertain(error_code=problem.value, error_message=SENTENCES[problem])

    def of_reply(self, reply: Reply, body: Body | None, shipments: Sequence[Shipment]) -> Outcome:
        if body is not None and body.success is True and 200 <= reply.status < 300:
            return Accepted(
                http_status=reply.status, transaction_id=self.transaction_id(body.transactionId, body.batchId)
            )
        code = body.errorCode if body is not None and isinstance(body.errorCode, str) else None
        kind = self._kind(reply, body, code)
        if kind is Kind.UNCERTAIN:
            problem = reply.problem or Problem.ANSWER_UNREADABLE
            return Uncertain(http_status=reply.status, error_code=problem.value, error_message=SENTENCES[problem])
        after = retry_after(reply.headers) if kind is Kind.THROTTLED or reply.status in WAITS_AS_TOLD else None
        # Codes refine 2xx and 4xx only: beside another status they would only mislead.
        return self.of_kind(
            kind, reply.status, body or _NOTHING, code if reply.status // 100 in (2, 4) else None, after, shipments
        )

    def of_kind(
        self,
        kind: Kind,
        status: int,
        body: Body,
        code: str | None,
        after: float | None,
        shipments: Sequence[Shipment],
    ) -> Outcome:
        """The outcome of a kind; `body` gives the transaction id and the platform's words, without our secrets."""
        if kind is Kind.ACCEPTED:
            return Accepted(http_status=status, transaction_id=self.transaction_id(body.transactionId, body.batchId))
        error_code = self._error_code(code, status, shipments)
        message = self._message(status, code, body, shipments)
        match kind:
            case Kind.THROTTLED:
                return Throttled(http_status=status, error_code=error_code, error_message=message, after=after)
            case Kind.CREDENTIALS:
                return CredentialsRejected(http_status=status, error_code=error_code, error_message=message)
            case Kind.FORBIDDEN:
                return Forbidden(http_status=status, error_code=ORG_FORBIDDEN, error_message=message)
            case Kind.UNAVAILABLE | Kind.NOT_NOW:
                return Unavailable(
                    http_status=status,
                    error_code=error_code,
                    error_message=message,
                    after=after,
                    fate_known=kind is Kind.NOT_NOW,
                )
            case Kind.UNCERTAIN:
                return Uncertain(http_status=status, error_code=error_code, error_message=message)
            case _:
                return Refused(
                    http_status=status,
                    error_code=error_code,
                    error_message=message,
                    transaction_id=self.transaction_id(body.transactionId, body.batchId),
                )

    def refined(self, code: object) -> Kind:
        """What `success: false` with this code comes to."""
        return self._codes.get(code, Kind.REFUSED) if isinstance(code, str) else Kind.REFUSED

    def transaction_id(self, *candidates: object) -> str | None:
        """The first of them that can be one: printable text of at most 255 characters, or an integer."""
        for candidate in candidates:
            if type(candidate) is int:
                candidate = str(candidate)
            if (
                isinstance(candidate, str)
                and 0 < len(candidate) <= MAX_TRANSACTION_ID
                and candidate.isprintable()
                and not any(secret in candidate for secret in self._credentials())
            ):
                return candidate
        return None

    def _kind(self, reply: Reply, body: Body | None, code: str | None) -> Kind:
        status = reply.status
        kind = BY_STATUS.get(status) or BY_CLASS.get(status // 100, Kind.UNCERTAIN)
        if status in DECIDED_BY_STATUS:
            return kind
        if 200 <= status < 300:
            return self.refined(code) if body is not None and body.success is False else Kind.UNCERTAIN
        if 400 <= status < 500:
            refined = self._codes.get(code) if code is not None else None
            if status == 403:
                return Kind.THROTTLED if refined is Kind.THROTTLED else kind
            if reply.body is None and reply.problem is not Problem.ANSWER_TOO_LONG:
                return Kind.UNCERTAIN
            return refined or kind
        return kind

    def _error_code(self, code: str | None, status: int, shipments: Sequence[Shipment]) -> str:
        if code is None or not _CODE.fullmatch(code):
            return f"HTTP_{status}"
        if code not in self._codes and self._redacted(code, shipments) != code:
            return f"HTTP_{status}"  # it quotes us
        return code

    def _message(self, status: int, code: str | None, body: Body, shipments: Sequence[Shipment]) -> str:
        said = body.error if isinstance(body.error, str) else body.message
        ours = f"HTTP {status}"
        if code is not None and code not in self._codes:
            ours += ", error code not known, classified by status"
        if not isinstance(said, str) or not said.strip():
            return ours
        text = f"{ours}: {self._redacted(said, shipments)}"
        return text.encode()[:1024].decode(errors="ignore")

    def _redacted(self, text: str, shipments: Sequence[Shipment]) -> str:
        return redacted(text, self._credentials(), (shipment.event for shipment in shipments))
