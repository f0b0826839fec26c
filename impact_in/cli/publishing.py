# ruff: noqa: PLC0415 - imports stand in the commands, so that --help need not wait for them
"""`publish`: events from a file to Kafka."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import typer

from impact_in.cli.ending import Status, UsageError
from impact_in.cli.output import print_json, say
from impact_in.cli.start import prepare

if TYPE_CHECKING:
    from impact_in.operations.publish import Progress as PublishProgress
    from impact_in.operations.publish import PublishSummary
    from impact_in.settings import Settings


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: impact-in publish examples/events.jsonl --rate 50")(publish)


def publish(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines or Avro; - is standard input.")],
    rate: Annotated[float, typer.Option(min=0, help="Events a second; 0: as fast as the broker confirms.")] = 0.0,
    encoding: Annotated[
        Literal["avro", "json"], typer.Option(help="How records are written: Avro single-object encoding, or JSON.")
    ] = "avro",
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON on stdout.")] = False,
) -> int:
    """Publish events to Kafka, keyed by company, each confirmed by the broker.

    FILE holds one JSON object a line, or is an Avro object container file, or one record in Avro single-object
    encoding. A line that is no event is named with its reason, stops nothing else, and makes the exit status 1.
    """
    settings = prepare("kafka")
    with open_input(file) as stream:
        summary = asyncio.run(_publish(settings, stream, rate, encoding, json))
    if json:
        print_json(summary)
    else:
        pace = f" ({summary.published / summary.seconds:.0f} a second)" if summary.seconds >= 1 else ""
        wrong = f"; {len(summary.invalid)} lines are no events" if summary.invalid else ""
        say(f"published {summary.published} events in {summary.seconds:.1f} s{pace}{wrong}")
    return Status.FAILED if summary.invalid else Status.DONE


@contextmanager
def open_input(file: str) -> Iterator[BinaryIO]:
    """A file's or, for `-`, standard input's bytes. Raises UsageError where it cannot be opened."""
    if file == "-":
        # Unbuffered: the interpreter cannot end while a thread of ours waits inside its own buffer for the next line.
        yield getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(file).open("rb"))
            stream.peek(1)  # a directory can be opened
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from None
        yield stream


async def _publish(
    settings: "Settings", stream: BinaryIO, rate: float, encoding: Literal["avro", "json"], json: bool
) -> "PublishSummary":
    from impact_in.errors import StartError
    from impact_in.operations.publish import publish_file
    from impact_in.operations.topics import missing_topics
    from streams.publisher import KafkaPublisher

    topic = settings.topics.metrics
    if await missing_topics(settings.kafka, [topic]):
        raise StartError(f"topic {topic} is missing; run `impact-in topics`")
    publisher = await KafkaPublisher.open(settings.kafka, client_id="impact-in-publish")
    try:
        with _progress(stream, shown=not json) as report:
            return await publish_file(stream, publisher, topic, encoding=encoding, rate=rate, report=report)
    finally:
        await publisher.close()


@contextmanager
def _progress(stream: BinaryIO, *, shown: bool) -> Iterator[Callable[["PublishProgress"], None]]:
    """A bar on a terminal; bad lines as they are found, terminal or not."""
    if not shown:
        yield lambda progress: None
        return
    if not sys.stderr.isatty():

        def name_bad_lines(progress: "PublishProgress") -> None:
            for wrong in progress.invalid:
                say(f"line {wrong.line}: {wrong.reason}")

        yield name_bad_lines
        return

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.fields[events]} events"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=_size(stream), events=0)

        def show(progress: "PublishProgress") -> None:
            for wrong in progress.invalid:
                console.print(f"line {wrong.line}: {wrong.reason}", markup=False, highlight=False)
            bar.update(task, completed=progress.position or 0, events=progress.published)

        yield show


def _size(stream: BinaryIO) -> int | None:
    if not stream.seekable():
        return None
    return os.fstat(stream.fileno()).st_size or None
