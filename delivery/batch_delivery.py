"""The deliveries of an additive platform: whatever waits while the quota makes it wait goes in one request.

admit → begin → send → finish → route, as in `engine`, with groups instead of records. A group is taken once there is
leave for a request: companies in turn, up to the connector's batch size, and nothing lingers while there is none. While
a group is begun the next one fills. A group that was sealed and not answered is loaded whole from the ledger by the
first member that comes back, and sent as it was.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import msgspec

from connectors.contract import Connector
from delivery.dead_letters import DeadLetters
from delivery.engine import EngineSettings
from delivery.gate import Gate, Pass
from delivery.intake import IN_MEMORY
from delivery.micro_batch import MicroBatcher
from delivery.observer import Observer, RecordSkipped
from delivery.parcels import Halved, Member, Parcels
from delivery.parking import Parking
from delivery.patience import BUSY_SECONDS, WAIT_FOR_LEASE, WAIT_FOR_TIME, patiently
from delivery.places import Places
from delivery.ports import IncomingRecord
from delivery.preparation import Preparation, Prepared
from delivery.publication import Publication
from delivery.records import DeliveryRequest, read_request, request_again, request_record
from delivery.retry_schedule import RetrySchedule
from delivery.turns import Turns
from delivery_log.contract import (
    Changed,
    Claim,
    DeliveryLedger,
    Dissolved,
    Go,
    Leased,
    Limited,
    Mismatch,
    NotYet,
    Owner,
    Resend,
    Sealed,
    SealedClaim,
    Unknown,
    Unrepeatable,
    Verdict,
)
from schemas import ImpactMetricEvent, Topics, Unreadable, decode

_ROWS_AT_ONCE = 500
_NO_GENERATION = -1


@dataclass(slots=True, eq=False)
class _Item:
    """A delivery in memory. `record` None: it goes on without one, which is on its way."""

    record: IncomingRecord | None
    request: DeliveryRequest
    most: int
    """So many in a request at most, itself among them."""
    told: tuple[str, int] | None = None
    """Organization and generation, where the ledger has said them."""
    give_up_at: float | None = None
    ended: bool = False
    followers: list[IncomingRecord] = field(default_factory=list)
    """Records of the same delivery with later hops: one is at work at a time."""

    @property
    def company(self) -> UUID:
        return self.request.event.company_id


class _Lane:
    """What waits for leave of one quota scope, to go with `most` in a request at most."""

    def __init__(self, scope: str, most: int, at_once: int) -> None:
        self.scope = scope
        self.most = most
        self.waiting: Turns[_Item] = Turns()
        self.beginning = Places(at_once)
        self.running = False


class BatchDelivery:
    """`accept` takes a record, and waits where there is no room; `done` is told when it may be acked. At most
    `in_memory` records are held, a quarter of them of one company: what is over waits in the ledger. A defect is given
    to `on_defect`, and its records are done with: the sweeper publishes them again."""

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
        done: Callable[[IncomingRecord], None],
        on_defect: Callable[[Exception], None],
        in_memory: int = IN_MEMORY,
        read: Callable[[bytes], ImpactMetricEvent | Unreadable] = decode,
    ) -> None:
        self._read = read
        self._platform = connector.name
        self._batch_size = connector.batch_size
        self._gate = gate
        self._ledger = ledger
        self._publication = publication
        self._topics = topics
        self._owner = owner
        self._observer = observer
        self._settings = settings
        self._done = done
        self._on_defect = on_defect
        self._preparation = Preparation(connector, observer)
        self._parking = Parking(self._platform, ledger, publication, topics, observer)
        self._dead_letters = DeadLetters(self._platform, topics, publication, observer)
        self._places = Places(settings.in_flight)
        groups = max(1, _ROWS_AT_ONCE // connector.batch_size)
        self._parcels = Parcels(
            connector=connector,
            gate=gate,
            ledger=ledger,
            publication=publication,
            topics=topics,
            schedule=schedule,
            owner=owner,
            observer=observer,
            settings=settings,
            places=self._places,
            dead_letters=self._dead_letters,
            at_once=groups,
        )
        self._begin: MicroBatcher[tuple[Claim, ...], tuple[list[Verdict], float]] = MicroBatcher(
            self._begin_all, largest=groups, for_callers=True
        )
        self._share = max(1, in_memory // 4)
        self._room = Places(in_memory)
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._at_work: dict[UUID, _Item] = {}
        self._of_company: Counter[UUID] = Counter()
        self._sealed: dict[UUID, list[_Item]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- in and out of memory

    async def accept(self, record: IncomingRecord) -> None:
        """Returns once the record has a place in memory, or needs none any more."""
        await self._room.acquire()
        request = read_request(record, self._platform, self._read)
        if isinstance(request, Unreadable):
            self._start(self._reject(record, request))
        else:
            self._parking.came_back(request.event.company_id)
            self._take_in(record, request)

    async def drain(self, seconds: float) -> None:
        """Waits for what is under way, for at most so many seconds; what is left was not acked, and comes again."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while self._tasks and clock() < until:
            await asyncio.wait(self._tasks, timeout=until - clock(), return_when=asyncio.FIRST_COMPLETED)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take_in(self, record: IncomingRecord, request: DeliveryRequest) -> None:
        at_work = self._at_work.get(request.delivery_id)
        if at_work is not None:
            self._meet_twin(at_work, record, request)
        elif self._of_company[request.event.company_id] >= self._share:
            self._start(self._park(record, request))
        else:
            self._go_on(_Item(record, request, self._batch_size))

    def _go_on(self, item: _Item) -> None:
        self._at_work[item.request.delivery_id] = item
        self._of_company[item.company] += 1
        self._queue(item)

    def _meet_twin(self, at_work: _Item, record: IncomingRecord, request: DeliveryRequest) -> None:
        """Were it to go its own way, it might park the row under the other's feet."""
        if request.hop > at_work.request.hop:
            at_work.followers.append(record)
        elif request.hop == at_work.request.hop and at_work.record is None:
            at_work.record = record
        else:
            verdict = "doubled" if request.hop == at_work.request.hop else "stale"
            self._observer.notice(RecordSkipped(self._platform, request.delivery_id, verdict))
            self._let_go(record)

    def _end(self, item: _Item) -> None:
        """Its outcome is durable, or it has led to nothing."""
        if item.ended:
            return
        item.ended = True
        del self._at_work[item.request.delivery_id]
        self._of_company[item.company] -= 1
        if not self._of_company[item.company]:
            del self._of_company[item.company]
        if item.record is not None:
            self._let_go(item.record)
        for record in item.followers:
            request = read_request(record, self._platform, self._read)
            if not isinstance(request, Unreadable):  # it was read before
                self._take_in(record, request)
        self._fill_up(item.company)

    def _let_go(self, record: IncomingRecord) -> None:
        self._room.release()
        self._done(record)

    async def _reject(self, record: IncomingRecord, unreadable: Unreadable) -> None:
        await self._dead_letters.publish_unreadable(record, unreadable)
        self._let_go(record)

    async def _park(self, record: IncomingRecord, request: DeliveryRequest) -> None:
        """The company has its share of memory: what is over waits in the ledger, so that others get their turn."""
        await self._parking.park(request)
        self._observer.notice(RecordSkipped(self._platform, request.delivery_id, "parked"))
        self._let_go(record)
        self._fill_up(request.event.company_id)

    def _fill_up(self, company: UUID) -> None:
        held = self._of_company.get(company, 0)
        if self._parking.may_wake(company, held, self._share):
            self._start(self._parking.wake(company, self._share - held))

    # ---- admit

    def _organization(self, item: _Item) -> str:
        return item.told[0] if item.told else self._preparation.believed(item.company)

    def _queue(self, item: _Item, *, again: bool = False) -> None:
        """`again`: it had its turn, and has the next one."""
        scope = self._gate.scope_of(self._organization(item))
        lane = self._lanes.get((scope, item.most))
        if lane is None:
            # Groups are begun one after another, so that the next one fills. Single records would only wait in a row.
            at_once = max(1, self._settings.in_flight // item.most)
            lane = self._lanes[scope, item.most] = _Lane(scope, item.most, at_once)
        if again:
            lane.waiting.put_back(item.company, item)
        else:
            lane.waiting.put(item.company, item)
        if not lane.running:
            lane.running = True
            self._start(self._run(lane))

    async def _run(self, lane: _Lane) -> None:
        try:
            while lane.waiting:
                await lane.beginning.acquire()
                leave = await self._gate.enter_scope(lane.scope)
                await self._hold_place(leave)
                self._start(self._group(lane, lane.waiting.take(lane.most), leave))
        except Exception as error:
            self._on_defect(error)
            for item in lane.waiting.take(len(lane.waiting)):
                self._end(item)
        finally:
            lane.running = False
            if not lane.waiting:
                del self._lanes[lane.scope, lane.most]

    async def _hold_place(self, leave: Pass) -> None:
        try:
            await self._places.acquire()
        except asyncio.CancelledError:
            self._gate.abandoned(leave)
            raise

    async def _give_back(self, leave: Pass) -> None:
        self._places.release()
        await self._gate.unused(leave)

    async def _admit_all(self, lane: _Lane, items: Sequence[_Item]) -> list[tuple[_Item, Prepared]]:
        """Of companies met for the first time nobody knows the organization: the ledger is asked for it before, so that
        the others do not go without them."""
        unknown = [item for item in items if self._organization(item) == ""]
        turned_away: set[_Item] = set()
        if unknown:
            asked = [self._preparation.prepare(item.request) for item in unknown]
            verdicts, _ = await self._begin.submit(tuple(_question(one) for one in asked))
            for item, one, verdict in zip(unknown, asked, verdicts, strict=True):
                if isinstance(verdict, Changed):
                    self._believe(item, verdict)
                else:
                    turned_away.add(item)
                    self._turn_away(item, one, verdict)
        here = [item for item in items if item not in turned_away]
        return [(item, prepared) for item in here if (prepared := self._admitted(lane, item)) is not None]

    def _admitted(self, lane: _Lane, item: _Item) -> Prepared | None:
        """None: it goes another way."""
        if item.told is None:
            prepared = self._preparation.prepare(item.request)
        else:
            prepared = self._preparation.rebuild(item.request, *item.told)
        organization = prepared.organization_id
        if lane.most > 1 and (prepared.defect is not None or organization in self._gate.holds.forbidden):
            # No body, or the probe of an organization that is held: nobody else shall suffer for it.
            item.most = 1
            self._queue(item, again=True)
            return None
        if self._gate.scope_of(organization) != lane.scope:
            self._queue(item, again=True)
            return None
        wait = self._gate.organization_wait(organization)
        if wait > 0:
            self._start(self._park_for(item, wait, organization))
            return None
        return prepared

    async def _park_for(self, item: _Item, delay: float, organization: str) -> None:
        changed = await self._parking.park(item.request, delay, organization)
        if changed is not None:
            # What it would have waited behind is not its organization any more.
            self._believe(item, changed)
            self._queue(item, again=True)
            return
        self._observer.notice(RecordSkipped(self._platform, item.request.delivery_id, "parked"))
        self._end(item)

    # ---- begin

    async def _group(self, lane: _Lane, items: Sequence[_Item], leave: Pass) -> None:
        """Holds leave for a request, and a place in flight."""
        admitted: list[tuple[_Item, Prepared]] = []
        going: list[_Item] = []
        try:
            try:
                admitted = await self._admit_all(lane, items)
                verdicts, asked_at = await self._begun([prepared for _, prepared in admitted])
            except BaseException:
                await self._give_back(leave)
                raise
            finally:
                lane.beginning.release()
            members: list[Member] = []
            for (item, prepared), verdict in zip(admitted, verdicts, strict=True):
                if isinstance(verdict, Go):
                    members.append(Member(prepared, verdict))
                    going.append(item)
                else:
                    self._turn_away(item, prepared, verdict)
            self._release_probes([prepared for _, prepared in admitted], members)
            if not members:
                await self._give_back(leave)
                return
            halved = await self._parcels.carry(members, leave, asked_at)
        except Exception as error:
            self._on_defect(error)
            for item in going or [item for item, _ in admitted] or items:
                self._end(item)
            return
        for item in going:
            self._end(item)
        self._go_again(halved)

    async def _begun(self, prepared: Sequence[Prepared]) -> tuple[list[Verdict], float]:
        if not prepared:
            return [], 0.0
        batch_id = uuid4() if len(prepared) > 1 else None
        claims = [msgspec.structs.replace(one.claim(), batch_id=batch_id) for one in prepared]
        return await self._begin.submit(tuple(claims))

    def _release_probes(self, admitted: Sequence[Prepared], members: Sequence[Member]) -> None:
        sent = {member.prepared.organization_id for member in members}
        for organization in {prepared.organization_id for prepared in admitted} - sent:
            self._gate.organization_unused(organization)

    def _turn_away(self, item: _Item, prepared: Prepared, verdict: Verdict) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(verdict, Changed):
            self._believe(item, verdict)
            self._queue(item, again=True)
        elif isinstance(verdict, Limited):
            item.most = verdict.most
            self._queue(item, again=True)
        elif isinstance(verdict, Sealed):
            self._join(verdict.batch_id, item)
        elif isinstance(verdict, NotYet) and verdict.remaining <= WAIT_FOR_TIME:
            self._start(self._queue_later(item, verdict.remaining))
        elif isinstance(verdict, Leased) and (item.give_up_at is None or now < item.give_up_at):
            item.give_up_at = item.give_up_at or now + WAIT_FOR_LEASE
            self._start(self._queue_later(item, min(verdict.remaining, BUSY_SECONDS)))
        elif isinstance(verdict, Unrepeatable):
            self._start(self._give_up(item, verdict))
        elif isinstance(verdict, Unknown | Mismatch):
            self._start(self._send_away(item, _name(verdict)))
        else:
            self._skip(item, verdict)

    def _believe(self, item: _Item, changed: Changed) -> None:
        self._preparation.believe(item.company, changed.organization_id)
        item.told = (changed.organization_id, changed.generation)

    def _skip(self, item: _Item, verdict: object) -> None:
        self._observer.notice(RecordSkipped(self._platform, item.request.delivery_id, _name(verdict)))
        self._end(item)

    async def _queue_later(self, item: _Item, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._queue(item, again=True)

    async def _give_up(self, item: _Item, verdict: Unrepeatable) -> None:
        await self._parcels.give_up([(item.request, verdict)], None)
        self._end(item)

    async def _send_away(self, item: _Item, kind: str) -> None:
        await self._dead_letters.publish_foreign(item.request, kind)
        self._end(item)

    def _go_again(self, halved: Sequence[Halved]) -> None:
        for request, most in halved:
            at_work = self._at_work.get(request.delivery_id)
            if at_work is None:
                self._go_on(_Item(None, request, most))

    async def _begin_all(self, groups: Sequence[tuple[Claim, ...]]) -> Sequence[tuple[list[Verdict], float]]:
        # Once a call, not once a try: a try whose reply was lost may have leased them all.
        token, asked_at = uuid4(), asyncio.get_running_loop().time()
        claims = [claim for group in groups for claim in group]
        verdicts = await patiently(
            lambda: self._ledger.begin(
                claims,
                owner=self._owner,
                lease=self._settings.lease,
                ordered=False,
                key_memory=self._settings.key_memory,
                token=token,
            ),
            self._observer,
            "begin",
        )
        answers = iter(verdicts)
        return [([next(answers) for _ in group], asked_at) for group in groups]

    # ---- a batch that was sealed before

    def _join(self, batch_id: UUID, item: _Item) -> None:
        """The first of its members that comes back brings the whole; the others wait for what becomes of it."""
        members = self._sealed.setdefault(batch_id, [])
        members.append(item)
        if len(members) == 1:
            self._start(self._resend(batch_id, self._gate.scope_of(self._organization(item))))

    async def _resend(self, batch_id: UUID, scope: str) -> None:
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + WAIT_FOR_LEASE
        verdict: Leased | NotYet | Dissolved | None = None
        halved: list[Halved] = []
        try:
            while True:
                verdict, halved = await self._try_again(batch_id, scope)
                if isinstance(verdict, Leased) and clock() < give_up_at:
                    await asyncio.sleep(min(verdict.remaining, BUSY_SECONDS))
                elif isinstance(verdict, NotYet) and verdict.remaining <= WAIT_FOR_TIME:
                    await asyncio.sleep(verdict.remaining)
                else:
                    break
        except Exception as error:
            self._on_defect(error)
        for item in self._sealed.pop(batch_id):
            if verdict is not None:
                self._observer.notice(RecordSkipped(self._platform, item.request.delivery_id, _name(verdict)))
            self._end(item)
        self._go_again(halved)

    async def _try_again(self, batch_id: UUID, scope: str) -> tuple[Leased | NotYet | Dissolved | None, list[Halved]]:
        """None: it was sent, or given up."""
        leave = await self._gate.enter_scope(scope)
        await self._hold_place(leave)
        try:
            members, verdict, asked_at = await self._begun_whole(batch_id)
        except BaseException:
            await self._give_back(leave)
            raise
        gos = verdict.members if isinstance(verdict, Resend) else ()
        going = [Member(one, go) for one, go in zip(members, gos, strict=False) if isinstance(go, Go)]
        if going:
            return None, await self._parcels.carry(going, leave, asked_at)
        await self._give_back(leave)
        given_up = [(one.request, go) for one, go in zip(members, gos, strict=False) if isinstance(go, Unrepeatable)]
        if given_up:
            await self._parcels.give_up(given_up, batch_id)
        if isinstance(verdict, Resend):
            return None, []
        if isinstance(verdict, Dissolved):
            await self._publication.publish([request_record(freed, self._topics) for freed in verdict.freed])
        return verdict, []

    async def _begun_whole(self, batch_id: UUID) -> tuple[list[Prepared], Resend | Leased | NotYet | Dissolved, float]:
        found = await patiently(lambda: self._ledger.sealed_batch(batch_id), self._observer, "sealed_batch")
        in_hand = {item.request.delivery_id: item.request for item in self._sealed[batch_id]}
        members = [
            self._preparation.rebuild(
                request_again(member.request, in_hand.get(member.request.delivery_id)),
                member.organization_id,
                member.generation,
            )
            for member in found
        ]
        token, asked_at = uuid4(), asyncio.get_running_loop().time()
        claims = [
            SealedClaim(
                delivery_id=one.request.delivery_id,
                organization_id=one.organization_id,
                generation=one.generation,
                payload_hash=one.payload_hash,
            )
            for one in members
        ]
        verdict = await patiently(
            lambda: self._ledger.begin_sealed(
                batch_id,
                claims,
                owner=self._owner,
                lease=self._settings.lease,
                key_memory=self._settings.key_memory,
                token=token,
            ),
            self._observer,
            "begin_sealed",
        )
        return members, verdict, asked_at


def _question(prepared: Prepared) -> Claim:
    """One that never may go: the answer says whose it is."""
    return msgspec.structs.replace(prepared.claim(), generation=_NO_GENERATION)


def _name(verdict: object) -> str:
    name = type(verdict).__name__
    return {"AlreadyDone": "already_done", "NotYet": "not_yet"}.get(name, name.lower())
