"""A verdict for people and for programs."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proving.checker.verdict import TITLES, Verdict


def show(verdict: Verdict, console: Console, *, most: int = 5) -> None:
    """A table of the equations; of each broken one the first `most` records, the first of them with their lives."""
    table = Table(box=None, pad_edge=False)
    for title in ("", "equation", "violations"):
        table.add_column(title, justify="right" if title == "violations" else "left")
    for name, found in verdict.violations.items():
        state = "[red]broken[/]" if found else "[green]holds[/]"
        table.add_row(state, f"[bold]{name}[/]  {TITLES[name]}", str(len(found)))
    console.print(table)
    for name in verdict.broken():
        found, lives = verdict.violations[name], verdict.histories.get(name, [])
        console.print()
        for number, violation in enumerate(found[:most]):
            console.print(f"[red]{name}[/] {escape(violation.what)}", highlight=False)
            for line in lives[number] if number < len(lives) else ():
                console.print(f"      [dim]{escape(line)}[/]", highlight=False)
        if len(found) > most:
            console.print(f"   and {len(found) - most} more", highlight=False)
    console.print()
    counts = " · ".join(f"{count:,} {name}" for name, count in verdict.counts.items() if count)
    console.print(f"Looked at: {counts}", highlight=False)


def as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "holds": verdict.holds,
        "equations": {name: len(found) for name, found in verdict.violations.items()},
        "counts": verdict.counts,
        "violations": [
            {
                "equation": violation.equation,
                "what": violation.what,
                "event": None if violation.event is None else str(violation.event),
                "platform": violation.platform,
            }
            for found in verdict.violations.values()
            for violation in found
        ],
    }
