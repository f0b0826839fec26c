# ruff: noqa: PLC0415 - imports stand in the commands, so that --help need not wait for them
"""`demo`, `up`, `down`, `worker`, `gateway`, `simulate`: what runs until it is told to stop."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from impact_in.cli.ending import UsageError
from impact_in.cli.start import prepare, prepare_logs

Data = Annotated[Path, typer.Option(help="Where the servers keep their data.", file_okay=False)]
ServerPort = Annotated[int, typer.Option(min=0, max=65535, help="0 takes the port of last time, or a free one.")]

_DATA = Path(".impact-in")


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: impact-in demo --events 2000 --rate 0 --faults some --exit --json")(demo)
    app.command(epilog="Example: impact-in up --data ~/impact-in")(up)
    app.command(epilog="Example: impact-in down --data ~/impact-in")(down)
    app.command(epilog="Example: impact-in worker --role ingest --role deliver:goodera --processes 2")(worker)
    app.command(epilog="Example: impact-in gateway")(gateway)
    app.command(
        epilog="Example: impact-in simulate benevity --port-benevity 8101 --faults some   |   "
        "All options: impact-in simulate -- --help",
        context_settings={"ignore_unknown_options": True},
    )(simulate)


def demo(
    events: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many events to publish.")] = 300,
    rate: Annotated[float, typer.Option(min=0, help="Events a second; 0: as fast as it goes.")] = 25.0,
    faults: Annotated[
        Literal["none", "some", "many"], typer.Option(help="How sick the simulated platforms are.")
    ] = "some",
    seed: Annotated[int, typer.Option(help="The same seed makes the same events and faults.")] = 1,
    quotas: Annotated[
        Literal["none", "real"], typer.Option(help="real: the platforms' own limits, which slow it down.")
    ] = "none",
    exit_: Annotated[bool, typer.Option("--exit", help="No screen: run, print a summary, end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until everything has to be finished.")] = 300.0,
) -> int:
    """Show the whole product on this machine: embedded servers, simulated platforms, a ledger check at the end.

    Needs nothing installed and leaves nothing behind. Ends with status 1 where something is unfinished or the ledger
    does not hold.
    """
    from impact_in.demo import run_demo
    from impact_in.demo.options import DemoOptions

    prepare_logs()
    return run_demo(
        DemoOptions(
            events=events,
            rate=rate,
            faults=faults,
            seed=seed,
            quotas=quotas,
            exit=exit_,
            json=json,
            timeout=timeout,
        )
    )


def up(
    data: Data = _DATA, kafka_port: ServerPort = 0, database_port: ServerPort = 0, redis_port: ServerPort = 0
) -> int:
    """Run an embedded broker, PostgreSQL and Valkey with worker and gateway, in the foreground.

    Data stays in --data, where `env` holds the variables that a second terminal needs. A platform with none of its
    variables set runs in mock mode.
    """
    from impact_in.up import run_up

    prepare_logs()
    return run_up(data, kafka_port=kafka_port, database_port=database_port, redis_port=redis_port)


def down(data: Data = _DATA) -> int:
    """End the `impact-in up` that runs on this data directory, with all its servers."""
    from impact_in.up import run_down

    prepare_logs()
    return run_down(data)


def worker(
    role: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE", help="ingest or deliver:PLATFORM; all of them where not given. May be repeated."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="How many processes share the work.")] = 1,
) -> int:
    """Take events from Kafka and deliver them, until SIGTERM. Several workers share the work."""
    from impact_in.needed_topics import needed_topics
    from impact_in.role_names import role_names

    settings = prepare("kafka", "database", "redis", "platforms", "worker", quiet=False)
    known = role_names(settings.platforms)
    for name in role or ():
        if name not in known:
            raise UsageError(f"--role {name}: no such role here, it takes {', '.join(known)}")
    # Before what takes a second to load, and five on a busy machine: whoever misses a topic is told soon.
    asyncio.run(needed_topics(settings))

    from impact_in.processes import run_processes
    from impact_in.worker import run_worker

    if processes > 1:
        return run_processes(settings, role or [], processes)
    return run_worker(settings, role or [])


def gateway() -> int:
    """Answer webhooks and health checks on IMPACT_IN_HOST and PORT_IMPACT_IN, until SIGTERM."""
    from impact_in.gateway import run_gateway

    return run_gateway(prepare("kafka", "database", "redis", "gateway", quiet=False))


def simulate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PLATFORM]... [OPTIONS]", help="benevity, goodera, workday; all where none is named."),
    ] = None,
) -> int:
    """Run simulated platforms, until SIGTERM: they take requests, answer, and send signed webhooks.

    docs/simulators.md describes their options, faults and what they can be asked.
    """
    from impact_in.simulators.__main__ import main
    from impact_in.simulators.options import PLATFORMS

    rest = list(arguments or ())
    chosen: list[str] = []
    while rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in PLATFORMS:
            raise UsageError(f"simulate {name}: no such platform, it takes {', '.join(PLATFORMS)}")
        chosen += ["--platform", name]
    sys.argv = ["impact-in simulate", *chosen, *rest]
    return main()
