"""How far the demo is: one query, and the table that shows it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from delivery_log.postgres.database import Database


@dataclass(slots=True)
class PlatformCount:
    delivered: int = 0
    pending: int = 0
    retrying: int = 0
    dead: int = 0
    confirmed: int = 0
    rejected: int = 0
    retries: int = 0

    @property
    def total(self) -> int:
        return self.delivered + self.pending + self.retrying + self.dead + self.rejected


@dataclass(slots=True)
class Progress:
    events: int = 0
    status_events: int = 0
    platforms: dict[str, PlatformCount] = field(default_factory=dict)

    def finished(self, events: int) -> bool:
        """All events are in, nothing is pending or retrying."""
        return self.events >= events and not any(p.pending or p.retrying for p in self.platforms.values())

    @property
    def confirmed(self) -> bool:
        """Every delivered one has been confirmed by its platform's webhook."""
        return all(p.confirmed >= p.delivered for p in self.platforms.values())


_COUNTS = """
select platform,
       count(*) filter (where status = 'delivered') as delivered,
       count(*) filter (where status = 'pending') as pending,
       count(*) filter (where status = 'retrying') as retrying,
       count(*) filter (where outcome = 'dead') as dead,
       count(*) filter (where outcome = 'rejected') as rejected,
       count(*) filter (where platform_status = 'confirmed') as confirmed,
       sum(retries)::bigint as retries
from impact_deliveries group by platform
"""


async def read_progress(database: Database, platforms: Sequence[str]) -> Progress:
    totals = await database.fetch(
        "select (select count(*) from impact_events) as events, (select count(*) from status_events) as status_events"
    )
    progress = Progress(totals[0]["events"], totals[0]["status_events"], {name: PlatformCount() for name in platforms})
    for row in await database.fetch(_COUNTS):
        progress.platforms[row["platform"]] = PlatformCount(
            **{
                name: row[name]
                for name in ("delivered", "pending", "retrying", "dead", "rejected", "confirmed", "retries")
            }
        )
    return progress


def table(progress: Progress, published: int, events: int, seconds: float) -> Table:
    """The live table."""
    view = Table(title=f"{published:,} of {events:,} events published · {progress.events:,} in · {seconds:.0f} s")
    view.add_column("platform")
    for name in ("delivered", "waiting", "retrying", "retries so far", "dead", "confirmed by webhook"):
        view.add_column(name, justify="right")
    for name, count in progress.platforms.items():
        view.add_row(
            name,
            f"[green]{count.delivered:,}[/]",
            f"{count.pending:,}",
            f"[yellow]{count.retrying:,}[/]" if count.retrying else "0",
            f"{count.retries:,}",
            f"[red]{count.dead:,}[/]" if count.dead else "0",
            f"{count.confirmed:,}",
        )
    return view


def line(progress: Progress, published: int, seconds: float) -> str:
    """The same for what is no terminal."""
    counts = " · ".join(
        f"{name} {count.delivered} delivered, {count.retrying} retrying, {count.dead} dead, {count.confirmed} confirmed"
        for name, count in progress.platforms.items()
    )
    return f"{seconds:5.1f} s  {published} published, {progress.events} in · {counts}"
