"""Faults of the worker itself."""

import asyncio
import os
import signal
import time

from proving.publisher.events import Intended
from proving.row import Row
from proving.trial import SESSION, Conditions, Trial, Unmet


def _killed(point: str, passing: int) -> Row:
    async def run(trial: Trial) -> None:
        worker = await trial.start("--failpoint", f"{point}:{passing}:kill")
        await trial.publish(0.0, 0.6)
        if await asyncio.wait_for(worker.wait(), 60.0) != -signal.SIGKILL:
            raise Unmet(await worker.epitaph())
        trial.note_failpoints("SIGKILL")
        trial.lifted()
        await trial.start(ready=False)
        await trial.publish(0.6, 1.0)

    # Where a request has to be on its way and unanswered, the platforms take their time.
    latency = 100 if point == "request-sent" else 5
    # Ingest takes up to 500 events at once, and these points are passed once each time.
    events = 900 if point in ("after-rows", "after-publish") else 600
    return Row(
        area="worker", fault=f"SIGKILL {point}", run=run, conditions=Conditions(events=events, latency_ms=latency)
    )


async def _stopped(trial: Trial) -> None:
    """SIGSTOP past the session time-out: a second worker takes the partitions over; then SIGCONT wakes a zombie that
    holds leases and answers."""
    first = await trial.start(name="a")
    await trial.publish(0.0, 0.5)
    await trial.flowing(0.15)
    os.kill(first.pid, signal.SIGSTOP)
    stopped_at, seen = time.time(), await trial.delivered()
    trial.lifted()
    await trial.start(name="b", ready=False)
    await trial.publish(0.5, 1.0)
    await trial.until(lambda: _more(trial, seen + 50), 60.0, "the second worker delivers")
    await asyncio.sleep(max(stopped_at + 3 * SESSION - time.time(), 0.0))
    trial.fired(f"stopped for {time.time() - stopped_at:.0f} s of a session of {SESSION:g} s; the other took over")
    os.kill(first.pid, signal.SIGCONT)
    trial.workers.reverse()  # the last one is who has to be alive at the end


async def _more(trial: Trial, count: int) -> bool:
    return await trial.delivered() >= count


async def _rebalance(trial: Trial) -> None:
    await trial.start(name="a")
    await trial.publish(0.0, 1.0)
    for turn in (1, 2):
        await trial.flowing(0.2 * turn)
        second = await trial.start(name=f"b{turn}")
        await trial.flowing(0.2 * turn + 0.1)
        trial.lifted()
        await second.stop(20.0)
    trial.fired("a second worker joined and left, twice")
    trial.workers.append(trial.workers.pop(0))


async def _terminated(trial: Trial) -> None:
    worker = await trial.start()
    await trial.publish(0.0, 0.7)
    await trial.flowing(0.2)
    [row] = await trial.sql("select count(*) as n from impact_deliveries where lease_until > now()")
    began = time.monotonic()
    status = await worker.stop(20.0)
    took = time.monotonic() - began
    if status != 0:
        raise Unmet(f"SIGTERM ended the worker with {status} after {took:.1f} s")
    left = await trial.sql("select count(*) as n from impact_deliveries where lease_until > now()")
    if left[0]["n"]:
        raise Unmet(f"{left[0]['n']} leases were left by an orderly stop")
    trial.fired(f"SIGTERM with {row['n']} in flight; ended in {took:.1f} s with nothing leased")
    trial.lifted()
    await trial.start(ready=False)
    await trial.publish(0.7, 1.0)


_IN_DELIVERY = ("after-begin", "after-response", "after-finish", "after-publish", "after-retry-publish")


async def _exceptions(trial: Trial) -> None:
    """An exception that nobody foresees in every handler, again and again. Where it ends the worker (a defect of
    ingest's own or of a waiter's does), its supervisor starts it anew, as Kubernetes would."""
    await trial.publish(0.0, 0.6)
    for _ in range(2):
        worker = await trial.start("--failpoint", "after-rows:2:raise", ready=False)
        if await asyncio.wait_for(worker.wait(), 60.0) == 0:
            raise Unmet("an exception in ingest ended the worker with status 0")
    await trial.publish(0.6, 1.0)
    faulty = [word for point in _IN_DELIVERY for word in ("--failpoint", f"{point}:*{_EACH[point]}:raise")]
    ends = 0
    while not trial.failpoints_fired().keys() >= set(_IN_DELIVERY):
        worker = await trial.start(*faulty, ready=False)
        ended = asyncio.create_task(worker.wait())
        while not ended.done() and not trial.failpoints_fired().keys() >= set(_IN_DELIVERY):
            await asyncio.wait([ended], timeout=0.1)
        ends += ended.done()
        await worker.stop(20.0)
    trial.note_failpoints("raised")
    trial.fired(f"the worker ended by it and was started anew {2 + ends} times")
    trial.lifted()
    await trial.start(ready=False)


_EACH = {"after-begin": 9, "after-response": 31, "after-finish": 11, "after-publish": 13, "after-retry-publish": 3}


async def _giants(trial: Trial) -> None:
    """Records of 15 MB, one after another, into a worker whose memory ends at 512 MiB (RLIMIT_DATA)."""
    admin_topic = trial.topics.metrics
    await trial.allow_large(admin_topic, trial.topics.metrics_dlt)
    worker = await trial.start("--memory-limit", "512")
    await trial.publish(0.0, 0.5)
    giant = b'{"program_name": "' + b"x" * 15_000_000 + b'"}'
    trial.lifted()
    for number in range(8):
        await trial.publish_all([Intended("poison", trial.companies[number], raw=giant)])
    await trial.publish(0.5, 1.0)
    await trial.flowing(1.0, timeout=90.0)
    if worker.returncode is not None:
        raise Unmet(await worker.epitaph())
    peak = trial.peak_mib(worker)
    trial.fired(f"8 records of 15 MB, memory limited to 512 MiB; the worker's peak was {peak:.0f} MiB")
    if peak > 400:
        raise Unmet(f"the worker's memory rose to {peak:.0f} MiB")


ROWS = (
    _killed("after-consume", 300),
    _killed("after-rows", 2),
    _killed("after-publish", 2),
    _killed("after-begin", 8),
    _killed("request-sent", 200),
    _killed("after-response", 300),
    _killed("after-finish", 8),
    _killed("after-retry-publish", 3),
    _killed("before-ack", 250),
    _killed("after-ack", 250),
    Row(area="worker", fault="SIGSTOP past the session time-out, then SIGCONT", run=_stopped),
    Row(area="worker", fault="rebalance in flight", run=_rebalance, conditions=Conditions(events=1_500)),
    Row(area="worker", fault="SIGTERM with hundreds in flight", run=_terminated, conditions=Conditions(latency_ms=50)),
    Row(area="worker", fault="an exception in any handler", run=_exceptions),
    Row(area="worker", fault="out of memory on a giant record", run=_giants),
)
