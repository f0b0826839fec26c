"""One request with one delivery or several, from leave to outcome: send → finish → route."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec

from connectors.contract import Connector, Outcome, Refused, Shipment, Unavailable
from delivery.batch_decision import Settled, decide_together
from delivery.dead_letters import UNKNOWN_OUTCOME, DeadLetters, why_unrepeatable
from delivery.decision import decide
from delivery.engine import EngineSettings
from delivery.gate import Gate, Pass
from delivery.micro_batch import MicroBatcher
from delivery.observer import AttemptMade, Observer, RequestMade
from delivery.patience import BUSY_SECONDS, patiently
from delivery.places import Places
from delivery.ports import OutgoingRecord
from delivery.preparation import Prepared
from delivery.publication import Publication
from delivery.records import DeliveryRequest, retry_record, waited
from delivery.retry_schedule import RetrySchedule
from delivery.sending import LEASE_SPENT, send
from delivery_log.contract import Busy, DeliveryLedger, Finished, Go, Owner, Result, Unrepeatable
from schemas import Topics
from schemas.identity import idempotency_key
from schemas.trace import child_of


class Member(NamedTuple):
    """A delivery that goes now."""

    prepared: Prepared
    go: Go


class Halved(NamedTuple):
    """A delivery that goes again at once, with so many in a request at most. Its record is on its way, too."""

    request: DeliveryRequest
    most: int


class _Sent(NamedTuple):
    outcomes: list[Outcome]
    started_at: datetime
    duration: float
    traceparent: str
    counts: bool


class Parcels:
    """One platform's. `places`: requests in flight."""

    def __init__(
        self,
        *,
        connector: Connector,
        gate: Gate,
        ledger: DeliveryLedger,
        publication: Publication,
        topics: Topics,
        schedule: RetrySchedule,
        owner: Owner,
        observer: Observer,
        settings: EngineSettings,
        places: Places,
        dead_letters: DeadLetters,
        at_once: int,
    ) -> None:
        self._connector = connector
        self._platform = connector.name
        self._gate = gate
        self._ledger = ledger
        self._publication = publication
        self._topics = topics
        self._schedule = schedule
        self._owner = owner
        self._observer = observer
        self._settings = settings
        self._places = places
        self._dead_letters = dead_letters
        self._finish: MicroBatcher[tuple[Result, ...], list[Finished | Busy]] = MicroBatcher(
            self._finish_all, largest=at_once
        )

    async def carry(self, members: Sequence[Member], leave: Pass, asked_at: float) -> list[Halved]:
        """The caller hands over its leave and its place in flight. `asked_at`: the loop's time when the ledger was
        asked for the lease."""
        # The order of the ids: a batch's content is the same whoever sends it again.
        parcel = sorted(members, key=lambda member: member.prepared.request.delivery_id.bytes)
        try:
            sent = await self._send(parcel, leave, asked_at)
        finally:
            self._places.release()
        settled = self._decide(parcel, sent)
        finished = await self._finished(
            [self._result(*one, sent) for one in zip(parcel, settled, sent.outcomes, strict=True)]
        )
        self._observer.notice(RequestMade(self._platform, len(parcel)))
        outgoing: list[OutgoingRecord] = []
        halved: list[Halved] = []
        for member, one, outcome, answer in zip(parcel, settled, sent.outcomes, finished, strict=True):
            self._tell(member, one, outcome, answer, sent)
            if not answer.applied or one.decision.then == "delivered":
                continue
            outgoing.append(self._record(member, one, outcome, answer))
            if one.batch_limit is not None:
                request = msgspec.structs.replace(member.prepared.request, hop=answer.hop)
                halved.append(Halved(request, one.batch_limit))
        await self._publication.publish(outgoing)
        return halved

    async def _send(self, parcel: Sequence[Member], leave: Pass, asked_at: float) -> _Sent:
        first = parcel[0]
        traceparent = child_of(first.prepared.request.traceparent)
        started_at, started = datetime.now(UTC), time.monotonic()
        outcomes: list[Outcome]
        try:
            if first.prepared.defect is not None:
                message = f"no body: {first.prepared.defect}"
                outcomes = [Unavailable(error_code="INTERNAL_ERROR", error_message=message, fate_known=True)]
            else:
                outcomes = await send(
                    self._connector,
                    [_shipment(member, traceparent) for member in parcel],
                    first.go.idempotency_key,
                    asked_at=asked_at,
                    lease=self._settings.lease,
                    request_timeout=self._settings.request_timeout,
                    observer=self._observer,
                )
        except BaseException:
            self._gate.abandoned(leave)
            raise
        duration = time.monotonic() - started
        organizations = [member.prepared.organization_id for member in parcel]
        counts = self._gate.used_together(leave, list(zip(organizations, outcomes, strict=True)))
        # A worker that stood still is no fault of the delivery's.
        counts = counts and outcomes[0].error_code != LEASE_SPENT
        return _Sent(outcomes, started_at, duration, traceparent, counts)

    def _decide(self, parcel: Sequence[Member], sent: _Sent) -> list[Settled]:
        if parcel[0].go.batch_id is None:
            [member], [outcome] = parcel, sent.outcomes
            return [Settled(decision=decide(outcome, member.go, self._schedule, counts=sent.counts))]
        return decide_together(
            sent.outcomes,
            [member.go for member in parcel],
            [member.prepared.organization_id for member in parcel],
            self._schedule,
            counts=sent.counts,
        )

    # ---- finish

    def _result(self, member: Member, settled: Settled, outcome: Outcome, sent: _Sent) -> Result:
        decision = settled.decision
        return Result(
            delivery_id=member.prepared.request.delivery_id,
            attempt=member.go.attempt,
            outcome=decision.outcome,
            counted=decision.counted,
            then=decision.then,
            delay=decision.delay,
            fate_known=decision.fate_known,
            started_at=sent.started_at,
            duration_ms=sent.duration * 1_000,
            http_status=outcome.http_status,
            error_code=decision.error_code,
            error_message=outcome.error_message,
            transaction_id=outcome.transaction_id,
            mocked=(outcome.transaction_id or "").startswith("mock-"),
            batch_id=member.go.batch_id,
            leaves=settled.leaves,
            batch_limit=settled.batch_limit,
            settles=settled.settles,
        )

    async def _finished(self, results: Sequence[Result]) -> list[Finished]:
        """However often the rows have to be asked for: the platform's answer must not be lost."""
        while True:
            answers = await self._finish.submit(tuple(results))
            finished = [answer for answer in answers if isinstance(answer, Finished)]
            if len(finished) == len(answers):
                return finished
            await asyncio.sleep(BUSY_SECONDS)

    async def _finish_all(self, parcels: Sequence[tuple[Result, ...]]) -> Sequence[list[Finished | Busy]]:
        token = uuid4()
        results = [result for parcel in parcels for result in parcel]
        answers = iter(
            await patiently(
                lambda: self._ledger.finish(
                    results, owner=self._owner, deadline=self._schedule.deadline, ordered=False, token=token
                ),
                self._observer,
                "finish",
            )
        )
        return [[next(answers) for _ in parcel] for parcel in parcels]

    # ---- route

    def _record(self, member: Member, settled: Settled, outcome: Outcome, finished: Finished) -> OutgoingRecord:
        request, decision = member.prepared.request, settled.decision
        if decision.then == "dead":
            kind = "refused" if isinstance(outcome, Refused) and decision.fate_known else "deadline"
            return self._dead_letters.letter(
                request, kind, decision.error_code, outcome.error_message, member.go.attempt, finished.hop
            )
        at_once = settled.batch_limit is not None
        tier = timedelta() if at_once else self._schedule.topic_for(decision.delay)
        topic = self._topics.deliveries(self._platform) if at_once else self._topics.retry(self._platform, tier)
        to_deadline = member.go.to_deadline
        return retry_record(
            request,
            decision,
            tier=tier,
            hop=finished.hop,
            attempt=member.go.attempt,
            topic=topic,
            now=datetime.now(UTC),
            deadline=self._schedule.deadline if to_deadline is None else to_deadline,
            error_message=outcome.error_message,
        )

    def _tell(self, member: Member, settled: Settled, outcome: Outcome, finished: Finished, sent: _Sent) -> None:
        request, decision = member.prepared.request, settled.decision
        self._observer.notice(
            AttemptMade(
                platform=self._platform,
                delivery_id=request.delivery_id,
                event_id=request.event.event_id,
                company_id=request.event.company_id,
                attempt=member.go.attempt,
                outcome=outcome,
                duration=sent.duration,
                counted=decision.counted,
                decision=decision.then if settled.batch_limit is None else "halved",
                delay=decision.delay,
                idempotency_key=member.go.idempotency_key,
                traceparent=sent.traceparent,
                applied=finished.applied,
                waited=waited(request),
            )
        )

    # ---- what may have been sent, and is not to be sent again by itself

    async def give_up(self, members: Sequence[tuple[DeliveryRequest, Unrepeatable]], batch_id: UUID | None) -> None:
        """A dead letter each, that only an operator revives."""
        finished = await self._finished(
            [
                Result(
                    delivery_id=request.delivery_id,
                    attempt=verdict.attempts,
                    outcome="unknown_outcome",
                    counted=False,
                    then="dead",
                    fate_known=False,
                    error_code=UNKNOWN_OUTCOME,
                    error_message=why_unrepeatable(verdict),
                    batch_id=batch_id,
                )
                for request, verdict in members
            ]
        )
        await self._publication.publish(
            [
                self._dead_letters.letter(
                    request, "unknown_outcome", UNKNOWN_OUTCOME, why_unrepeatable(verdict), verdict.attempts, answer.hop
                )
                for (request, verdict), answer in zip(members, finished, strict=True)
                if answer.applied
            ]
        )


def _shipment(member: Member, traceparent: str) -> Shipment:
    prepared = member.prepared
    return Shipment(
        delivery_id=prepared.request.delivery_id,
        event=prepared.request.event,
        organization_id=prepared.organization_id,
        generation=prepared.generation,
        body=prepared.body,
        # Its own, also in a batch, which has another: what tells this delivery from its mates.
        idempotency_key=idempotency_key(prepared.request.delivery_id, prepared.generation),
        traceparent=traceparent,
    )
