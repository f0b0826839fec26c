"""Publishing: patient, confirmed, and told to the ledger when it can hear."""

import asyncio
from uuid import UUID, uuid4

import msgspec
import pytest

from delivery.ports import OutgoingRecord
from delivery.publication import Publication
from delivery_log.contract import LedgerUnavailable
from schemas import headers
from tests.delivery.virtual_time import settle
from tests.delivery.world import World, event

pytestmark = pytest.mark.fast


def outgoing(value: bytes = b"v", key: bytes | None = b"k", topic: str = "t") -> OutgoingRecord:
    return OutgoingRecord(topic, key, value, headers.write_headers({headers.ERROR_KIND: "x", "ii-error-message": "m"}))


async def test_it_returns_when_the_broker_has_confirmed_however_long_that_takes() -> None:
    world = World()
    world.broker.refusals = 10
    task = asyncio.create_task(world.publication().publish([outgoing()]))
    await asyncio.sleep(5)
    assert not task.done()
    await task
    assert len(world.broker.records("t")) == 1
    assert world.watcher.troubles == ["publish"] * 10


async def test_after_an_outage_it_tries_again_within_two_seconds() -> None:
    world = World()
    world.broker.refusals = 1_000
    task = asyncio.create_task(world.publication().publish([outgoing()]))
    await asyncio.sleep(600)
    world.broker.refusals = 0
    await asyncio.wait_for(task, 2.1)


async def test_the_lag_is_that_of_the_slowest_request_until_the_ledger_knows_of_it() -> None:
    world = World()
    publication = world.publication()
    assert publication.lag == 0.0
    world.broker.refusals = 1_000
    task = asyncio.create_task(publication.publish([msgspec.structs.replace(outgoing(), confirms=(uuid4(), 1))]))
    await asyncio.sleep(60)
    assert publication.lag == pytest.approx(60, abs=0.1)
    world.broker.refusals = 0
    await task
    await asyncio.sleep(10)  # confirmed, and not told yet
    assert publication.lag > 70
    await publication.flush()
    assert publication.lag > 70  # lately
    await publication.flush()
    assert publication.lag == 0.0


async def test_nothing_to_publish_asks_nobody() -> None:
    world = World()
    await world.publication().publish([])
    assert world.broker.calls == []


async def test_a_lost_confirmation_publishes_twice_and_loses_nothing() -> None:
    world = World()
    world.broker.refusals, world.broker.arrive_all_the_same = 1, True
    await world.publication().publish([outgoing(b"a"), outgoing(b"b")])
    assert [record.value for record in world.broker.records("t")] == [b"a", b"b", b"a", b"b"]


@pytest.mark.parametrize("key", [b"k", None, b"k" * 3_000])
async def test_a_record_too_large_for_its_topic_is_replaced_by_its_reasons(key: bytes | None) -> None:
    world = World()
    world.broker.largest["t"] = 2_000
    dead_letter = msgspec.structs.replace(outgoing(b"v" * 5_000, key), may_be_cut=True)
    await world.publication().publish([outgoing(b"small"), dead_letter])
    small, cut = world.broker.records("t")
    assert small.value == b"small"
    assert cut.value == b""
    assert cut.key == (key and key[:1024])
    found = headers.read_headers(cut.headers)
    assert found["ii-error-kind"] == "x"
    assert "5000 bytes" in found["ii-error-message"]
    assert "publish_too_large" in world.watcher.troubles


async def test_a_request_too_large_for_its_topic_stays_unconfirmed_and_is_seen() -> None:
    world = World()
    world.broker.largest["t"] = 2_000
    of = event()
    await world.arrive(of)
    publication = world.publication()
    request = msgspec.structs.replace(outgoing(b"v" * 5_000), confirms=(world.row(of).id, 1))
    await publication.publish([request])
    await publication.flush()
    assert world.broker.records("t") == []
    assert world.row(of).published_hop == 0
    assert "publish_too_large" in world.watcher.troubles


async def confirmed_hops(world: World, publication: Publication, *notes: tuple[UUID, int]) -> None:
    for identifier, hop in notes:
        publication.note(identifier, hop)
    await publication.flush()


async def test_notes_are_written_in_one_statement_the_last_of_each_delivery() -> None:
    world = World()
    one, other = event(), event()
    await world.arrive(one, other)
    publication = world.publication()
    world.row(one).hop = 3
    await confirmed_hops(
        world, publication, (world.row(one).id, 2), (world.row(one).id, 3), (world.row(other).id, 1), (uuid4(), 9)
    )
    assert (world.row(one).published_hop, world.row(other).published_hop) == (3, 1)
    assert world.ledger.calls["confirm_published"] == 1
    await publication.flush()
    assert world.ledger.calls["confirm_published"] == 1


async def test_notes_are_kept_while_the_ledger_is_away_and_newer_ones_win() -> None:
    world = World()
    of = event()
    await world.arrive(of)
    publication = world.publication()
    world.row(of).hop = 2
    publication.note(world.row(of).id, 1)
    world.ledger.failures = 1
    flushing = asyncio.create_task(publication.flush())
    await asyncio.sleep(0)
    publication.note(world.row(of).id, 2)
    with pytest.raises(LedgerUnavailable):
        await flushing
    await publication.flush()
    assert world.row(of).published_hop == 2


async def test_run_writes_notes_each_interval_and_waits_out_the_ledger() -> None:
    world = World()
    of = event()
    await world.arrive(of)
    publication = world.publication()
    running = asyncio.create_task(publication.run())
    world.ledger.failures = 3
    publication.note(world.row(of).id, 1)
    await asyncio.sleep(3.5)
    assert world.row(of).published_hop == 0
    assert world.watcher.troubles == ["confirm_published"] * 3
    await asyncio.sleep(1)
    assert world.row(of).published_hop == 1
    running.cancel()
    await settle()
    assert running.cancelled()
