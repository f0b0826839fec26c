"""Sealed batches: the same members under the same key, until the platform has said what became of them.

A row is sealed while it is unfinished and names a batch. `begin` seals the claims of one call that name the same batch,
where two or more of them may go. A batch's content is its members' bodies in the order of their ids, finished ones too:
a row that ended keeps the batch's name, and a row that leaves the batch loses it.
"""

from uuid import UUID

import msgspec

from delivery_log.contract.arrivals import Request
from delivery_log.contract.attempts import Go, Leased, NotYet, Unrepeatable


class SealedMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member as its row stands, finished or not."""

    request: Request
    organization_id: str
    generation: int


class SealedClaim(msgspec.Struct, frozen=True, kw_only=True):
    """What would be sent of a member."""

    delivery_id: UUID
    organization_id: str
    generation: int
    payload_hash: str


class Resend(msgspec.Struct, frozen=True):
    """The batch is leased whole. Of each claim, in their order: `Go`, or of all of them `Unrepeatable`."""

    members: tuple[Go | Unrepeatable, ...]


class Dissolved(msgspec.Struct, frozen=True):
    """There is no such batch any more; `freed` are to be published, each for itself."""

    freed: tuple[Request, ...] = ()


BatchVerdict = Resend | Dissolved | Leased | NotYet
