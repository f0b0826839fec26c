"""One delivery, as a pipeline of named steps: admit → begin → send → finish → route.

Each step returns a value, and each crash between two of them is survivable: before begin nothing has happened; after it
the row is leased, and whoever comes next finds an attempt without outcome; after finish the ledger knows, and a record
that was not published is found by the sweeper.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec

from connectors.contract import Connector, Outcome, Refused, Shipment, Unavailable
from delivery.dead_letters import UNKNOWN_OUTCOME, DeadLetters, why_unrepeatable
from delivery.decision import Decision, decide
from delivery.gate import Gate, Pass
from delivery.micro_batch import MicroBatcher
from delivery.observer import AttemptMade, Observer, RecordSkipped
from delivery.patience import BUSY_SECONDS, WAIT_FOR_LEASE, WAIT_FOR_TIME, patiently
from delivery.places import Places
from delivery.ports import IncomingRecord, OutgoingRecord
from delivery.preparation import Preparation, Prepared
from delivery.publication import Publication
from delivery.records import DeliveryRequest, read_request, request_record, retry_record, waited
from delivery.retry_schedule import RetrySchedule
from delivery.sending import LEASE_SPENT, send
from delivery_log.contract import (
    Busy,
    Changed,
    Claim,
    DeliveryLedger,
    Finished,
    Go,
    Leased,
    Mismatch,
    NotYet,
    Owner,
    Parked,
    Result,
    Unknown,
    Unrepeatable,
    Verdict,
)
from schemas import ImpactMetricEvent, Topics, Unreadable, decode
from schemas.trace import child_of

_LEASED_PER_PLACE = 3


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, and how many requests may be in flight."""

    in_flight: int = 100
    lease: float = 60.0
    request_timeout: float = 30.0
    key_memory: float = 24 * 3600.0


class _Begun(NamedTuple):
    verdict: Verdict
    asked_at: float
    """The loop's time when the ledger was asked: the lease has run since then at most."""


class _Sent(NamedTuple):
    """A request that was made, and what came of it."""

    go: Go
    outcome: Outcome
    started_at: datetime
    duration: float
    traceparent: str
    counts: bool


