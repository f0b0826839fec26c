"""What the quotas promise, for the author of another backend.

A quota belongs to a scope (a company at a platform, or our account there) and allows so many requests in any second,
any minute and any day. The promise, by the backend's own clock and for every worker together: **no window of that
length, wherever it begins, ever holds more grants than its limit, and at least 98 % of the limit can be had** by who
keeps asking.

The arithmetic. A window W is counted in buckets of W/60, and the 61 newest buckets, the one that has only begun
included, must not hold more than the limit. At any moment t the window [t - W, t] touches at most 61 buckets, so what
is counted is never less than what the window holds: never over. Under steady demand the 61 newest buckets are always
full: one limit in every 61/60 W, which is 60/61 = 98.36 % of it. (A bucket of the second is 16,667 us, a third of a
microsecond more than W/60: 98.358 %.) So sixty buckets are enough for both, and no grant is weighed by a fraction.
All three windows count every grant, limited or not: a limit that is set or changed is judged by what was granted
before.

What the promise is about is grants. A request reaches the platform some time after its grant, and where these delays
differ by more than 1/60 of the window, the platform may see one window fuller than it was granted; its 429 is obeyed.

Nothing here is the truth. A backend may forget a scope at any moment; then `attempts`, where it was given, tells it
from the ledger what was sent. Without that it begins anew.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

WINDOWS = ("per_second", "per_minute", "per_day")
LENGTHS = (1_000_000, 60_000_000, 86_400_000_000)
"""Of the windows, in microseconds."""
BUCKETS = 60
KEPT = BUCKETS + 1
"""Buckets counted: those that a window of 60 can touch."""
WIDTHS = (16_667, 1_000_000, 1_440_000_000)
"""Of a bucket of each window, in microseconds: a sixtieth, rounded up, so that 60 are never less than the window."""
REPEATABLE_SECONDS = 10
"""How long a grant is known by its token: so long its call can be repeated, and it can be given back."""
MEMORY_SECONDS = 25 * 3600
"""How long a scope is remembered that nobody asks for: longer than the longest window's 61 buckets."""
SHORTEST_WAIT = 0.001

Attempts: TypeAlias = Callable[[str], Awaitable[Sequence[float]]]
"""For a scope, the ages in seconds of all attempts of the last day, by whichever worker: the ledger's."""


class QuotasOutOfReach(Exception):
    """The memory that the workers share does not answer, or answers with an error. Whether a grant was counted is then
    unknown; if it was, it is lost to everybody until it leaves its windows."""


class Limits(msgspec.Struct, frozen=True):
    """Requests allowed in any window of that length; None: any number. Raises ValueError for less than 1."""

    per_second: int | None = None
    per_minute: int | None = None
    per_day: int | None = None

    def __post_init__(self) -> None:
        for name, limit in zip(WINDOWS, self.in_order(), strict=True):
            if limit is not None and limit < 1:
                raise ValueError(f"{name} is {limit}: a limit is at least 1, or None")

    def in_order(self) -> tuple[int | None, int | None, int | None]:
        """As `WINDOWS`."""
        return (self.per_second, self.per_minute, self.per_day)


class Granted(msgspec.Struct, frozen=True):
    """One request may be sent now. `token` is enough to give it back."""

    token: str


class Wait(msgspec.Struct, frozen=True):
    """Nothing was taken. `after`: the seconds until it is worth asking again, at least a millisecond: when the bucket
    that blocks leaves its window, or the hold ends. Exact as long as nobody else is granted anything meanwhile; all
    who wait for the same bucket are told the same time."""

    after: float


class Quotas(Protocol):
    """All but `ping` and `close` raise `QuotasOutOfReach`, and whatever `attempts` raises where it is asked."""

    async def take(self, scope: str, limits: Limits) -> Granted | Wait:
        """Asks for one request, judged by these limits, whatever was said before. Atomic over the three windows and the
        hold. A reply that is lost does not grant twice: every call has an id of its own, and when it is repeated within
        `REPEATABLE_SECONDS`, a grant is found again rather than made again. (A `Wait` took nothing: a repetition asks
        anew.)"""
        ...

    async def give_back(self, scope: str, granted: Granted) -> None:
        """For a grant that was not used. Within `REPEATABLE_SECONDS`, once; later, or again, it changes nothing."""
        ...

    async def hold(self, scope: str, seconds: float) -> None:
        """The platform throttled (429): nobody is granted anything for so long. A hold that ends later is kept.
        Raises ValueError for what is not a finite number."""
        ...

    async def rebuild(self, scope: str, limits: Limits, ages: Sequence[float]) -> None:
        """After the memory was lost: the windows from the ledger's attempts, `ages` in seconds. Only where the scope
        has no memory of grants yet (a hold is none), atomically: of several workers who try, one does. Windows that
        have no limit may be left out."""
        ...

    async def tell(self, scope: str, ages: Sequence[float]) -> None:
        """What was granted without asking, `ages` in seconds: counted on top of what is there, limit or no limit."""
        ...

    async def usage(self, scope: str, limits: Limits) -> Mapping[str, int]:
        """For each limit that is set, by its name in `WINDOWS`: the grants counted against it now."""
        ...

    async def ping(self) -> bool:
        """Whether the memory can be reached."""
        ...

    async def close(self) -> None: ...


def in_microseconds(seconds: float) -> int:
    """Raises ValueError for what is not a finite number."""
    try:
        return round(seconds * 1_000_000)
    except OverflowError:
        raise ValueError(f"{seconds} is not a finite number of seconds") from None
