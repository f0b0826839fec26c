# ruff: noqa: PLC0415 - imports stand in the commands, so that --help need not wait for them
"""`companies`: which company goes by which id on which platform."""

import asyncio
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from impact_in.cli.ending import Status, UsageError
from impact_in.cli.output import Json, listing, print_json, print_table, say
from impact_in.cli.publishing import open_input
from impact_in.cli.start import ledger, prepare

if TYPE_CHECKING:
    from delivery_log.contract import CompanyPlatform

app = typer.Typer(
    help="Which company goes by which id on which platform.",
    epilog="Example: impact-in companies list",
    no_args_is_help=True,
)


@app.command(
    "set",
    epilog="Example: impact-in companies set 11111111-1111-4111-8111-111111111111 --platform goodera "
    "--organization org-17",
)
def set_company(
    company: Annotated[UUID, typer.Argument(metavar="COMPANY", help="The company's id, a UUID.")],
    platform: Annotated[str, typer.Option(metavar="P", help="benevity, goodera or workday.")],
    organization: Annotated[str, typer.Option(metavar="ORG", help="The company's id at that platform.")],
    disable: Annotated[bool, typer.Option("--disable", help="Send no new events of the company there.")] = False,
) -> int:
    """Say under which id a company goes on a platform, or that it sends nothing there any more."""
    from impact_in.operations.companies import CompanyError, entry

    try:
        one = entry(company, platform, organization, enabled=not disable)
    except CompanyError as error:
        raise UsageError(str(error)) from None
    asyncio.run(_store([one]))
    say(f"{company} on {platform}: {organization}{' (disabled)' if disable else ''}")
    return Status.DONE


@app.command("list", epilog="Example: impact-in companies list --company 11111111-1111-4111-8111-111111111111 --json")
def list_companies(
    company: Annotated[UUID | None, typer.Option(help="Only this company.")] = None, json: Json = False
) -> int:
    """List companies with their platforms."""
    from delivery_log.postgres.companies import PostgresCompanyRegistry
    from impact_in.operations.companies import views

    settings = prepare("database")

    async def read() -> "list[CompanyPlatform]":
        async with ledger(settings) as database:
            return await PostgresCompanyRegistry(database).company_platforms(company)

    found = asyncio.run(read())
    if json:
        print_json(listing(views(found)))
    else:
        rows = [(one.company_id, one.platform, one.organization_id, one.enabled) for one in found]
        print_table(("company", "platform", "organization", "enabled"), rows, whole=("company",))
    return Status.DONE


@app.command("import", epilog="Example: impact-in companies import examples/companies.jsonl")
def import_companies(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - is standard input.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Set many companies at once, from lines of {"company", "platform", "organization", "enabled"}.

    All lines are taken or none is: those that are wrong are named, each with its reason, and make the exit status 1.
    """
    from impact_in.operations.companies import read_companies

    with open_input(file) as stream:
        entries, wrong = read_companies(stream)
    if not wrong:
        asyncio.run(_store(entries))
    if json:
        print_json({"imported": 0 if wrong else len(entries), "invalid": wrong})
    else:
        for one in wrong:
            say(f"line {one.line}: {one.reason}")
        say(f"{len(entries)} imported" if not wrong else f"nothing imported: {len(wrong)} lines are wrong")
    return Status.FAILED if wrong else Status.DONE


async def _store(entries: "list[CompanyPlatform]") -> None:
    from delivery_log.postgres.companies import PostgresCompanyRegistry

    async with ledger(prepare("database")) as database:
        await PostgresCompanyRegistry(database).set_company_platforms(entries)
