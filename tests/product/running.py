"""The product on given servers, with simulated platforms as its witnesses: what the tests of this folder share."""

import asyncio
from collections.abc import Sequence

from delivery.ports import OutgoingRecord
from impact_in.demo.check import check
from impact_in.demo.progress import Progress, read_progress
from impact_in.demo.stage import PLATFORMS, Stage
from schemas import ImpactMetricEvent, encode_single_object
from schemas.event import to_avro
from tests.servers import eventually

KEYED = ("benevity", "workday")


async def publish(stage: Stage, events: Sequence[ImpactMetricEvent], *, at_once: int = 200) -> None:
    for first in range(0, len(events), at_once):
        await stage.publisher.publish([record(stage, event) for event in events[first : first + at_once]])


def record(stage: Stage, event: ImpactMetricEvent) -> OutgoingRecord:
    return OutgoingRecord(
        stage.topics.metrics, str(event.company_id).encode(), encode_single_object(to_avro(event)), []
    )


async def finished(stage: Stage, events: int, *, timeout: float) -> Progress:
    """Waits until all events are in and nothing is pending or retrying."""

    async def done() -> Progress | None:
        progress = await read_progress(stage.database, PLATFORMS)
        return progress if progress.finished(events) else None

    progress = await eventually(done, timeout=timeout, what=f"{events} events are finished")
    assert progress is not None
    return progress


async def kill_worker_at(stage: Stage, delivered: int, *, timeout: float = 60.0) -> None:
    """SIGKILL, once so many deliveries have been made: in full flow."""

    async def far_enough() -> bool:
        progress = await read_progress(stage.database, PLATFORMS)
        return sum(count.delivered for count in progress.platforms.values()) >= delivered

    await eventually(far_enough, timeout=timeout, what=f"{delivered} deliveries")
    stage.worker.kill()
    assert await stage.worker.wait() == -9


async def assert_ledger_holds(stage: Stage, events: Sequence[ImpactMetricEvent]) -> None:
    found = await check(stage, events)
    broken = {name: [violation.what for violation in some][:5] for name, some in found.items() if some}
    assert not broken


async def assert_order_kept(stage: Stage, events: Sequence[ImpactMetricEvent]) -> None:
    """On keyed platforms the effects of a company came in the order in which its events were published."""
    place = {event.event_id: (event.company_id, number) for number, event in enumerate(events)}
    for platform in KEYED:
        rows = await stage.database.fetch(
            "select event_id, idempotency_key from impact_deliveries where platform = $1", platform
        )
        of_key = {row["idempotency_key"]: row["event_id"] for row in rows}
        last: dict[object, int] = {}
        for request in await stage.requests(platform):
            if not request["effect"]:
                continue
            company, number = place[of_key[request["key"]]]
            assert last.get(company, -1) < number, f"{platform}: event {number} of {company} came after {last[company]}"
            last[company] = number


async def repeated_requests(stage: Stage) -> int:
    """How many requests the platforms saw beyond one for each key."""
    extra = 0
    for platform in PLATFORMS:
        received = await stage.received(platform, keys=True)
        extra += received["requests"] - len(received["keys"])
    await asyncio.sleep(0)
    return extra


async def assert_batches_kept(stage: Stage) -> None:
    """Goodera's records went in batches, and whatever went again under a batch's key was the same, byte for byte."""
    received = await stage.received("goodera", keys=True)
    assert received["records"] > 2 * received["requests"]
    keys = received["keys"].values()
    assert [key["bodySha256s"] for key in keys if len(key["bodySha256s"]) > 1] == []
    assert any(key["requests"] > 1 for key in keys)
