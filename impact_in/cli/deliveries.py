# ruff: noqa: PLC0415 - imports stand in the commands, so that --help need not wait for them
"""`deliveries`: what became of events, delivery by delivery."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from impact_in.cli.ending import Status, UsageError
from impact_in.cli.moments import TAKES, parse_moment
from impact_in.cli.output import Json, listing, print_json, print_table, say
from impact_in.cli.start import ledger, prepare

if TYPE_CHECKING:
    from delivery_log.contract import DeliveryFilter, DeliveryRow, Page

app = typer.Typer(
    help="What became of events, delivery by delivery.",
    epilog="Example: impact-in deliveries list --status failed",
    no_args_is_help=True,
)


@app.command("list", epilog="Example: impact-in deliveries list --platform benevity --status failed --since 24h --json")
def list_deliveries(
    company: Annotated[UUID | None, typer.Option(help="Only this company's.")] = None,
    platform: Annotated[str | None, typer.Option(help="Only to this platform.")] = None,
    status: Annotated[
        Literal["pending", "retrying", "delivered", "failed"] | None, typer.Option(help="Only in this state.")
    ] = None,
    error_code: Annotated[str | None, typer.Option(help="Only with this error code, such as RATE_LIMIT.")] = None,
    since: Annotated[str | None, typer.Option(help=f"Made at or after: {TAKES}.")] = None,
    until: Annotated[str | None, typer.Option(help="Made before: the same.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the last list ended.")] = None,
    json: Json = False,
) -> int:
    """List deliveries, the newest first."""
    from delivery_log.contract import DeliveryFilter
    from impact_in.operations.deliveries import in_list

    now = datetime.now(UTC)
    where = DeliveryFilter(
        company_id=company,
        platform=platform,
        status=status,
        error_code=error_code,
        since=parse_moment(since, "--since", now),
        until=parse_moment(until, "--until", now),
    )
    page = asyncio.run(_page(where, cursor, limit))
    if json:
        print_json(listing([in_list(row) for row in page.items], page.next_cursor))
        return Status.DONE
    rows = [
        (row.id, row.created_at, row.platform, _state(row), row.retries, row.error_code, row.transaction_id)
        for row in page.items
    ]
    columns = ("id", "created", "platform", "status", "retries", "error", "transaction")
    print_table(columns, rows, whole=("id",))
    if page.next_cursor is not None:
        say(f"there are more: --cursor {page.next_cursor}")
    return Status.DONE


@app.command("show", epilog="Example: impact-in deliveries show 5f0c8a52-9c5e-5d0e-8f6b-0a4f5b1c2d3e")
def show_delivery(
    delivery: Annotated[UUID, typer.Argument(metavar="ID", help="The delivery's id.")], json: Json = False
) -> int:
    """Show one delivery with all its attempts and what its platform said of it."""
    from impact_in.operations.deliveries import alone

    row = asyncio.run(_row(delivery))
    if row is None:
        say(f"impact-in: there is no delivery {delivery}")
        return Status.FAILED
    if json:
        print_json(alone(row))
        return Status.DONE
    fields = {
        "id": row.id,
        "event": row.event_id,
        "company": row.company_id,
        "platform": f"{row.platform}, as {row.organization_id}",
        "status": _state(row),
        "platform says": row.platform_status,
        "transaction": row.transaction_id,
        "error": ": ".join(part for part in (row.error_code, row.error_message) if part),
        "retries": row.retries,
        "replays": row.replays,
        "next attempt": row.next_attempt_at,
        "created": row.created_at,
        "delivered": row.delivered_at,
        "trace": row.trace_id,
        "payload hash": row.payload_hash,
        "idempotency key": row.idempotency_key,
    }
    print_table(("", ""), [(name, value) for name, value in fields.items() if value not in (None, "")])
    if row.attempts:
        print()
        print_table(
            ("attempt", "started", "ms", "http", "outcome", "counts", "error"),
            [
                (
                    made.attempt,
                    made.started_at,
                    None if made.duration_ms is None else round(made.duration_ms),
                    made.http_status,
                    made.outcome,
                    made.counted,
                    ": ".join(part for part in (made.error_code, made.error_message) if part),
                )
                for made in row.attempts
            ],
        )
    if row.status_events:
        print()
        print_table(
            ("webhook", "says", "of", "at", "received", "error"),
            [
                (
                    said.event_type,
                    said.platform_status,
                    said.transaction_id,
                    said.occurred_at,
                    said.received_at,
                    said.error_message,
                )
                for said in row.status_events
            ],
        )
    return Status.DONE


async def _page(where: "DeliveryFilter", cursor: str | None, limit: int) -> "Page":
    from delivery_log.postgres.inspection import PostgresInspection

    async with ledger(prepare("database")) as database:
        try:
            return await PostgresInspection(database).deliveries(where, cursor=cursor, limit=limit)
        except ValueError as error:
            raise UsageError(f"--cursor: {error}") from None


async def _row(delivery: UUID) -> "DeliveryRow | None":
    from delivery_log.postgres.inspection import PostgresInspection

    async with ledger(prepare("database")) as database:
        return await PostgresInspection(database).delivery(delivery)


def _state(row: "DeliveryRow") -> str:
    details = [word for word in (row.outcome, "mocked" if row.mocked else None) if word and word != row.status]
    return f"{row.status} ({', '.join(details)})" if details else row.status
