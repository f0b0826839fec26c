"""Sealed batches in PostgreSQL: what `PostgresLedger` does for them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from delivery_log.contract import (
    BatchVerdict,
    Dissolved,
    Leased,
    NotYet,
    Owner,
    Request,
    Resend,
    SealedClaim,
    SealedMember,
    Unrepeatable,
)
from delivery_log.postgres.database import Database, sql
from delivery_log.postgres.rows import go, request
from schemas.identity import batch_key

_SEALED_BATCH = sql("sealed_batch")
_BEGIN_SEALED = sql("begin_sealed")
_WAKE_PARKED = sql("wake_parked")

_BUSY_SECONDS = 0.25


async def sealed_batch(database: Database, batch_id: UUID) -> list[SealedMember]:
    rows = await database.fetch(_SEALED_BATCH, batch_id)
    return [
        SealedMember(request=request(row, row), organization_id=row["organization_id"], generation=row["generation"])
        for row in rows
    ]


async def begin_sealed(
    database: Database,
    with_bodies: Callable[[Sequence[Any]], Awaitable[list[Request]]],
    batch_id: UUID,
    claims: Sequence[SealedClaim],
    owner: Owner,
    lease: float,
    key_memory: float,
    token: UUID,
) -> BatchVerdict:
    key = batch_key(batch_id)
    rows = await database.fetch(
        _BEGIN_SEALED,
        batch_id,
        [claim.delivery_id for claim in claims],
        [claim.organization_id for claim in claims],
        [claim.generation for claim in claims],
        [claim.payload_hash for claim in claims],
        str(key),
        token,
        owner.name,
        owner.epoch,
        lease,
        key_memory,
    )
    verdict: Any = rows[0]["verdict"] if rows else "dissolved"
    if verdict == "busy":
        return Leased(_BUSY_SECONDS)
    if verdict == "leased":
        return Leased(max(rows[0]["remaining"], 0.0))
    if verdict == "not_yet":
        return NotYet(max(rows[0]["remaining"], 0.0))
    if verdict == "dissolved":
        return Dissolved(tuple(await with_bodies([row for row in rows if row["is_freed"]])))
    by_id = {row["id"]: row for row in rows}
    found = [by_id[claim.delivery_id] for claim in claims]
    if verdict == "go":
        return Resend(tuple(go(row, key, batch_id) for row in found))
    return Resend(tuple(Unrepeatable(verdict, row["attempt"], row["counted"]) for row in found))


async def wake_parked(database: Database, platform: str, companies: Mapping[UUID, int]) -> list[Any]:
    ordered = sorted(companies.items())
    rows = await database.fetch(
        _WAKE_PARKED, platform, [company for company, _ in ordered], [most for _, most in ordered], uuid4()
    )
    return sorted(rows, key=lambda row: row["seq"])
