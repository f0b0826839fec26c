"""What becomes of one request: a value, decided in one go, so that no other request comes in between.

The order of the questions: outage, who is it, is it well-formed, outage of its organization, quota, final
refusal, transient fault, known key, activity that is already there, effect.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from impact_in.simulators import exact_json
from impact_in.simulators.checks import Wrong
from impact_in.simulators.contract import Platform, Refusal, Submission
from impact_in.simulators.faults import AFTER_EFFECT, BEFORE_EFFECT, FINAL, NAMES, Faults, Outage, draw
from impact_in.simulators.quotas import SlidingWindow
from impact_in.simulators.received import Received

_GARBAGE = b"<!DOCTYPE html><html><body><h1>It works!</h1></body></html>"
_PROBLEMS = {500: "Internal server error", 503: "Service unavailable", 429: "Too many requests"}


@dataclass(slots=True)
class Verdict:
    """The answer, and what is to be written down before it is given. `status` 0: no answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    fault: str | None = None
    violation: str | None = None
    submission: Submission | None = None
    effect: bool = False
    failed: frozenset[int] = frozenset()  # records of a batch that were not taken
    transaction: str | None = None
    accepted: bytes = b""  # the answer that the effect deserves, whatever was answered
    rejected: bool = False
    hold: bool = False


