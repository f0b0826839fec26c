"""The delivery ledger in PostgreSQL: each method is one statement (`delivery_log/sql/`), built and read here."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from delivery_log.contract import (
    AlreadyDone,
    Arrival,
    BatchVerdict,
    Blocked,
    Busy,
    Cancelled,
    Changed,
    Claim,
    Finished,
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
    Result,
    Sealed,
    SealedClaim,
    SealedMember,
    Stale,
    Swept,
    Unknown,
    Unrepeatable,
    Verdict,
)
from delivery_log.postgres.batches import begin_sealed, sealed_batch, wake_parked
from delivery_log.postgres.database import Database, sql
from delivery_log.postgres.rows import go, origin, request
from schemas.identity import batch_key, delivery_id, idempotency_key
from schemas.trace import trace_id

_RECORD_EVENTS = sql("record_events")
_UNFINISHED_REQUESTS = sql("unfinished_requests")
_CONFIRM_PUBLISHED = sql("confirm_published")
_BEGIN = sql("begin")
_FINISH = sql("finish")
_RELEASE_LEASES = sql("release_leases")
_REPORT_PROGRESS = sql("report_progress")
_READ_PROGRESS = sql("read_progress")
_PARK = sql("park")
_SWEEP = sql("sweep")
_EVENT_BODIES = sql("event_bodies")

# A row that somebody else has locked is asked for again after this long.
_BUSY_SECONDS = 0.25

# Verdicts that carry nothing are the same object each time.
_PLAIN: dict[str, Verdict] = {
    "unknown": Unknown(),
    "mismatch": Mismatch(),
    "done": AlreadyDone(),
    "cancelled": Cancelled(),
    "stale": Stale(),
    "blocked": Blocked(),
}


class PostgresLedger:
    """`delivery_log.contract.DeliveryLedger` on a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def identity(self) -> str:
        rows = await self._database.fetch("select id from ledger_identity")
        return str(rows[0]["id"])

    async def next_epoch(self) -> int:
        rows = await self._database.fetch("select nextval('worker_epoch_seq') as epoch")
        return int(rows[0]["epoch"])

    async def record_events(self, arrivals: Sequence[Arrival]) -> list[Recorded]:
        recorded: list[Recorded | None] = [None] * len(arrivals)
        # Of one id twice in a call, the first is written and the others are held against it in the next round.
        remaining = list(range(len(arrivals)))
        while remaining:
            first: dict[UUID, int] = {}
            for index in remaining:
                first.setdefault(arrivals[index].event_id, index)
            batch = list(first.values())
            for index, answer in zip(batch, await self._record_distinct([arrivals[i] for i in batch]), strict=True):
                recorded[index] = answer
            remaining = [index for index in remaining if recorded[index] is None]
        return [answer for answer in recorded if answer is not None]

    async def _record_distinct(self, arrivals: Sequence[Arrival]) -> list[Recorded | None]:
        """None: a concurrent call wrote it after our snapshot; the next call sees it."""
        wishes = [
            (number, platform, delivery_id(arrival.event_id, platform))
            for number, arrival in enumerate(arrivals, 1)
            for platform in arrival.platforms
        ]
        origins = [arrival.origin for arrival in arrivals]
        rows = await self._database.fetch(
            _RECORD_EVENTS,
            [arrival.event_id for arrival in arrivals],
            [arrival.company_id for arrival in arrivals],
            [arrival.content_hash for arrival in arrivals],
            [arrival.body for arrival in arrivals],
            [arrival.traceparent for arrival in arrivals],
            [trace_id(arrival.traceparent) for arrival in arrivals],
            [origin and origin.topic for origin in origins],
            [origin and origin.partition for origin in origins],
            [origin and origin.offset for origin in origins],
            [wish[0] for wish in wishes],
            [wish[1] for wish in wishes],
            [wish[2] for wish in wishes],
        )
        known = [arrival.event_id for arrival, row in zip(arrivals, rows, strict=True) if row["known_hash"] is not None]
        unfinished = await self._unfinished_requests(known) if known else {}
        return [self._recorded(arrival, row, unfinished) for arrival, row in zip(arrivals, rows, strict=True)]

    def _recorded(self, arrival: Arrival, row: Any, unfinished: dict[UUID, list[Request]]) -> Recorded | None:
        if row["is_new"]:
            requests = tuple(
                Request(
                    delivery_id=delivery_id(arrival.event_id, platform),
                    event_id=arrival.event_id,
                    company_id=arrival.company_id,
                    platform=platform,
                    hop=1,
                    body=arrival.body,
                    traceparent=arrival.traceparent,
                    origin=arrival.origin,
                )
                for platform in row["platforms"] or ()
            )
            return Recorded(row["disposition"], requests, row["reason"])
        if row["known_hash"] is None:
            return None
        if row["known_hash"] != arrival.content_hash:
            return Recorded("conflict")
        same_record = origin(row) == arrival.origin
        requests = tuple(unfinished.get(arrival.event_id, ()))
        return Recorded("redelivered" if same_record else "duplicate", requests, row["reason"])

    async def _unfinished_requests(self, event_ids: list[UUID]) -> dict[UUID, list[Request]]:
        requests: dict[UUID, list[Request]] = {}
        for row in await self._database.fetch(_UNFINISHED_REQUESTS, event_ids):
            requests.setdefault(row["event_id"], []).append(request(row, row))
        return requests

    async def confirm_published(self, records: Sequence[tuple[UUID, int]]) -> None:
        ordered = sorted(records)
        await self._database.fetch(_CONFIRM_PUBLISHED, [record[0] for record in ordered], [r[1] for r in ordered])

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
        keys = [idempotency_key(claim.delivery_id, claim.generation) for claim in claims]
        rows = await self._database.fetch(
            _BEGIN,
            [claim.delivery_id for claim in claims],
            [claim.hop for claim in claims],
            [claim.content_hash for claim in claims],
            [claim.organization_id for claim in claims],
            [claim.generation for claim in claims],
            [claim.payload_hash for claim in claims],
            [claim.payload_sample for claim in claims],
            [str(key) for key in keys],
            token or uuid4(),
            owner.name,
            owner.epoch,
            lease,
            ordered,
            key_memory,
            [claim.batch_id for claim in claims],
            [None if claim.batch_id is None else str(batch_key(claim.batch_id)) for claim in claims],
        )
        return [_verdict(row, key) for row, key in zip(rows, keys, strict=True)]

    async def finish(
        self,
        results: Sequence[Result],
        *,
        owner: Owner,
        deadline: float,
        ordered: bool,
        token: UUID | None = None,
    ) -> list[Finished | Busy]:
        rows = await self._database.fetch(
            _FINISH,
            [result.delivery_id for result in results],
            [result.attempt for result in results],
            [result.outcome for result in results],
            [result.counted for result in results],
            [result.then for result in results],
            [result.delay for result in results],
            [result.fate_known for result in results],
            [result.started_at for result in results],
            [result.duration_ms for result in results],
            [result.http_status for result in results],
            [_storable(result.error_code) for result in results],
            [_storable(result.error_message) for result in results],
            [_storable(result.transaction_id) for result in results],
            [result.mocked for result in results],
            token or uuid4(),
            owner.name,
            owner.epoch,
            deadline,
            ordered,
            [result.batch_id for result in results],
            [result.leaves for result in results],
            [result.batch_limit for result in results],
            [result.settles for result in results],
        )
        finished: dict[int, Any] = {}
        woken: dict[tuple[UUID, str], list[Request]] = {}
        for sibling in await self._with_bodies([row for row in rows if row["kind"] == "woken"]):
            woken.setdefault((sibling.company_id, sibling.platform), []).append(sibling)
        busy = set()
        for row in rows:
            if row["kind"] == "finished":
                finished[row["ord"]] = row
            elif row["kind"] == "busy":
                busy.add(row["ord"])
        answers: list[Finished | Busy] = []
        for number in range(1, len(results) + 1):
            if number in busy:
                answers.append(Busy())
                continue
            found = finished.get(number)
            if found is None:  # no such row: nothing to say, and nothing to wake
                answers.append(Finished(applied=False, status="unknown", outcome=None, hop=0))
                continue
            ended = found["applied"] and found["outcome"] is not None
            siblings = woken.pop((found["company_id"], found["platform"]), []) if ended else []
            answers.append(
                Finished(
                    applied=found["applied"],
                    status=found["status"],
                    outcome=found["outcome"],
                    hop=found["hop"],
                    woken=tuple(siblings),
                )
            )
        return answers

    async def sealed_batch(self, batch_id: UUID) -> list[SealedMember]:
        return await sealed_batch(self._database, batch_id)

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
        bodies = self._with_bodies
        return await begin_sealed(self._database, bodies, batch_id, claims, owner, lease, key_memory, token or uuid4())

    async def wake_parked(self, platform: str, companies: Mapping[UUID, int]) -> list[Request]:
        return await self._with_bodies(await wake_parked(self._database, platform, companies))

    async def park(self, waiting: Sequence[Parked]) -> list[Changed | None]:
        ordered = sorted(waiting, key=lambda one: one.delivery_id)
        rows = await self._database.fetch(
            _PARK,
            [one.delivery_id for one in ordered],
            [one.hop for one in ordered],
            [one.delay for one in ordered],
            [one.organization_id for one in ordered],
        )
        moved = {row["id"]: Changed(row["organization_id"], row["generation"]) for row in rows}
        return [moved.get(one.delivery_id) for one in waiting]

    async def release_leases(self, owner: Owner) -> int:
        return len(await self._database.fetch(_RELEASE_LEASES, owner.name, owner.epoch))

    async def report_progress(self, progress: Sequence[Progress]) -> None:
        ordered = sorted(progress, key=lambda item: (item.topic, item.partition))
        await self._database.fetch(
            _REPORT_PROGRESS,
            [item.topic for item in ordered],
            [item.partition for item in ordered],
            [item.age for item in ordered],
            # An age grows old: repeated later, it would say more than was seen.
            once=True,
        )

    async def read_progress(self, topics: Sequence[str], *, within: float) -> dict[tuple[str, int], float]:
        rows = await self._database.fetch(_READ_PROGRESS, list(topics), within)
        return {(row["topic"], row["partition"]): row["age"] for row in rows}

    async def sweep(
        self, read_up_to: Sequence[ReadUpTo], *, ordered: Sequence[str], grace: float, limit: int
    ) -> list[Swept]:
        rows = await self._database.fetch(
            _SWEEP,
            [item.platform for item in read_up_to],
            [item.delay for item in read_up_to],
            [item.age for item in read_up_to],
            list(ordered),
            grace,
            limit,
            uuid4(),
        )
        rows.sort(key=lambda row: row["seq"])
        reasons = {row["id"]: row for row in rows}
        return [
            Swept(request, row["reason"], row["error_code"], row["error_msg"], row["last_outcome"])
            for request in await self._with_bodies(rows)
            for row in [reasons[request.delivery_id]]
        ]

    async def _with_bodies(self, rows: Sequence[Any]) -> list[Request]:
        """Requests of rows that came without their events' bodies; those whose body is gone are left out.

        Read afterwards, on purpose: an answer of many bodies is written while its locks are held, and a client that
        stands still meanwhile (SIGSTOP) would hold them for as long.
        """
        if not rows:
            return []
        events = {
            row["id"]: row for row in await self._database.fetch(_EVENT_BODIES, [row["event_id"] for row in rows])
        }
        return [request(row, events[row["event_id"]]) for row in rows if row["event_id"] in events]


def _storable(text: str | None) -> str | None:
    """What a text column takes: no NUL, no lone surrogate. One bad text would fail its neighbours' outcomes too."""
    if text is None or (text.isprintable() and text.isascii()):
        return text
    return text.replace("\0", "").encode(errors="replace").decode()


def _verdict(row: Any, key: UUID) -> Verdict:
    verdict = row["verdict"]
    if verdict == "go":
        sealed_in = row["sealed_in"]
        return go(row, key if sealed_in is None else batch_key(sealed_in), sealed_in)
    if verdict == "busy":
        return Leased(_BUSY_SECONDS)
    if verdict == "leased":
        return Leased(max(row["remaining"], 0.0))
    if verdict == "not_yet":
        return NotYet(max(row["remaining"], 0.0))
    if verdict == "sealed":
        return Sealed(row["row_batch_id"])
    if verdict == "limited":
        return Limited(row["most"])
    if verdict == "changed":
        return Changed(row["current_organization_id"], row["current_generation"])
    if verdict in ("content_changed", "key_forgotten"):
        return Unrepeatable(verdict, row["attempt"], row["counted"])
    return _PLAIN[verdict]