class DeliveryEngine:
    """The deliveries of one platform. `deliver` one record at a time for a company (see `KeyedDispatcher`)."""

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
        read: Callable[[bytes], ImpactMetricEvent | Unreadable] = decode,
    ) -> None:
        self._connector = connector
        self._read = read
        self._platform = connector.name
        self._ordered = connector.ordering == "keyed"
        self._gate = gate
        self._ledger = ledger
        self._publication = publication
        self._topics = topics
        self._schedule = schedule
        self._owner = owner
        self._observer = observer
        self._settings = settings
        # One delivery once a call: a doubled record of an additive platform arrives beside its twin.
        self._begin: MicroBatcher[Claim, _Begun] = MicroBatcher(
            self._begin_all, key=lambda claim: claim.delivery_id, for_callers=True
        )
        self._finish: MicroBatcher[Result, Finished | Busy] = MicroBatcher(
            self._finish_all, key=lambda result: result.delivery_id
        )
        self._park: MicroBatcher[Parked, Changed | None] = MicroBatcher(self._park_all, key=lambda one: one.delivery_id)
        self._preparation = Preparation(connector, observer)
        self._dead_letters = DeadLetters(self._platform, topics, publication, observer)
        self._at_work: dict[UUID, int] = {}
        # Leased and waiting for a place in flight, or in flight: a begin of many rows costs the ledger little more than
        # one of few, and so the places in flight are never short of what may go.
        self._leased = Places(_LEASED_PER_PLACE * settings.in_flight)
        self._places = Places(settings.in_flight)

    async def deliver(self, record: IncomingRecord) -> None:
        """Returns when the record may be acked: it has led to an outcome, to another record, or to nothing."""
        request = read_request(record, self._platform, self._read)
        if isinstance(request, Unreadable):
            await self._dead_letters.publish_unreadable(record, request)
            return
        if self._at_work.get(request.delivery_id) == request.hop:
            # The same record again, while the first is on its way through here. Were it to go on its own way, it might
            # park the row under the other's feet.
            self._observer.notice(RecordSkipped(self._platform, request.delivery_id, "doubled"))
            return
        self._at_work[request.delivery_id] = request.hop
        try:
            await self._deliver(request)
        finally:
            if self._at_work.get(request.delivery_id) == request.hop:
                del self._at_work[request.delivery_id]

    async def _deliver(self, request: DeliveryRequest) -> None:
        prepared = self._preparation.prepare(request)
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + WAIT_FOR_LEASE
        while True:
            verdict = await self._try(prepared)
            if verdict is None:
                return
            if isinstance(verdict, Changed):
                self._preparation.believe(request.event.company_id, verdict.organization_id)
                prepared = self._preparation.rebuild(request, verdict.organization_id, verdict.generation)
            elif isinstance(verdict, NotYet) and verdict.remaining <= WAIT_FOR_TIME:
                await asyncio.sleep(verdict.remaining)
            elif isinstance(verdict, Leased) and clock() < give_up_at:
                await asyncio.sleep(min(verdict.remaining, 0.25))
            else:
                break
        if isinstance(verdict, Unknown | Mismatch):
            await self._dead_letters.publish_foreign(request, _name(verdict))
        else:
            self._observer.notice(RecordSkipped(self._platform, request.delivery_id, _name(verdict)))

    async def _try(self, prepared: Prepared) -> Verdict | None:
        """admit, begin, and where it may go, the rest. None: it is done; else why it did not go."""
        # Of a company met for the first time nobody knows the organization: the ledger tells it (`Changed`).
        leave = None
        if prepared.organization_id:
            wait = self._gate.organization_wait(prepared.organization_id)
            if wait > 0:
                return await self._park_for(prepared.request, wait, prepared.organization_id)
            leave = await self._gate.enter(prepared.organization_id)
        sent = None
        try:
            # Held from the lease to the platform's answer, and not while this one waits for its time, or for the ledger
            # to write the answer down.
            async with self._leased:
                verdict, asked_at = await self._begin.submit(prepared.claim())
                if isinstance(verdict, Go):
                    used, leave = leave or await self._gate.enter(prepared.organization_id), None
                    sent = await self._attempt(prepared, verdict, asked_at, used)
        finally:
            if leave is not None:
                await self._gate.unused(leave)
        if sent is not None:
            await self._conclude(prepared.request, sent)
            return None
        if isinstance(verdict, Unrepeatable):
            await self._give_up(prepared, verdict)
            return None
        return verdict

    async def park(self, record: IncomingRecord) -> None:
        """For a record of a company that has enough in memory: its row waits in the ledger. May be acked then."""
        request = read_request(record, self._platform, self._read)
        if isinstance(request, Unreadable):
            await self._dead_letters.publish_unreadable(record, request)
        else:
            await self._park_for(request, 0.0)

    async def _park_for(self, request: DeliveryRequest, delay: float, organization: str = "") -> Changed | None:
        """`Changed`: what it would have waited behind is not its organization any more."""
        changed = await self._park.submit(Parked(request.delivery_id, request.hop, delay, organization))
        if changed is None:
            self._observer.notice(RecordSkipped(self._platform, request.delivery_id, "parked"))
        return changed

    async def _park_all(self, waiting: Sequence[Parked]) -> Sequence[Changed | None]:
        return await patiently(lambda: self._ledger.park(waiting), self._observer, "park")

    # ---- begin

    async def _begin_all(self, claims: Sequence[Claim]) -> Sequence[_Begun]:
        # Once a call, not once a try: a try whose reply was lost may have leased them all.
        token, asked_at = uuid4(), asyncio.get_running_loop().time()

        async def begin() -> Sequence[_Begun]:
            verdicts = await self._ledger.begin(
                claims,
                owner=self._owner,
                lease=self._settings.lease,
                ordered=self._ordered,
                key_memory=self._settings.key_memory,
                token=token,
            )
            return [_Begun(verdict, asked_at) for verdict in verdicts]

        return await patiently(begin, self._observer, "begin")

    # ---- send, finish, route

    async def _attempt(self, prepared: Prepared, go: Go, asked_at: float, leave: Pass) -> _Sent:
        traceparent = child_of(prepared.request.traceparent)
        try:
            async with self._places:
                started_at, started = datetime.now(UTC), time.monotonic()
                outcome = await self._send(prepared, go, traceparent, asked_at)
        except asyncio.CancelledError:
            self._gate.abandoned(leave)
            raise
        # A worker that stood still is no fault of the delivery's.
        counts = self._gate.used(leave, outcome) and outcome.error_code != LEASE_SPENT
        return _Sent(go, outcome, started_at, time.monotonic() - started, traceparent, counts)

    async def _conclude(self, request: DeliveryRequest, sent: _Sent) -> None:
        """finish, route."""
        go, outcome = sent.go, sent.outcome
        decision = decide(outcome, go, self._schedule, counts=sent.counts)
        finished = await self._finished(
            Result(
                delivery_id=request.delivery_id,
                attempt=go.attempt,
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
                mocked=_mocked(outcome),
            )
        )
        self._observer.notice(
            AttemptMade(
                platform=self._platform,
                delivery_id=request.delivery_id,
                event_id=request.event.event_id,
                company_id=request.event.company_id,
                attempt=go.attempt,
                outcome=outcome,
                duration=sent.duration,
                counted=decision.counted,
                decision=decision.then,
                delay=decision.delay,
                idempotency_key=go.idempotency_key,
                traceparent=sent.traceparent,
                applied=finished.applied,
                waited=waited(request),
            )
        )
        await self._route(request, go, outcome, decision, finished)

    async def _send(self, prepared: Prepared, go: Go, traceparent: str, asked_at: float) -> Outcome:
        if prepared.defect is not None:
            return Unavailable(
                error_code="INTERNAL_ERROR", error_message=f"no body: {prepared.defect}", fate_known=True
            )
        shipment = Shipment(
            delivery_id=prepared.request.delivery_id,
            event=prepared.request.event,
            organization_id=prepared.organization_id,
            generation=prepared.generation,
            body=prepared.body,
            idempotency_key=go.idempotency_key,
            traceparent=traceparent,
        )
        [outcome] = await send(
            self._connector,
            [shipment],
            go.idempotency_key,
            asked_at=asked_at,
            lease=self._settings.lease,
            request_timeout=self._settings.request_timeout,
            observer=self._observer,
        )
        return outcome

    async def _finished(self, result: Result) -> Finished:
        """However often the row has to be asked for: the platform's answer must not be lost."""
        while True:
            answer = await self._finish.submit(result)
            if isinstance(answer, Finished):
                return answer
            await asyncio.sleep(BUSY_SECONDS)

    async def _finish_all(self, results: Sequence[Result]) -> Sequence[Finished | Busy]:
        token = uuid4()
        return await patiently(
            lambda: self._ledger.finish(
                results, owner=self._owner, deadline=self._schedule.deadline, ordered=self._ordered, token=token
            ),
            self._observer,
            "finish",
        )

    async def _route(
        self, request: DeliveryRequest, go: Go, outcome: Outcome, decision: Decision, finished: Finished
    ) -> None:
        outgoing: list[OutgoingRecord] = []
        now = datetime.now(UTC)
        if finished.applied and decision.then == "later":
            tier = self._schedule.tier(go.counted + decision.counted, _after(outcome))
            outgoing.append(
                retry_record(
                    request,
                    decision,
                    tier=tier,
                    hop=finished.hop,
                    attempt=go.attempt,
                    topic=self._topics.retry(self._platform, tier),
                    now=now,
                    deadline=self._schedule.deadline if go.to_deadline is None else go.to_deadline,
                    error_message=outcome.error_message,
                )
            )
        elif finished.applied and decision.then == "dead":
            kind = "refused" if isinstance(outcome, Refused) else "deadline"
            outgoing.append(
                self._dead_letters.letter(
                    request, kind, decision.error_code, outcome.error_message, go.attempt, finished.hop
                )
            )
        await self._publish(outgoing, finished)

    async def _publish(self, outgoing: list[OutgoingRecord], finished: Finished) -> None:
        outgoing.extend(request_record(woken, self._topics) for woken in finished.woken)
        await self._publication.publish(outgoing)

    # ---- what cannot be sent

    async def _give_up(self, prepared: Prepared, verdict: Unrepeatable) -> None:
        """Sent perhaps, and not to be sent again by itself: a dead letter that only an operator revives."""
        message = why_unrepeatable(verdict)
        request = prepared.request
        finished = await self._finished(
            Result(
                delivery_id=request.delivery_id,
                attempt=verdict.attempts,
                outcome="unknown_outcome",
                counted=False,
                then="dead",
                fate_known=False,
                error_code=UNKNOWN_OUTCOME,
                error_message=message,
            )
        )
        outgoing = []
        if finished.applied:
            outgoing.append(
                self._dead_letters.letter(
                    request, "unknown_outcome", UNKNOWN_OUTCOME, message, verdict.attempts, finished.hop
                )
            )
        await self._publish(outgoing, finished)


def _name(verdict: Verdict) -> str:
    return {"AlreadyDone": "already_done", "NotYet": "not_yet"}.get(
        type(verdict).__name__, type(verdict).__name__.lower()
    )


def _after(outcome: Outcome) -> float | None:
    return getattr(outcome, "after", None)


def _mocked(outcome: Outcome) -> bool:
    return outcome.transaction_id is not None and outcome.transaction_id.startswith("mock-")
