"""Results as files, as a table on the screen, and as the table in docs/benchmarks.md."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.outcome import Figure, Outcome

RESULTS = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_START, _END = "<!-- results: python -m benchmarks.run writes from here -->", "<!-- to here -->"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    at: str
    quick: bool
    machine: dict[str, Any]
    outcome: Outcome


def save(outcome: Outcome, machine: dict[str, Any], *, quick: bool) -> Result:
    result = Result(at=datetime.now(UTC).isoformat(timespec="seconds"), quick=quick, machine=machine, outcome=outcome)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{outcome.name}{'.quick' if quick else ''}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return result


def load(names: Sequence[str]) -> list[Result]:
    """The last full result of each, in this order; a quick one where there is no other."""
    found = []
    for name in names:
        for path in (RESULTS / f"{name}.json", RESULTS / f"{name}.quick.json"):
            if path.exists():
                found.append(msgspec.json.decode(path.read_bytes(), type=Result))
                break
    return found


def show(results: Sequence[Result]) -> None:
    table = Table("benchmark", "figure", "min / median / max", "mark", "")
    for result in results:
        for number, figure in enumerate(result.outcome.figures):
            name = result.outcome.name if number == 0 else ""
            table.add_row(name, figure.what, figure.spread(), figure.wanted(), _word(figure))
        for fault in result.outcome.faults:
            table.add_row("", f"[red]{fault}", "", "never", "[red]FAULT")
        table.add_section()
    for result in results:
        for note in result.outcome.notes:
            Console(stderr=True, highlight=False).print(f"[dim]{result.outcome.name}: {note}")
    Console(width=None if Console().is_terminal else 140).print(table)


def write_document(names: Sequence[str]) -> None:
    """Replaces what stands between the markers."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(_START)
    _, _, after = rest.partition(_END)
    DOCUMENT.write_text(f"{before}{_START}\n{_markdown(load(names))}\n{_END}{after}")


def _markdown(results: Sequence[Result]) -> str:
    if not results:
        return "Nothing was measured yet."
    lines = ["| benchmark | figure | min / median / max | mark | reached | peers |", "|---|---|---|---|---|---|"]
    for result in results:
        name = f"`{result.outcome.name}`{' (quick)' if result.quick else ''}"
        for figure in result.outcome.figures:
            reached = {True: "yes", False: "**no**", None: ""}[figure.reached]
            lines.append(
                f"| {name} | {figure.what} | {figure.spread()} | {figure.wanted()} | {reached} | {figure.peers} |"
            )
            name = ""
        lines += [f"| | **{fault}** | | never | **no** | |" for fault in result.outcome.faults]
    lines += ["", "Measured on:", ""]
    for result in results:
        machine = result.machine
        packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
        lines.append(
            f"- `{result.outcome.name}`, {result.at}, commit {machine['commit']}: {machine['cores']} cores of "
            f"{machine['cpu']}, {machine['memory_gib']} GiB, Linux {machine['kernel']}, "
            f"load before {machine['load_before']}, Python {machine['python']}, Apache Kafka {machine['kafka']}, "
            f"PostgreSQL {machine['postgres']}, {packages}."
        )
    return "\n".join(lines)


def _word(figure: Figure) -> str:
    return {True: "[green]reached", False: "[red]not reached", None: ""}[figure.reached]
