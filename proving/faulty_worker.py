"""The product's own worker, in which something fails: `python -m proving.faulty_worker --failpoint after-begin:37:kill
--fired FILE -- worker --role ingest`. What follows `--` is a command of `impact-in`.

The ports between the rooms are wrapped from outside, in this process alone: no code of the product knows a failpoint,
and no variable switches one on. `proving/failpoints.py` says what can fail, `proving/mutants.py` what can be wrong.
"""

import argparse
import asyncio
import inspect
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from connectors.contract import Uncertain
from connectors.registry import REGISTRY
from delivery.ports import PublishFailed
from delivery_log.contract import Go, LedgerUnavailable, Resend
from delivery_log.postgres.ledger import PostgresLedger
from guards.quota_contract import QuotasOutOfReach
from guards.quota_redis import RedisQuotas
from guards.redis_memory import RedisSeenBefore
from impact_in.cli import run
from proving.failpoints import DroppedReply, Failpoint, Failpoints, Point, parse
from proving.mutants import MUTANTS
from streams.ack_tracker import AckTracker
from streams.publisher import KafkaPublisher


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m proving.faulty_worker", description=__doc__, allow_abbrev=False)
    parser.add_argument("--failpoint", action="append", type=_failpoint, default=[], metavar="POINT:WHEN:ACTION")
    parser.add_argument("--mutant", choices=tuple(MUTANTS))
    parser.add_argument("--fired", type=Path, metavar="FILE", help="gets a line for each fault, before it acts")
    parser.add_argument("--memory-limit", type=int, metavar="MIB", help="RLIMIT_DATA of this process")
    split = list(arguments).index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:split])
    if options.memory_limit:
        size = options.memory_limit * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    if options.mutant:
        MUTANTS[options.mutant]()
    install(Failpoints(options.failpoint, options.fired))
    return run(arguments[split + 1 :])


def install(failpoints: Failpoints) -> None:
    """Wraps the ports of this process."""
    _wrap_ledger(failpoints)
    _wrap_publisher(failpoints)
    _wrap_connectors(failpoints)
    _wrap_redis(failpoints)
    _wrap_acks(failpoints)


def _failpoint(text: str) -> Failpoint:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _wrap_ledger(failpoints: Failpoints) -> None:
    unavailable = LedgerUnavailable("the reply was lost")
    _after(PostgresLedger, "record_events", failpoints, "after-rows", lambda _: unavailable)
    _after(PostgresLedger, "finish", failpoints, "after-finish", lambda _: unavailable)
    _after(
        PostgresLedger,
        "begin",
        failpoints,
        "after-begin",
        lambda _: unavailable,
        counts=lambda _, verdicts: any(isinstance(verdict, Go) for verdict in verdicts),
    )
    _after(
        PostgresLedger,
        "begin_sealed",
        failpoints,
        "after-begin",
        lambda _: unavailable,
        counts=lambda _, verdict: isinstance(verdict, Resend),
    )


def _wrap_publisher(failpoints: Failpoints) -> None:
    failed = PublishFailed("the reply was lost")

    def to(infix: str) -> Callable[[Any, Any], bool]:
        return lambda arguments, _: any(_kind(record.topic) == infix for record in arguments[0])

    _after(KafkaPublisher, "publish", failpoints, "after-publish", lambda _: failed, counts=to("request"))
    _after(KafkaPublisher, "publish", failpoints, "after-retry-publish", lambda _: failed, counts=to("retry"))


def _kind(topic: str) -> str:
    if ".deliveries." not in f".{topic}" or topic.endswith(".dlt"):
        return "other"
    return "retry" if ".retry." in topic else "request"


def _wrap_connectors(failpoints: Failpoints) -> None:
    for platform in REGISTRY.values():
        connector: Any = platform.connector
        if failpoints.watches("request-sent"):
            connector.send = _with_sent(connector.send, failpoints)
        _after(
            connector,
            "send",
            failpoints,
            "after-response",
            lambda arguments: (
                [Uncertain(error_code="CONNECTION_LOST", error_message="the answer was lost")] * len(arguments[0])
            ),
        )


def _with_sent(send: Any, failpoints: Failpoints) -> Any:
    """No client tells from outside when a request has left. So: after 25 ms, on a connection that was there or not, it
    has, and no answer has come where the platform takes longer than that (rows that use this point let it)."""

    async def wrapped(self: Any, shipments: Any, *rest: Any, **options: Any) -> Any:
        sending = asyncio.ensure_future(send(self, shipments, *rest, **options))
        try:
            await asyncio.wait([sending], timeout=0.025)
            if not sending.done():
                failpoints.passed("request-sent")
            return await sending
        finally:
            sending.cancel()

    return wrapped


def _wrap_redis(failpoints: Failpoints) -> None:
    _after(RedisQuotas, "take", failpoints, "quota", lambda _: QuotasOutOfReach("the reply was lost"))
    _after(RedisSeenBefore, "lookup", failpoints, "lookup", lambda _: {})


def _wrap_acks(failpoints: Failpoints) -> None:
    tracker: Any = AckTracker
    opened, construct = tracker.open, tracker.__init__

    def open_(self: Any, topic: str, *rest: Any) -> None:
        opened(self, topic, *rest)
        if ".deliveries." not in f".{topic}":
            failpoints.passed("after-consume")

    def init(self: Any, ack: Callable[[Any], None]) -> None:
        def watched(message: Any) -> None:
            failpoints.passed("before-ack")
            ack(message)
            failpoints.passed("after-ack")

        construct(self, watched)

    if failpoints.watches("after-consume"):
        tracker.open = open_
    if failpoints.watches("before-ack") or failpoints.watches("after-ack"):
        tracker.__init__ = init


def _after(
    owner: Any,
    name: str,
    failpoints: Failpoints,
    point: Point,
    lost: Callable[[Any], Any],
    *,
    counts: Callable[[Any, Any], bool] = lambda _, __: True,
) -> None:
    """`lost(arguments)`: what the caller gets instead of the reply, raised where it is an exception. `counts(arguments,
    answer)`: whether this call passes the point."""
    if not failpoints.watches(point):
        return
    original = getattr(owner, name)
    assert inspect.iscoroutinefunction(original), f"{owner.__name__}.{name} is no port any more"

    async def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        answer = await original(self, *arguments, **options)
        if counts(arguments, answer):
            try:
                failpoints.passed(point)
            except DroppedReply as dropped:
                instead = lost(arguments)
                if isinstance(instead, Exception):
                    raise instead from dropped
                return instead
        return answer

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
