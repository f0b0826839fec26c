# ruff: noqa: PLC0415 - imports stand in the commands, so that --help need not wait for them
"""`migrate` and `topics`: what has to be there before a worker starts."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from impact_in.cli.ending import Status
from impact_in.cli.output import Json, listing, print_json, print_table, say
from impact_in.cli.start import prepare

if TYPE_CHECKING:
    from impact_in.operations.topics import TopicsReport
    from impact_in.settings import Settings


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: impact-in migrate")(migrate)
    app.command(epilog="Example: impact-in topics --partitions 24 --replication 3")(topics)


def migrate(json: Json = False) -> int:
    """Bring the database (DATABASE_URL) up to date, and list what was applied. May run any number of times."""
    from delivery_log.postgres.database import Database
    from delivery_log.postgres.migrations import migrate as apply

    settings = prepare("database")

    async def run() -> list[str]:
        async with await Database.open(settings.database_url, application="impact-in migrate") as database:
            return await apply(database)

    applied = asyncio.run(run())
    if json:
        print_json(listing([{"migration": name} for name in applied]))
    else:
        for name in applied:
            print(name)
        say(f"{len(applied)} applied" if applied else "nothing to do: the database is up to date")
    return Status.DONE


def topics(
    partitions: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Of new topics: 12 where not given. Given, others must have as many."),
    ] = None,
    replication: Annotated[
        int | None, typer.Option(min=1, max=100, help="Of new topics: the broker's default where not given.")
    ] = None,
    json: Json = False,
) -> int:
    """Make the topics that are missing and check the others: partitions, retention, cleanup policy, record size.

    Never deletes and never changes a topic that is there; says what is wrong with it and ends with status 1.
    """
    settings = prepare("kafka")
    report = asyncio.run(_make_topics(settings, partitions, replication))
    if json:
        print_json(listing(report.items) | {"notes": report.notes})
    else:
        rows = [(item.topic, item.partitions, item.state, "; ".join(item.problems)) for item in report.items]
        print_table(("topic", "partitions", "state", "what is wrong"), rows, whole=("topic", "state"))
        for note in report.notes:
            say(f"note: {note}")
        if any(item.state == "wrong" for item in report.items):
            say("to set: kafka-configs.sh --alter --entity-type topics --entity-name TOPIC --add-config SETTING=VALUE")
    return Status.DONE if report.ok else Status.FAILED


async def _make_topics(settings: "Settings", partitions: int | None, replication: int | None) -> "TopicsReport":
    from impact_in.operations.topics import create_topics

    return await create_topics(
        settings.kafka,
        settings.topics,
        list(settings.platforms),
        settings.retry.topics(),
        partitions=partitions,
        replication=replication,
    )
