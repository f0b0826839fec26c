"""What a platform received: requests, effects by key, sums. Built from receipts alone, live or read from disk."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact
from typing import Any

from impact_in.simulators import exact_json

_EXACT = Context(prec=200, traps=[Inexact])
_VIOLATIONS_KEPT = 1000


@dataclass(slots=True)
class KeyHistory:
    """One idempotency key. `answer` is the 2xx of its effect, given again to every later request."""

    requests: int = 0
    effects: int = 0
    transaction: str | None = None
    hashes: list[str] = field(default_factory=list)
    organization: str | None = None
    amounts: list[list[str]] = field(default_factory=list)
    answer: bytes | None = None
    rejected: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "effects": self.effects,
            "transactionId": self.transaction,
            "bodySha256s": self.hashes,
            "organizationId": self.organization,
            "amounts": self.amounts,
            "rejected": self.rejected,
        }


class Received:
    def __init__(self, platform: str) -> None:
        self.platform = platform
        self.keys: dict[str, KeyHistory] = {}
        self.activity_keys: dict[str, str] = {}  # activity id → the key whose effect it is
        self._lines: list[bytes] = []
        self._effects = self._records = self._over_quota = self._violation_count = 0
        self._statuses: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._sums: dict[str, Decimal] = defaultdict(Decimal)
        self._by_organization: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        self._violations: list[dict[str, Any]] = []

    @property
    def count(self) -> int:
        return len(self._lines)

    def history(self, key: str) -> KeyHistory | None:
        return self.keys.get(key)

    def add(self, receipt: dict[str, Any]) -> bytes:
        """Takes a receipt in; returns its line for the disk."""
        line = exact_json.dumps(receipt)
        self._lines.append(line)
        self._statuses[str(receipt["status"] or "none")] += 1
        if receipt["fault"]:
            self._faults[receipt["fault"]] += 1
        self._over_quota += receipt["fault"] == "quota"
        if receipt["key"]:
            self._add_to_key(receipt)
        if receipt["effect"]:
            self._add_effect(receipt)
        if receipt.get("violation"):
            self._add_violation(receipt)
        return line + b"\n"

    def page(self, after: int, limit: int) -> bytes:
        """Receipts with n > `after`, as a JSON object; `next` is the `after` of the next page, null at the end."""
        lines = self._lines[after : after + limit]
        end = after + len(lines)
        following = str(end) if end < len(self._lines) else "null"
        return b'{"items":[' + b",".join(lines) + b'],"next":' + following.encode() + b"}"

    def summary(self, *, with_keys: bool) -> dict[str, Any]:
        found: dict[str, Any] = {
            "platform": self.platform,
            "requests": self.count,
            "effects": self._effects,
            "records": self._records,
            "sums": _written(self._sums),
            "sumsByOrganization": {name: _written(sums) for name, sums in self._by_organization.items()},
            "statuses": dict(self._statuses),
            "faults": dict(self._faults),
            "quotaExceeded": self._over_quota,
            "violationCount": self._violation_count,
            "violations": self._violations,
        }
        if with_keys:
            found["keys"] = {key: history.as_json() for key, history in self.keys.items()}
        return found

    def _add_to_key(self, receipt: dict[str, Any]) -> None:
        history = self.keys.setdefault(receipt["key"], KeyHistory())
        history.requests += 1
        if receipt["bodySha256"] not in history.hashes:
            history.hashes.append(receipt["bodySha256"])
        if history.organization is None:
            history.organization = receipt["organizationId"]

    def _add_effect(self, receipt: dict[str, Any]) -> None:
        history = self.keys[receipt["key"]]
        history.effects += 1
        if history.effects == 1:
            history.transaction = receipt["transactionId"]
            history.organization = receipt["organizationId"]
            history.amounts = receipt["amounts"]
            history.answer = receipt["answer"].encode("ascii")
            history.rejected = receipt["rejected"]
        for activity in receipt.get("activityIds", ()):
            self.activity_keys.setdefault(activity, receipt["key"])
        self._effects += 1
        for record in receipt.get("records") or [{**receipt, "taken": True}]:
            if record["taken"]:
                self._records += 1
                self._add_amounts(record["organizationId"], record["amounts"])

    def _add_amounts(self, organization: str, amounts: Iterable[Iterable[str]]) -> None:
        of_organization = self._by_organization[organization]
        for name, amount in amounts:
            number = Decimal(amount)
            self._sums[name] = _EXACT.add(self._sums[name], number)
            of_organization[name] = _EXACT.add(of_organization[name], number)

    def _add_violation(self, receipt: dict[str, Any]) -> None:
        self._violation_count += 1
        if len(self._violations) < _VIOLATIONS_KEPT:
            self._violations.append({"n": receipt["n"], "key": receipt["key"], "reason": receipt["violation"]})


def written(amount: Decimal) -> str:
    """The amount without an exponent, as the witness reports it."""
    return format(amount, "f")


def _written(sums: dict[str, Decimal]) -> dict[str, str]:
    return {name: written(amount) for name, amount in sums.items()}
