"""Faults of the ledger's server: nothing is sent and nothing acked without it, and work goes on within 5 s of its
return."""

import asyncio

import asyncpg

from proving.row import Row
from proving.tight_disk import TightDisk
from proving.trial import Conditions, Trial, Unmet

_THROUGH = Conditions(through=("postgres",))
_WITHIN = 5.0


async def _down(trial: Trial) -> None:
    await trial.start()
    await trial.publish(0.0, 0.7)
    await trial.flowing(0.1)
    trial.ground.database.kill()
    await _nothing_moves(trial, 5.0)
    await asyncio.to_thread(trial.ground.database.start)
    trial.lifted()
    trial.fired("SIGKILL to the server, away for 6 s; nothing sent, nothing committed to Kafka meanwhile")
    await _goes_on(trial)
    await trial.publish(0.7, 1.0)


async def _nothing_moves(trial: Trial, seconds: float) -> None:
    """Neither requests nor commits, once what was under way has had a second to end."""
    await asyncio.sleep(1.0)
    requests, committed = await trial.requests_seen(), await trial.committed()
    await asyncio.sleep(seconds)
    sent, acked = await trial.requests_seen() - requests, await trial.committed() - committed
    if sent or acked:
        raise Unmet(f"without the ledger {sent} requests were sent and {acked} offsets committed")


async def _goes_on(trial: Trial, within: float = _WITHIN) -> None:
    async def again() -> bool:
        return await trial.recovery() is not None

    await trial.until(again, within + 5.0, f"a delivery within {within:g} s of Postgres' return")
    took = await trial.recovery()
    if took is None or took > within:
        raise Unmet(f"work went on {took} s after Postgres' return")


async def _terminated(trial: Trial) -> None:
    await trial.start()
    await trial.publish(0.0, 0.7)
    ended = 0
    for share in (0.1, 0.2, 0.3, 0.4):
        await trial.flowing(share)
        rows = await trial.sql(
            "select count(pg_terminate_backend(pid)) as n from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
        ended += rows[0]["n"]
        trial.lifted()
    if not ended:
        raise Unmet("there was no backend to end")
    trial.fired(f"pg_terminate_backend, four times, {ended} backends")
    await _goes_on(trial)
    await trial.publish(0.7, 1.0)


async def _read_only(trial: Trial) -> None:
    """As after a failover: the server answers, and takes no write."""
    await trial.start()
    await trial.publish(0.0, 0.7)
    await trial.flowing(0.1)
    name = (await trial.sql("select current_database() as name"))[0]["name"]
    await trial.sql(f'alter database "{name}" set default_transaction_read_only = on')
    await _end_backends(trial)
    await _nothing_moves(trial, 4.0)
    await trial.sql(f'alter database "{name}" reset default_transaction_read_only')
    await _end_backends(trial)
    trial.lifted()
    trial.fired("default_transaction_read_only for 5 s; nothing sent, nothing committed to Kafka meanwhile")
    await _goes_on(trial)
    await trial.publish(0.7, 1.0)


async def _end_backends(trial: Trial) -> None:
    await trial.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid()"
    )


async def _locked(trial: Trial) -> None:
    """A person's transaction holds a third of the unfinished rows, then the whole table."""
    await trial.start()
    await trial.publish(0.0, 0.7)
    await trial.flowing(0.1)
    connection = await asyncpg.connect(trial.database_url)
    try:
        async with connection.transaction():
            rows = await connection.fetch(
                "select id from impact_deliveries where status in ('pending', 'retrying') "
                "and hashtext(id::text) % 3 = 0 for update skip locked"
            )
            before = await trial.delivered()
            await trial.until(lambda: _more(trial, before + 100), 30.0, "rows that nobody holds go on")
            await asyncio.sleep(2.0)
        async with connection.transaction():
            await connection.execute("lock table impact_deliveries in access exclusive mode")
            await asyncio.sleep(6.0)
        trial.lifted()
    finally:
        await connection.close()
    trial.fired(f"{len(rows)} rows locked for 2 s and more while others went on; the table for 6 s")
    await _goes_on(trial)
    await trial.publish(0.7, 1.0)


async def _more(trial: Trial, count: int) -> bool:
    return await trial.delivered() >= count


async def _disk_full(trial: Trial) -> None:
    """The server's data on a file system of 256 MB, filled to the last byte, and freed again."""
    disk = trial.ground.database
    if not isinstance(disk, TightDisk):
        raise Unmet("the ledger's disk is not tight")
    await trial.start()
    await trial.publish(0.0, 0.7)
    await trial.flowing(0.1)
    filled = await asyncio.to_thread(disk.fill)
    try:
        refused = await trial.refuses_to_grow()
        await asyncio.sleep(5.0)
    finally:
        disk.free()
    if not disk.running:
        await asyncio.to_thread(disk.start)
    trial.lifted()
    trial.fired(f"{filled / 1e6:.0f} MB filled to the last byte for 5 s: {refused}")
    await _goes_on(trial, 10.0)
    await trial.publish(0.7, 1.0)


async def _reply_lost(trial: Trial) -> None:
    """By the network, whichever statement it is; and inside the worker for each of the three that matter."""
    points = ("after-rows:*2", "after-begin:*7", "after-finish:*7")
    await trial.start(*[word for point in points for word in ("--failpoint", f"{point}:drop-reply")])
    await trial.publish(0.0, 0.7)
    await trial.flowing(0.05)
    await trial.lose_replies("postgres", 20, 13, "statements reached the server")
    await trial.flowing(0.4)
    trial.note_failpoints("reply dropped inside the worker")
    await trial.publish(0.7, 1.0)


ROWS = (
    Row(area="Postgres", fault="down", run=_down),
    Row(area="Postgres", fault="every backend terminated", run=_terminated),
    Row(area="Postgres", fault="read-only (failover)", run=_read_only),
    Row(area="Postgres", fault="locked", run=_locked),
    Row(area="Postgres", fault="disk full", run=_disk_full, conditions=Conditions(tight_disk=True)),
    Row(area="Postgres", fault="reply to a commit lost", run=_reply_lost, conditions=_THROUGH),
)
