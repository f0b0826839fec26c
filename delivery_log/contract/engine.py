"""Events in, deliveries out: what the heart needs of a ledger."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from delivery_log.contract.arrivals import Arrival, Recorded, Request
from delivery_log.contract.attempts import Busy, Changed, Claim, Finished, Owner, Parked, Result, Verdict
from delivery_log.contract.batches import BatchVerdict, SealedClaim, SealedMember
from delivery_log.contract.sweeping import Progress, ReadUpTo, Swept


class DeliveryLedger(Protocol):
    """Events in, deliveries out: what the heart needs."""

    async def identity(self) -> str:
        """A name that no other ledger has; part of the name of every fast memory of it."""
        ...

    async def next_epoch(self) -> int:
        """A number above every one given before."""
        ...

    async def record_events(self, arrivals: Sequence[Arrival]) -> list[Recorded]:
        """Writes events, and the deliveries that their companies' platforms ask for, or finds them written.

        Of several arrivals with one event id the first that was ever recorded wins. An event already there gets no new
        deliveries. The order of new deliveries of a company is the order of the arrivals: keep one call in the air a
        partition.
        """
        ...

    async def confirm_published(self, records: Sequence[tuple[UUID, int]]) -> None:
        """A broker has confirmed these (delivery id, hop), on whichever topic the hop belongs to."""
        ...

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
        """Leases what may go, under a new attempt number. Seconds.

        First match decides: Unknown, Mismatch, AlreadyDone, Cancelled, Stale, Leased, Sealed, NotYet, Blocked (only
        where `ordered`), Changed, Unrepeatable, Limited, Go. Claims of one `batch_id` that may go are sealed together
        where there are two or more; one alone goes under its own key.

        A lease of the same owner name and a smaller epoch is taken over. An attempt that never got an outcome is
        written down as `unknown_outcome`. No two claims for one delivery a call.
        A row that somebody has locked is `Leased` for a moment. `token`: the same at a repetition of the same call.
        """
        ...

    async def finish(
        self,
        results: Sequence[Result],
        *,
        owner: Owner,
        deadline: float,
        ordered: bool,
        token: UUID | None = None,
    ) -> list[Finished | Busy]:
        """Writes outcomes and attempts, and gives the leases back.

        Accepted is written whichever attempt it belongs to, and nothing undoes it; anything else only where the
        attempt is the last one and the lease is the owner's. The first counted failure starts the deadline (seconds).
        An attempt that was written down as `unknown_outcome` stays that, accepted or not, beside what its late answer
        says: it explains the request after it.
        `later` and `dead` raise the hop: a record shall exist, on a retry topic or the dead-letter topic. Where a row
        of a batch is locked, all results of that batch are `Busy`. `token`: the same at a repetition of the same call.
        """
        ...

    async def sealed_batch(self, batch_id: UUID) -> list[SealedMember]:
        """All members, in the order of their ids; one whose event's body is gone is left out."""
        ...

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
        """Leases all members of a sealed batch, finished ones too, or none. Seconds.

        First match decides: Leased (any member is somebody else's), Dissolved (nothing is left to do), NotYet (until
        the first of its members is due), then, where the fates of all attempts are known: Dissolved (a member was
        cancelled, or its content is another now); else `Unrepeatable` for all where content changed or the key is
        forgotten; else `Go` for all, under the batch's key.
        """
        ...

    async def park(self, waiting: Sequence[Parked]) -> list[Changed | None]:
        """These rows wait in the ledger from now on, their records may be acked: an elder sibling's end wakes them, or
        the sweeper when their time has come. Only a row of that hop, unfinished and not leased.

        What waits behind an organization gets the error code `ORG_FORBIDDEN`, so that `set_company_platforms` makes it
        due. `Changed`: its organization is another by now, and it was not parked.
        """
        ...

    async def wake_parked(self, platform: str, companies: Mapping[UUID, int]) -> list[Request]:
        """Raises the hop of so many of each company's eldest rows that wait here and are due, and returns them to be
        published."""
        ...

    async def release_leases(self, owner: Owner) -> int:
        """Ends the leases of this owner's earlier processes; how many there were."""
        ...

    async def report_progress(self, progress: Sequence[Progress]) -> None: ...

    async def read_progress(self, topics: Sequence[str], *, within: float) -> dict[tuple[str, int], float]:
        """(topic, partition) → age in seconds now, of what was reported in the last `within` seconds."""
        ...

    async def sweep(
        self, read_up_to: Sequence[ReadUpTo], *, ordered: Sequence[str], grace: float, limit: int
    ) -> list[Swept]:
        """Raises the hop of rows that no longer move, and returns them to be published.

        Unfinished, due, and: its lease over (`lease_ended`), unconfirmed for `grace` seconds (`unpublished`), its elder
        gone (`woken`), or its record worked off without a trace, or put where nobody reads (`missing`). Dead, and its
        dead letter unconfirmed for `grace` seconds (`unannounced`). Only platforms named in `read_up_to`. Where order
        does not matter, what was parked without a time is left to `wake_parked` for half a minute, and of each company
        only the eldest 500 are looked at: a backlog must not go round in circles.
        """
        ...