@dataclass(slots=True)
class Decider:
    platform: Platform
    received: Received
    faults: Faults
    quota: SlidingWindow | None
    honour_keys: bool = True
    reject_share: float = 0.0

    def decide(self, path: str, headers: Mapping[str, str], raw: bytes, attempt: int) -> Verdict:
        forced = headers.get("X-Simulate-Fault")
        if forced is not None and forced not in NAMES:
            return self._refuse(Refusal(400, None, f"X-Simulate-Fault: one of {', '.join(sorted(NAMES))}"))
        outage = self.faults.outage_of_all()
        if outage is not None:
            return self._outage(outage)
        stranger = self.platform.authenticate(headers, raw)
        if stranger is not None:
            return self._refuse(stranger)
        try:
            submission = self.platform.read(path, headers, raw)
        except Wrong as wrong:
            verdict = self._refuse(Refusal(wrong.status, wrong.code or self.platform.bad_content, wrong.reason))
            verdict.violation = wrong.reason
            return verdict
        verdict = self._decide_submission(submission, headers["Idempotency-Key"], attempt, forced)
        verdict.submission = submission
        return verdict

    def _decide_submission(self, submission: Submission, key: str, attempt: int, forced: str | None) -> Verdict:
        outage = self.faults.outage_of(record.organization for record in submission.records)
        if outage is not None:
            return self._outage(outage)
        if self.quota is not None:
            wait = self.quota.wait_for(self.platform.quota_scope(submission))
            if wait is not None:
                return self._failure(429, "quota", wait)
        known = self.received.history(key) if self.honour_keys else None
        known = known if known and known.answer is not None else None
        fault, failed = self._fault(submission, key, attempt, forced)
        if fault in FINAL and known is None:
            return self._final(str(fault), key)
        if fault in BEFORE_EFFECT:
            return self._before_effect(str(fault))
        if known is not None:
            assert known.answer is not None
            verdict = Verdict(200, known.answer, transaction=known.transaction)
        elif self._is_duplicate(submission):
            assert self.platform.duplicate is not None
            return self._refuse(self.platform.duplicate)
        else:
            verdict = self._effect(submission, key, failed)
        return self._after_effect(verdict, fault)

    def _fault(
        self, submission: Submission, key: str, attempt: int, forced: str | None
    ) -> tuple[str | None, frozenset[int]]:
        """The fault of this request, and the records of a batch that fail on their own."""
        last = len(submission.records) - 1
        if forced == "partial":
            return (None, frozenset((last,))) if submission.batch else ("success_false", frozenset())
        if forced is not None:
            return forced, frozenset()
        plan = self.faults.plan
        if plan.quiet:
            return None, frozenset()
        finals = plan.finals(self._identities(submission, key), first_attempt=attempt == 1)
        whole = "refused" if "refused" in finals else None
        if not submission.batch:
            whole = finals[0]
        fault = plan.transient(key, attempt, refused=whole is not None)
        failed = frozenset(index for index, final in enumerate(finals) if final == "success_false")
        return fault or whole, failed if submission.batch else frozenset()

    def _identities(self, submission: Submission, key: str) -> list[str]:
        if self.platform.refuses_records:
            return [record_identity(record.body) for record in submission.records]
        return [key]

    def _is_duplicate(self, submission: Submission) -> bool:
        """Another key's activity: a key of its own comes this far only without an effect."""
        if not self.honour_keys or self.platform.duplicate is None:
            return False
        there = self.received.activity_keys
        return any(activity in there for record in submission.records for activity in record.activity_ids)

    def _effect(self, submission: Submission, key: str, failed: frozenset[int]) -> Verdict:
        history = self.received.history(key)
        number = history.effects if history else 0
        seed = self.faults.plan.seed
        digest = sha256(f"{seed}|{self.platform.name}|{key}|{number}".encode()).hexdigest()
        transaction = f"{self.platform.transaction_prefix(submission)}-{digest[:24]}"
        body = exact_json.dumps(self.platform.accepted(submission, failed, transaction))
        effect = len(failed) < len(submission.records)
        return Verdict(
            200,
            body,
            effect=effect,
            failed=failed,
            transaction=transaction,
            accepted=body,
            fault="partial" if failed else None,
            rejected=effect and draw(seed, key, "rejected") < self.reject_share,
        )

    def _after_effect(self, verdict: Verdict, fault: str | None) -> Verdict:
        if fault not in AFTER_EFFECT:
            return verdict
        verdict.fault = fault
        if fault == "drop_after_effect":
            verdict.status, verdict.body = 0, b""
        elif fault == "garbage":
            verdict.body, verdict.content_type = _GARBAGE, "text/html"
        return verdict

    def _before_effect(self, fault: str) -> Verdict:
        match fault:
            case "error_500":
                return self._failure(500, fault)
            case "error_503":
                return self._failure(503, fault)
            case "throttled":
                return self._failure(429, fault, 1)
            case _:
                return Verdict(0, fault=fault)

    def _final(self, fault: str, key: str) -> Verdict:
        choices = self.platform.refusals()
        refusal = choices[int(draw(self.faults.plan.seed, key, "which") * len(choices))]
        if fault == "success_false":
            refusal = Refusal(200, refusal.code, refusal.message)
        verdict = self._refuse(refusal)
        verdict.fault = fault
        return verdict

    def _outage(self, outage: Outage) -> Verdict:
        fault = f"outage_{outage.kind}"
        if outage.kind == "timeout":
            return Verdict(0, fault=fault, hold=True)
        status = int(outage.kind)
        if status == 401:
            verdict = self._refuse(Refusal(401, "AUTH_INVALID", "The credentials are not valid"))
        elif status == 403:
            verdict = self._refuse(Refusal(403, None, "Forbidden"))
        else:
            return self._failure(status, fault, outage.retry_after)
        verdict.fault = fault
        return verdict

    def _failure(self, status: int, fault: str, retry_after: int | None = None) -> Verdict:
        code = "RATE_LIMIT" if status == 429 else None
        verdict = self._refuse(Refusal(status, code, _PROBLEMS[status]))
        verdict.fault = fault
        if retry_after is not None:
            verdict.headers["Retry-After"] = str(retry_after)
        return verdict

    def _refuse(self, refusal: Refusal) -> Verdict:
        return Verdict(refusal.status, exact_json.dumps(self.platform.error(refusal)))


def record_identity(record: Any) -> str:
    """A record's content, whatever the order of its fields; amounts as they were written."""
    return sha256(exact_json.canonical(record)).hexdigest()
