# ruff: noqa: PLC0415 - imports stand in the commands, so that --help need not wait for them
"""`platforms`: what is held, why, and what an operator sets."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from impact_in.cli.ending import Status, UsageError
from impact_in.cli.output import Json, listing, print_json, print_table, say
from impact_in.cli.start import ledger, prepare

if TYPE_CHECKING:
    from impact_in.operations.platforms import PlatformView
    from impact_in.settings import Settings

app = typer.Typer(
    help="What is held, why, and what an operator sets.",
    epilog="Example: impact-in platforms status",
    no_args_is_help=True,
)

Platform = Annotated[str, typer.Argument(metavar="PLATFORM", help="benevity, goodera or workday.")]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Requests, for each quota scope.")]


@app.command(epilog="Example: impact-in platforms status --json")
def status(json: Json = False) -> int:
    """Show each platform: paused, held and why, its breaker, its limits."""
    settings = prepare("database")
    found = asyncio.run(_read(settings))
    if json:
        print_json(listing(found))
    else:
        columns = ("platform", "held", "breaker", "credentials", "organizations held", "second", "minute", "day")
        rows = [
            (
                one.platform + (" (mock)" if one.mock_mode else ""),
                one.held_reason or "no",
                one.breaker,
                "good" if one.credentials_ok else "rejected",
                one.held_organizations,
                *(_shown(limit) for limit in (one.limits.per_second, one.limits.per_minute, one.limits.per_day)),
            )
            for one in found
        ]
        print_table(columns, rows, whole=("platform",))
    return Status.DONE


@app.command(epilog="Example: impact-in platforms pause benevity")
def pause(platform: Platform) -> int:
    """Send nothing to the platform until it is resumed. What waits costs nobody an attempt."""
    _set(platform, {"paused": True})
    say(f"{platform} is paused; workers follow within a second")
    return Status.DONE


@app.command(epilog="Example: impact-in platforms resume benevity")
def resume(platform: Platform) -> int:
    """Send to a paused platform again."""
    _set(platform, {"paused": None})
    say(f"{platform} is resumed; workers follow within a second")
    return Status.DONE


@app.command("set", epilog="Example: impact-in platforms set benevity --per-minute 100 --per-day 10000")
def set_limits(
    platform: Platform,
    per_second: Limit = None,
    per_minute: Limit = None,
    per_day: Limit = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="No limit but those given here.")] = False,
    default: Annotated[bool, typer.Option("--default", help="The platform's own limits again.")] = False,
) -> int:
    """Set how many requests the platform is sent, in any second, minute and day."""
    from impact_in.operations.platforms import UNLIMITED

    given = {"per_second": per_second, "per_minute": per_minute, "per_day": per_day}
    changes: dict[str, bool | int | None] = {name: limit for name, limit in given.items() if limit is not None}
    if default and (unlimited or changes):
        raise UsageError("--default goes alone")
    if not (default or unlimited or changes):
        raise UsageError("nothing to set: it takes --per-second, --per-minute, --per-day, --unlimited or --default")
    if unlimited:
        changes = UNLIMITED | changes
    _set(platform, dict.fromkeys(UNLIMITED) if default else changes)
    say(f"{platform}: set; workers follow within a second")
    return Status.DONE


def _set(platform: str, changes: dict[str, bool | int | None]) -> None:
    from delivery_log.postgres.platforms import PostgresPlatformLog

    settings = prepare("database")
    if platform not in settings.platforms:
        raise UsageError(f"{platform}: no such platform here, it takes {', '.join(settings.platforms)}")

    async def write() -> None:
        async with ledger(settings) as database:
            await PostgresPlatformLog(database).set_control(platform, changes)

    asyncio.run(write())


async def _read(settings: "Settings") -> "list[PlatformView]":
    from delivery_log.contract import PlatformControl
    from delivery_log.postgres.platforms import PostgresPlatformLog
    from impact_in.operations.platforms import view

    async with ledger(settings) as database:
        log = PostgresPlatformLog(database)
        controls, held = await log.controls(), await log.held_now()
    return [view(settings, name, controls.get(name, PlatformControl()), held) for name in settings.platforms]


def _shown(limit: int | None) -> str:
    return "any" if limit is None else f"{limit:,}"
