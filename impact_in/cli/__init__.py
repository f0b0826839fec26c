"""`impact-in`: the commands, and how each of them ends.

Results go to stdout, everything else to stderr. Modules of commands import what they need inside the commands, so that
`--help` need not wait for a Kafka client.
"""

import os
import sys
from collections.abc import Sequence

import typer

from impact_in.cli import companies, deliveries, platforms, publishing, running, setup
from impact_in.cli.ending import Status, explain

app = typer.Typer(
    name="impact-in",
    help="Delivers impact metrics from Kafka to Benevity, Goodera and Workday: nothing lost, nothing twice, in order.",
    epilog="Example: impact-in demo   |   Exit status: 0 done, 1 failed or found something wrong, "
    "2 usage or settings, 3 a server is out of reach",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show local variables, and so secrets
)
for commands in (running, setup, publishing):
    commands.add_to(app)
app.add_typer(companies.app, name="companies")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(platforms.app, name="platforms")


def main() -> None:
    """The entry point: ends the process with one of `Status`."""
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our result has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit status. What nobody foresaw is raised."""
    try:
        answer = typer.main.get_command(app).main(list(arguments), prog_name="impact-in", standalone_mode=False)
    except typer.TyperException as error:
        return _usage(error)
    except typer.Exit as ended:
        return ended.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return Status.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Status.FAILED
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        status, line = explained
        print(f"impact-in: {line}", file=sys.stderr)
        return status
    return int(answer or 0)


def _usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    command = "impact-in" if context is None else context.command_path
    message = " ".join(error.format_message().replace("Value error, ", "").split())
    if message:  # a group without a command has shown its help, and says nothing more
        print(f"{command}: {message} (see {command} --help)", file=sys.stderr)
    return Status.USAGE
