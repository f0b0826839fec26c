"""What operators set for platforms and companies, and what workers hold."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol
from uuid import UUID

import msgspec

PROBE_SECONDS = 12.0
"""For so long a claim to probe lasts that nobody renews."""

HoldReason = Literal["paused", "breaker", "credentials", "forbidden", "throttled"]


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker holds, and since how many seconds. `id` stays the same while the hold lasts; workers that hold
    the same thing come to use one id."""

    id: UUID
    platform: str
    organization_id: str | None
    """None: the whole platform."""
    reason: HoldReason
    age: float
    next_probe: float = 0.0
    """Seconds until it is worth trying again."""
    wait: float = 0.0
    """How long it was held since the last try, in seconds: the next may be longer."""
    news: bool = True
    """Whether `next_probe` and `wait` are what this worker has learned; False: what the ledger has stays."""
    wants_probe: bool = False
    """A delivery of this worker's would try, if nobody else does."""
    probing: bool = False
    """A delivery of this worker's is trying, or may: its claim is renewed."""
    credential: str = ""
    """A fingerprint of what this worker sends with, where the hold is that credential's alone."""


class HeldNow(msgspec.Struct, frozen=True, kw_only=True):
    """A hold that some worker has renewed lately. Durations are seconds."""

    id: UUID
    platform: str
    organization_id: str | None
    reason: HoldReason
    owner: str
    age: float
    next_probe: float = 0.0
    wait: float = 0.0
    probing: float = 0.0
    """How long `prober` still has the right to try; 0.0: nobody has."""
    prober: str | None = None
    released: bool = False
    """It is over: a try has passed, or an operator has changed what was wrong."""
    credential: str = ""


class PlatformControl(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator set for a platform. A limit: requests; 0 is none, None is as the platform has it."""

    paused: bool = False
    per_second: int | None = None
    per_minute: int | None = None
    per_day: int | None = None


class CompanyPlatform(msgspec.Struct, frozen=True, kw_only=True):
    """Where a company's numbers go on one platform."""

    company_id: UUID
    platform: str
    organization_id: str
    enabled: bool = True


class PlatformLog(Protocol):
    """What operators set for platforms, and what workers hold: both read each second."""

    async def controls(self) -> dict[str, PlatformControl]:
        """By platform; absent where nothing was ever set."""
        ...

    async def set_control(self, platform: str, changes: Mapping[str, bool | int | None]) -> None:
        """Some of `PlatformControl`'s fields, by name; None goes back to what the platform has."""
        ...

    async def report_holds(self, holds: Sequence[Hold], *, owner: str, ended: Sequence[UUID] = ()) -> None:
        """These are held now. While they last, deadlines of their deliveries stand still (`DeliveryLedger.begin`).

        Of those that want to probe a hold which is due, one worker gets the claim, for `PROBE_SECONDS` from its last
        report on. `ended`: over for everybody; whoever reports such a hold again does not revive it.
        """
        ...

    async def touched(self, platform: str, organizations: Sequence[str], *, within: float) -> list[str]:
        """Those that an operator has set in the last `within` seconds, whether or not anything changed by it."""
        ...

    async def held_now(self, *, within: float = 5.0, known: Sequence[UUID] = ()) -> list[HeldNow]:
        """What was reported in the last `within` seconds and is not over; of the `known`, all there are."""
        ...

    async def clean_holds(self) -> int:
        """Forgets holds that ended more than an hour ago, and before the first failure of every unfinished delivery of
        their platform: no deadline stands still for them any more. How many they were."""
        ...


class RequestLog(Protocol):
    """What was sent, as a quota counts it."""

    async def recent_requests(
        self, platform: str, organizations: Sequence[str] | None, *, within: float
    ) -> dict[str, list[float]]:
        """Ages in seconds of the requests of the last `within` seconds, those under way included; by organization, or
        by `""`, our whole account, where `organizations` is None. A batch is one request. The organization is the
        delivery's of today. Ages above ten minutes may be too small by five, never too large."""
        ...


class CompanyRegistry(Protocol):
    async def set_company_platforms(self, entries: Sequence[CompanyPlatform]) -> None:
        """Creates or changes them. Deliveries not yet attempted with an uncertain fate go to the new organization."""
        ...

    async def company_platforms(self, company_id: UUID | None = None) -> list[CompanyPlatform]: ...
