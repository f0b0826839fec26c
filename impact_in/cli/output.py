# ruff: noqa: PLC0415 - imports stand in the functions, so that --help need not wait for them
"""Results on stdout: JSON as the API has it, or a table for people."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_WITHOUT_TERMINAL = 240  # columns: a table in a pipe or a file loses nothing to a width that nobody has


def print_json(value: Any) -> None:
    """Any msgspec-encodable value, indented, on stdout."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def listing(items: Sequence[Any], next_cursor: str | None = None) -> dict[str, Any]:
    """A list as the API has it (contract, section 7)."""
    return {"items": list(items), "nextCursor": next_cursor}


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, whole: Sequence[str] = ()) -> None:
    """A table on stdout; `whole` names columns that are never broken into lines, such as ids to copy."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WITHOUT_TERMINAL)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column in whole, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(cell)) for cell in row))  # as text: what the cells say is no markup
    console.print(table)


def say(line: str) -> None:
    """One line for people, on stderr."""
    print(line, file=sys.stderr)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return str(value)
