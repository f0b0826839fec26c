"""Logs go to stderr: JSON lines in production, readable otherwise, without colours where no terminal is.

The standard library's logging goes the same way, so that the libraries' lines look like ours.
"""

import asyncio
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
import structlog

# What these say of every record, commit and heartbeat is not for an operator.
_CHATTY = ("faust", "mode", "aiokafka", "asyncio", "aiohttp.access", "kafka", "streams")
# A new cluster has no coordinator for a moment: it is tried again, and an error line a try would only frighten.
_PATIENT = ("aiokafka.consumer.group_coordinator",)


_encode = msgspec.json.Encoder().encode


def configure(*, level: str = "info", production: bool = False, quiet: bool = False) -> None:
    """Call once settings are known; before that, once with nothing, for what loading them has to say.

    `quiet`: for a command that ends with one line of its own about a server it cannot reach; the Kafka client's lines
    about each connection that fails would only stand before it.
    """
    _Format.production = production
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_last(production=production))
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL if quiet else max(logging.WARNING, root.level))
    for name in _PATIENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def write_line(logger: str, event: str, fields: Mapping[str, object]) -> None:
    """One line at info, as the others look, for what happens thousands of times a second: structlog's way through the
    standard library costs a tenth of a delivery. Ids and times may stand in `fields` as they are. Call after
    `configure`."""
    if _logger(logger).isEnabledFor(logging.INFO):
        now = datetime.now(UTC)
        if _Format.production:
            line = _encode({**fields, "event": event, "logger": logger, "level": "info", "timestamp": now})
            _write_soon(line.decode())
        else:
            moment = now.isoformat().replace("+00:00", "Z")
            told = " ".join([f"{name}={value}" for name, value in fields.items() if value is not None])
            _write_soon(f"{moment} [info     ] {event:<30} [{logger}] {told}")


_logger = cache(logging.getLogger)
_lines: list[str] = []


def _write_soon(line: str) -> None:
    """At the end of this pass of the loop, together with its others: each write is a call into the system, during which
    another thread takes the interpreter."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        sys.stderr.write(line + "\n")
        return
    if not _lines:
        loop.call_soon(_flush)
    _lines.append(line)


def _flush() -> None:
    text = "\n".join(_lines) + "\n"
    _lines.clear()
    sys.stderr.write(text)


class _Format:
    production = False


def _last(*, production: bool) -> list[Any]:
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if production:
        return [strip, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Plain tracebacks: the pretty ones show local variables, and so events and secrets.
    plain = structlog.dev.plain_traceback
    return [strip, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
