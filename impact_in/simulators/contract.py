"""What a simulated platform must be able to say. The server (server.py) does the rest for all of them.

A platform is asked in this order: `authenticate`, `read`, then one of `accepted` and `error`. All of it is
synchronous, so that nothing comes between looking a key up and writing its effect down.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from aiohttp import web

from impact_in.simulators.quotas import Limit


@dataclass(frozen=True, slots=True)
class Record:
    """One company's report in a request. `body` is the record as it came; it tells records apart."""

    organization: str
    refs: tuple[str, ...]
    amounts: tuple[tuple[str, Decimal], ...]
    body: Any = field(repr=False)
    activity_ids: tuple[str, ...] = ()  # Workday's: each may have one effect only, whatever the key


@dataclass(frozen=True, slots=True)
class Submission:
    records: tuple[Record, ...]
    batch: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    code: str | None
    message: str


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Platform(Protocol):
    name: str
    submit_paths: tuple[str, ...]
    limits: tuple[Limit, ...]
    bad_content: str  # the error code of a request that breaks the format
    duplicate: Refusal | None  # the answer to an activity that is already there under another key
    refuses_records: bool  # a refusal follows the record, into whatever request it comes in; else the key

    def environment(self, url: str) -> dict[str, str]:
        """The product's variables for this platform at `url`; a credential only where it is a known default."""

    def extra_routes(self) -> list[tuple[str, str, Handler]]:
        """(method, path, handler) beyond the submissions: token endpoint, health."""

    def authenticate(self, headers: Mapping[str, str], raw: bytes) -> Refusal | None: ...

    def read(self, path: str, headers: Mapping[str, str], raw: bytes) -> Submission:
        """The request, checked strictly against the contract. Raises Wrong."""

    def revoke_tokens(self) -> None:
        """Every access token given out so far is worthless from now on."""

    def counters(self) -> dict[str, int]:
        """What `/_received` shows beyond the receipts."""

    def quota_scope(self, submission: Submission) -> str: ...

    def transaction_prefix(self, submission: Submission) -> str: ...

    def accepted(self, submission: Submission, failed: Collection[int], transaction: str) -> dict[str, Any]:
        """The 2xx body; `failed` are the records of a batch that were not taken."""

    def error(self, refusal: Refusal) -> dict[str, Any]: ...

    def refusals(self) -> tuple[Refusal, ...]:
        """The final refusals that `refused` chooses from."""

    def statuses(
        self, submission: Submission, failed: Collection[int], transaction: str, *, rejected: bool
    ) -> list[dict[str, Any]]:
        """The webhook bodies of an effect, sent one after the other."""

    def sign(self, form: str, key: bytes, body: bytes, now: datetime) -> dict[str, str]:
        """Headers of a webhook in the platform's own `timestamped` or `plain` form (contract section 5)."""


def rfc3339(at: datetime | None = None) -> str:
    at = at or datetime.now(UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
