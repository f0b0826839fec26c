"""Twin of the delivery ledger. Reads like the statements in `delivery_log/sql/`; the suite holds the two together."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, cast
from uuid import UUID

from delivery_log.contract import (
    AlreadyDone,
    Arrival,
    AttemptRow,
    BatchVerdict,
    Blocked,
    Busy,
    Cancelled,
    Changed,
    Claim,
    Dissolved,
    Finished,
    Go,
    Leased,
    Limited,
    Mismatch,
    NotYet,
    Owner,
    Parked,
    Progress,
    ReadUpTo,
    Recorded,
    Request,
    Resend,
    Result,
    Sealed,
    SealedClaim,
    SealedMember,
    Stale,
    SweepReason,
    Swept,
    Unknown,
    Unrepeatable,
    Verdict,
)
from delivery_log.memory.state import DeliveryRecord, EventRecord, MemoryState
from schemas.identity import batch_key, delivery_id, idempotency_key

_WAKE_AT_ONCE = 8
_CALLS_KEPT = 1_000
_PARKED_SECONDS = 30.0
_PARKED_LOOKED_AT = 500


class MemoryLedger:
    """`delivery_log.contract.DeliveryLedger` over a `MemoryState`."""

    def __init__(self, state: MemoryState | None = None) -> None:
        self.state = state or MemoryState()
        self._answered: dict[UUID, object] = {}

    async def identity(self) -> str:
        return self.state.identity

    async def next_epoch(self) -> int:
        self.state.epoch += 1
        return self.state.epoch

    async def record_events(self, arrivals: Sequence[Arrival]) -> list[Recorded]:
        return [self._record(arrival) for arrival in arrivals]

    def _record(self, arrival: Arrival) -> Recorded:
        state = self.state
        known = state.events.get(arrival.event_id)
        if known is not None:
            if known.content_hash != arrival.content_hash:
                return Recorded("conflict")
            same_record = known.origin == arrival.origin
            unfinished = tuple(
                self._request(row)
                for row in sorted(state.deliveries.values(), key=lambda row: row.seq)
                if row.event_id == arrival.event_id and row.unfinished
            )
            return Recorded("redelivered" if same_record else "duplicate", unfinished, known.reason)
        enabled = {
            entry.platform: entry
            for (company, _), entry in state.company_platforms.items()
            if company == arrival.company_id and entry.enabled
        }
        platforms = sorted(platform for platform in arrival.platforms if platform in enabled)
        reason = None if platforms else ("not_applicable" if enabled else "unknown_company")
        state.events[arrival.event_id] = EventRecord(
            id=arrival.event_id,
            company_id=arrival.company_id,
            content_hash=arrival.content_hash,
            body=arrival.body,
            disposition="accepted" if platforms else "unrouted",
            reason=reason,
            origin=arrival.origin,
            traceparent=arrival.traceparent,
        )
        now = state.clock()
        requests = []
        for platform in platforms:
            state.seq += 1
            row = DeliveryRecord(
                id=delivery_id(arrival.event_id, platform),
                event_id=arrival.event_id,
                company_id=arrival.company_id,
                platform=platform,
                organization_id=enabled[platform].organization_id,
                content_hash=arrival.content_hash,
                seq=state.seq,
                traceparent=arrival.traceparent,
                created_at=now,
                updated_at=now,
                published_at=now,
            )
            state.deliveries[row.id] = row
            requests.append(self._request(row))
        return Recorded("accepted" if platforms else "unrouted", tuple(requests), reason)

    async def confirm_published(self, records: Sequence[tuple[UUID, int]]) -> None:
        for identifier, hop in records:
            row = self.state.deliveries.get(identifier)
            if row is not None and row.hop == hop:
                row.published_hop = max(row.published_hop, hop)
                row.unannounced = False

    async def begin(
        self,
        claims: Sequence[Claim],
        *,
        owner: Owner,
        lease: float,
        ordered: bool,
        key_memory: float,
        token: UUID | None = None,
    ) -> list[Verdict]:
        if token is not None and token in self._answered:
            return cast("list[Verdict]", self._answered[token])
        looked = [self._look(claim, owner, lease, ordered, key_memory) for claim in claims]
        may_go = Counter(claim.batch_id for claim, verdict in zip(claims, looked, strict=True) if verdict is None)
        verdicts = [
            self._limited(claim, may_go) if verdict is None else verdict
            for claim, verdict in zip(claims, looked, strict=True)
        ]
        goes = Counter(claim.batch_id for claim, verdict in zip(claims, verdicts, strict=True) if verdict is None)
        answers: list[Verdict] = []
        for claim, verdict in zip(claims, verdicts, strict=True):
            sealed_in = claim.batch_id if goes[claim.batch_id] > 1 else None
            answers.append(self._go(claim, owner, lease, sealed_in) if verdict is None else verdict)
        self._remember(token, answers)
        return answers

    def _limited(self, claim: Claim, may_go: Mapping[UUID | None, int]) -> Limited | None:
        row = self.state.deliveries[claim.delivery_id]
        alone = row.uncertain_since is not None or row.lease_owner is not None
        most = 1 if alone else row.batch_limit
        over = claim.batch_id is not None and most is not None and most < may_go[claim.batch_id]
        return Limited(most) if over and most is not None else None

    def _look(self, claim: Claim, owner: Owner, lease: float, ordered: bool, key_memory: float) -> Verdict | None:
        """Why it does not go; None: it may."""
        row = self.state.deliveries.get(claim.delivery_id)
        now = self.state.clock()
        if row is None:
            return Unknown()
        if row.content_hash != claim.content_hash:
            return Mismatch()
        if row.status == "delivered" or row.outcome in ("dead", "rejected"):
            return AlreadyDone()
        if row.status == "failed":
            return Cancelled()
        if row.hop != claim.hop:
            return Stale()
        ours_before = row.lease_owner == owner.name and (row.lease_epoch or 0) < owner.epoch
        if row.lease_until is not None and row.lease_until > now and not ours_before:
            return Leased((row.lease_until - now).total_seconds())
        if row.batch_id is not None:
            return Sealed(row.batch_id)
        if row.next_attempt_at is not None and row.next_attempt_at > now:
            remaining = (row.next_attempt_at - now).total_seconds()
            if remaining > 1.0:
                row.blocked, row.published_hop, row.updated_at = True, row.hop, now
            return NotYet(remaining)
        if ordered and self._elder_unfinished(row):
            row.blocked = True
            row.published_hop = row.hop
            return Blocked()
        if (row.organization_id, row.generation) != (claim.organization_id, claim.generation):
            return Changed(row.organization_id, row.generation)
        unsure_since = _unsure_since(row)
        if unsure_since is None:
            return None
        if row.payload_hash != claim.payload_hash:
            return self._unrepeatable(row, owner, lease, "content_changed")
        if unsure_since < now - timedelta(seconds=key_memory):
            return self._unrepeatable(row, owner, lease, "key_forgotten")
        return None

    def _unrepeatable(
        self, row: DeliveryRecord, owner: Owner, lease: float, reason: Literal["content_changed", "key_forgotten"]
    ) -> Unrepeatable:
        self._lease(row, owner, lease)
        return Unrepeatable(reason, row.attempts, row.counted)

    def _go(self, claim: Claim, owner: Owner, lease: float, sealed_in: UUID | None) -> Go:
        row = self.state.deliveries[claim.delivery_id]
        self._lease(row, owner, lease)
        row.payload_sample = row.payload_sample or claim.payload_sample
        row.payload_hash, row.batch_id = claim.payload_hash, sealed_in
        return self._begun(row, idempotency_key(row.id, row.generation) if sealed_in is None else batch_key(sealed_in))

    def _lease(self, row: DeliveryRecord, owner: Owner, lease: float) -> None:
        now = self.state.clock()
        if row.lease_owner is not None:
            # A lease that was never given back: that attempt's fate is unknown, and it counts.
            if row.status != "delivered":
                row.uncertain_since = _unsure_since(row)
            row.counted += 1
            if row.attempts:
                self.state.attempts.setdefault(
                    (row.id, row.attempts),
                    AttemptRow(
                        attempt=row.attempts,
                        started_at=row.lease_started_at or now,
                        duration_ms=None,
                        http_status=None,
                        outcome="unknown_outcome",
                        counted=True,
                        error_code=None,
                        error_message=None,
                        transaction_id=None,
                    ),
                )
        row.lease_owner, row.lease_epoch, row.lease_started_at = owner.name, owner.epoch, now
        row.lease_until = now + timedelta(seconds=lease)
        row.published_hop = row.hop if row.unfinished else row.published_hop
        row.blocked, row.updated_at = False, now

    def _begun(self, row: DeliveryRecord, key: UUID) -> Go:
        now = self.state.clock()
        row.attempts += 1
        row.idempotency_key = str(key)
        return Go(
            attempt=row.attempts,
            counted=row.counted,
            idempotency_key=key,
            replays=row.replays,
            failing_for=None if row.first_failed_at is None else (now - row.first_failed_at).total_seconds(),
            to_deadline=self._to_deadline(row, now),
            uncertain=row.uncertain_since is not None,
            batch_id=row.batch_id,
        )

    # ---- sealed batches

    async def sealed_batch(self, batch_id: UUID) -> list[SealedMember]:
        return [
            SealedMember(request=self._request(row), organization_id=row.organization_id, generation=row.generation)
            for row in self._members(batch_id)
        ]

    def _members(self, batch_id: UUID) -> list[DeliveryRecord]:
        rows = (row for row in self.state.deliveries.values() if row.batch_id == batch_id)
        return sorted(rows, key=lambda row: row.id.bytes)

    async def begin_sealed(
        self,
        batch_id: UUID,
        claims: Sequence[SealedClaim],
        *,
        owner: Owner,
        lease: float,
        key_memory: float,
        token: UUID | None = None,
    ) -> BatchVerdict:
        if token is not None and token in self._answered:
            return cast("BatchVerdict", self._answered[token])
        answer = self._begin_sealed(batch_id, claims, owner, lease, key_memory)
        self._remember(token, answer)
        return answer

    def _begin_sealed(
        self, batch_id: UUID, claims: Sequence[SealedClaim], owner: Owner, lease: float, key_memory: float
    ) -> BatchVerdict:
        now, rows = self.state.clock(), self._members(batch_id)
        unfinished = [row for row in rows if row.unfinished]
        if not {claim.delivery_id for claim in claims} <= {row.id for row in rows}:
            return Dissolved()  # somebody has dissolved it, or its members were answered meanwhile
        leases = [
            row.lease_until
            for row in rows
            if row.lease_until is not None
            and row.lease_until > now
            and not (row.lease_owner == owner.name and (row.lease_epoch or 0) < owner.epoch)
        ]
        if leases:
            return Leased((max(leases) - now).total_seconds())
        if not unfinished:
            return Dissolved()
        due = min(row.next_attempt_at or now for row in unfinished)
        if due > now:
            remaining = (due - now).total_seconds()
            for row in unfinished if remaining > 1.0 else ():
                row.blocked, row.published_hop, row.updated_at = True, row.hop, now
            return NotYet(remaining)
        unsure = [moment for row in rows if (moment := _unsure_since(row)) is not None]
        claimed = {claim.delivery_id: claim for claim in claims}
        changed = any(row.id not in claimed or claimed[row.id].payload_hash != row.payload_hash for row in rows)
        moved = any(
            (row.organization_id, row.generation) != (claimed[row.id].organization_id, claimed[row.id].generation)
            for row in rows
            if row.id in claimed
        )
        cancelled = any(row.status == "failed" and row.outcome in (None, "cancelled") for row in rows)
        if not unsure and (changed or moved or cancelled):
            for row in unfinished:
                row.batch_id = None
            return Dissolved(tuple(self._republish(row) for row in unfinished))
        forgotten = bool(unsure) and min(unsure) < now - timedelta(seconds=key_memory)
        for row in rows:
            self._lease(row, owner, lease)
        members = [self.state.deliveries[claim.delivery_id] for claim in claims]
        if changed:
            return Resend(tuple(Unrepeatable("content_changed", row.attempts, row.counted) for row in members))
        if forgotten:
            return Resend(tuple(Unrepeatable("key_forgotten", row.attempts, row.counted) for row in members))
        return Resend(tuple(self._begun(row, batch_key(batch_id)) for row in members))

    async def wake_parked(self, platform: str, companies: Mapping[UUID, int]) -> list[Request]:
        now = self.state.clock()
        woken: list[Request] = []
        for company, most in companies.items():
            parked = sorted(
                (
                    row
                    for row in self.state.deliveries.values()
                    if (row.platform, row.company_id) == (platform, company)
                    and row.unfinished
                    and row.blocked
                    and (row.next_attempt_at or now) <= now
                    and (row.lease_until or now) <= now
                ),
                key=lambda row: row.seq,
            )
            woken += [self._republish(row) for row in parked[:most]]
        return woken

    def _to_deadline(self, row: DeliveryRecord, now: datetime) -> float | None:
        if row.deadline_at is None or row.first_failed_at is None:
            return None
        held = sorted(
            (max(hold.held_from, row.first_failed_at), min(hold.held_until, now))
            for hold in self.state.holds.values()
            if hold.platform == row.platform and hold.organization_id in (None, row.organization_id)
        )
        stood_still, counted_to = timedelta(), row.first_failed_at
        for start, end in held:
            stood_still += max(end - max(start, counted_to), timedelta())
            counted_to = max(counted_to, end)
        return (row.deadline_at - now + stood_still).total_seconds()

    async def finish(
        self,
        results: Sequence[Result],
        *,
        owner: Owner,
        deadline: float,
        ordered: bool,
        token: UUID | None = None,
    ) -> list[Finished | Busy]:
        if token is not None and token in self._answered:
            return cast("list[Finished | Busy]", self._answered[token])
        answers: list[Finished | Busy] = []
        for result in results:
            row = self.state.deliveries.get(result.delivery_id)
            if row is None:
                answers.append(Finished(applied=False, status="unknown", outcome=None, hop=0))
            else:
                answers.append(self._finish(row, result, owner, deadline, ordered))
        self._remember(token, answers)
        return answers

    def _remember(self, token: UUID | None, answers: object) -> None:
        """What a call answered, for its repetition."""
        if token is not None:
            self._answered[token] = answers
            while len(self._answered) > _CALLS_KEPT:
                del self._answered[next(iter(self._answered))]

    def _finish(self, row: DeliveryRecord, result: Result, owner: Owner, deadline: float, ordered: bool) -> Finished:
        now = self.state.clock()
        ours = (row.attempts, row.lease_owner, row.lease_epoch) == (result.attempt, owner.name, owner.epoch)
        if result.then == "delivered":
            applies = row.status != "delivered" and row.outcome != "rejected"
        else:
            applies = ours and row.unfinished
        self._write_attempt(row, result)
        if ours and result.counted:
            row.counted += 1
        if ours and result.then != "delivered":
            row.last_failed_at = now
            if result.counted:
                row.first_failed_at = row.first_failed_at or now
                row.deadline_at = row.deadline_at or now + timedelta(seconds=deadline)
        if not (applies or ours):
            return Finished(applied=False, status=row.status, outcome=row.outcome, hop=row.hop)
        if applies and result.settles:
            row.uncertain_since = None
        elif not result.fate_known:
            row.uncertain_since = row.uncertain_since or row.lease_started_at or now
        row.lease_owner = row.lease_epoch = row.lease_started_at = row.lease_until = None
        row.updated_at = now
        if not applies:
            return Finished(applied=False, status=row.status, outcome=row.outcome, hop=row.hop)
        row.error_code, row.error_message = result.error_code, result.error_message
        if result.leaves:
            row.batch_id = None
        if result.batch_limit is not None:
            row.batch_limit = min(row.batch_limit or result.batch_limit, result.batch_limit)
        if result.transaction_id is not None and result.transaction_id != row.transaction_id:
            # What was said of an earlier transaction is not said of this one.
            row.transaction_id, row.platform_status = result.transaction_id, None
            row.platform_status_contradicted = False
        row.next_attempt_at = None
        if result.then == "delivered":
            row.status, row.outcome, row.delivered_at, row.mocked = "delivered", "delivered", now, result.mocked
            row.uncertain_since = None
        elif result.then == "dead":
            row.status, row.outcome = "failed", "dead"
            row.hop, row.published_at, row.unannounced = row.hop + 1, now, True
        else:
            # Who goes on in a smaller batch is looked for, not retried.
            row.retries += result.batch_limit is None
            row.status, row.hop = "retrying", row.hop + 1
            row.published_at, row.publish_delay = now, result.delay
            row.next_attempt_at = now + timedelta(seconds=result.delay)
        woken = self._wake_siblings(row) if ordered and result.then != "later" else ()
        return Finished(applied=True, status=row.status, outcome=row.outcome, hop=row.hop, woken=woken)

    def _write_attempt(self, row: DeliveryRecord, result: Result) -> None:
        key = (row.id, result.attempt)
        known = self.state.attempts.get(key)
        if result.attempt == 0 or (known is not None and result.outcome == "unknown_outcome"):
            return
        late = known is not None and known.outcome == "unknown_outcome"
        self.state.attempts[key] = AttemptRow(
            attempt=result.attempt,
            started_at=known.started_at if known else result.started_at or self.state.clock(),
            duration_ms=result.duration_ms,
            http_status=result.http_status,
            # A late answer adds what it says and lifts nothing: the next attempt was begun without it.
            outcome="unknown_outcome" if late else result.outcome,
            counted=late or result.counted,
            error_code=result.error_code,
            error_message=result.error_message,
            transaction_id=result.transaction_id,
        )

    def _wake_siblings(self, ended: DeliveryRecord) -> tuple[Request, ...]:
        siblings = sorted(self._siblings(ended), key=lambda row: row.seq)[:_WAKE_AT_ONCE]
        return tuple(self._republish(row) for row in siblings if row.blocked)

    async def park(self, waiting: Sequence[Parked]) -> list[Changed | None]:
        return [self._park(one) for one in waiting]

    def _park(self, one: Parked) -> Changed | None:
        now = self.state.clock()
        row = self.state.deliveries.get(one.delivery_id)
        leased = row is not None and row.lease_until is not None and row.lease_until > now
        if row is None or leased or not row.unfinished or row.hop != one.hop:
            return None
        delay = one.delay
        if one.organization_id:
            if row.organization_id != one.organization_id:
                return Changed(row.organization_id, row.generation)
            row.error_code = "ORG_FORBIDDEN"
            touched = self.state.company_touched.get((row.company_id, row.platform))
            if touched is not None and touched > now - timedelta(seconds=5):
                delay = min(delay, 1.0)
        row.blocked, row.published_hop, row.updated_at = True, row.hop, now
        if delay > 0:
            row.next_attempt_at = max(row.next_attempt_at or now, now + timedelta(seconds=delay))
        return None

    async def release_leases(self, owner: Owner) -> int:
        now = self.state.clock()
        released = 0
        for row in self.state.deliveries.values():
            earlier = row.lease_owner == owner.name and (row.lease_epoch or 0) < owner.epoch
            if row.unfinished and earlier and row.lease_until is not None and row.lease_until > now:
                row.lease_until = now
                released += 1
        return released

    async def report_progress(self, progress: Sequence[Progress]) -> None:
        now = self.state.clock()
        for item in progress:
            self.state.progress[item.topic, item.partition] = now - timedelta(seconds=item.age)
            self.state.progress_reported[item.topic, item.partition] = now

    async def read_progress(self, topics: Sequence[str], *, within: float) -> dict[tuple[str, int], float]:
        now = self.state.clock()
        return {
            key: (now - moment).total_seconds()
            for key, moment in self.state.progress.items()
            if key[0] in topics and self.state.progress_reported[key] > now - timedelta(seconds=within)
        }

    async def sweep(
        self, read_up_to: Sequence[ReadUpTo], *, ordered: Sequence[str], grace: float, limit: int
    ) -> list[Swept]:
        swept: list[Swept] = []
        for row in sorted(self.state.deliveries.values(), key=lambda row: row.seq):
            if len(swept) == limit:
                break
            reason = self._idle_reason(row, read_up_to, ordered, grace)
            if reason is not None:
                swept.append(
                    Swept(self._republish(row), reason, row.error_code, row.error_message, self._last_outcome(row))
                )
        return swept

    def _idle_reason(
        self, row: DeliveryRecord, read_up_to: Sequence[ReadUpTo], ordered: Sequence[str], grace: float
    ) -> SweepReason | None:
        now = self.state.clock()
        if row.platform not in {item.platform for item in read_up_to}:
            return None
        if row.unannounced:
            return "unannounced" if row.published_at < now - timedelta(seconds=grace) else None
        if not row.unfinished:
            return None
        if (row.lease_until is not None and row.lease_until > now) or (row.next_attempt_at or now) > now:
            return None
        if row.platform in ordered and self._elder_unfinished(row):
            return None
        if row.lease_owner is not None:
            return "lease_ended"
        if row.published_hop < row.hop and row.published_at < now - timedelta(seconds=grace + row.publish_delay):
            return "unpublished"
        if row.blocked:
            return "woken" if self._may_be_woken(row, ordered) else None
        if row.published_hop != row.hop:
            return None
        ages = [item.age for item in read_up_to if (item.platform, item.delay) == (row.platform, row.publish_delay)]
        if any(row.published_at < now - timedelta(seconds=age) for age in ages):
            return "missing"
        # A delay that no retry topic has any more: nobody reads where its record was put.
        overdue = (row.next_attempt_at or row.published_at) < now - timedelta(seconds=grace)
        return "missing" if not ages and row.publish_delay > 0 and overdue else None

    def _may_be_woken(self, row: DeliveryRecord, ordered: Sequence[str]) -> bool:
        """Parked without a time, where order does not matter: whoever parked it wakes it as there is room. Where that
        was lost, a company's eldest are found here."""
        if row.platform in ordered or (row.next_attempt_at is not None and row.next_attempt_at >= row.updated_at):
            return True
        if row.updated_at >= self.state.clock() - timedelta(seconds=_PARKED_SECONDS):
            return False
        return sum(other.seq < row.seq for other in self._siblings(row)) < _PARKED_LOOKED_AT

    def _republish(self, row: DeliveryRecord) -> Request:
        row.hop += 1
        row.blocked, row.publish_delay = False, 0.0
        row.published_at = row.updated_at = self.state.clock()
        return self._request(row)

    def _last_outcome(self, row: DeliveryRecord) -> str | None:
        attempt = self.state.attempts.get((row.id, row.attempts))
        return None if attempt is None else attempt.outcome

    def _siblings(self, row: DeliveryRecord) -> Iterable[DeliveryRecord]:
        return (
            other
            for other in self.state.deliveries.values()
            if other.unfinished
            and other.id != row.id
            and (other.platform, other.company_id) == (row.platform, row.company_id)
        )

    def _elder_unfinished(self, row: DeliveryRecord) -> bool:
        return any(other.seq < row.seq for other in self._siblings(row))

    def _request(self, row: DeliveryRecord) -> Request:
        event = self.state.events[row.event_id]
        return Request(
            delivery_id=row.id,
            event_id=row.event_id,
            company_id=row.company_id,
            platform=row.platform,
            hop=row.hop,
            body=event.body,
            traceparent=row.traceparent,
            attempt=row.attempts,
            replays=row.replays,
            origin=event.origin,
            first_failed_at=row.first_failed_at,
        )


def _unsure_since(row: DeliveryRecord) -> datetime | None:
    """Since when an attempt of it may have had its effect."""
    return row.uncertain_since or (row.lease_started_at if row.lease_owner is not None else None)
