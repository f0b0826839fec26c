"""The twin in memory: what tests of the heart rely on."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import pytest

from connectors.contract import (
    Accepted,
    Outcome,
    PlatformStatus,
    Refused,
    Shipment,
    SignatureRejected,
    Unavailable,
    Uncertain,
)
from connectors.recording import RecordingConnector, RecordingWebhook, Scripted
from tests.connectors.events import FULL, entry, event, shipment

pytestmark = pytest.mark.fast


async def test_it_records_what_it_was_sent() -> None:
    twin = RecordingConnector("acme", "additive", 3)
    sent, key = [shipment(twin, number=number) for number in range(3)], uuid4()
    outcomes = await twin.send(sent, key)
    assert all(isinstance(outcome, Accepted) and outcome.transaction_id for outcome in outcomes)
    assert (twin.name, twin.ordering, twin.batch_size) == ("acme", "additive", 3)
    assert [request.idempotency_key for request in twin.requests] == [key]
    assert twin.shipments == sent
    assert twin.effects == {one.delivery_id: 1 for one in sent}


async def test_a_list_is_used_up_one_outcome_a_shipment() -> None:
    script: list[Outcome] = [Unavailable(fate_known=True), Refused(error_code="NO")]
    twin = RecordingConnector(script=script)
    sent = shipment(twin)
    outcomes = [(await twin.send([sent], sent.idempotency_key))[0] for _ in range(3)]
    assert outcomes[:2] == script
    assert isinstance(outcomes[2], Accepted)
    assert twin.effects == {sent.delivery_id: 1}


async def test_a_key_that_had_its_effect_has_no_second() -> None:
    twin = RecordingConnector(script=lambda _: Scripted(Uncertain(), effect=True))
    sent = shipment(twin)
    first, second, third = [(await twin.send([sent], sent.idempotency_key))[0] for _ in range(3)]
    assert isinstance(first, Uncertain)
    assert isinstance(second, Accepted)
    assert second == third
    assert twin.effects[sent.delivery_id] == 1
    await twin.send([sent], uuid4())
    assert twin.effects[sent.delivery_id] == 2


async def test_a_platform_without_keys_counts_every_request() -> None:
    twin = RecordingConnector(honours_keys=False)
    sent = shipment(twin)
    for _ in range(3):
        await twin.send([sent], sent.idempotency_key)
    assert twin.effects[sent.delivery_id] == 3


async def test_another_body_under_a_key_is_written_down() -> None:
    twin = RecordingConnector()
    sent = shipment(twin)
    changed = msgspec.structs.replace(sent, body=b"{}")
    await twin.send([sent], sent.idempotency_key)
    assert twin.conflicts == []
    await twin.send([changed], sent.idempotency_key)
    assert twin.conflicts == [changed]


async def test_a_script_may_wait_and_may_raise() -> None:
    gate = asyncio.Event()

    async def script(sent: Shipment) -> Outcome:
        await gate.wait()
        raise RuntimeError("the connector is broken")

    twin = RecordingConnector(script=script)
    sent = shipment(twin)
    task = asyncio.create_task(twin.send([sent], sent.idempotency_key))
    await twin.until(requests=1)
    assert not task.done()
    gate.set()
    with pytest.raises(RuntimeError, match="broken"):
        await task


async def test_a_request_may_be_answered_as_a_whole() -> None:
    answers = iter([Refused(whole=True), Scripted(Uncertain(), effect=True), None])
    twin = RecordingConnector("acme", "additive", 3, whole=lambda _: next(answers))
    sent, key = [shipment(twin, number=number) for number in range(3)], uuid4()
    assert await twin.send(sent, key) == [Refused(whole=True)] * 3
    assert await twin.send(sent, key) == [Uncertain()] * 3
    assert all(isinstance(outcome, Accepted) for outcome in await twin.send(sent, key))
    assert twin.effects == {one.delivery_id: 1 for one in sent}
    assert twin.conflicts == []


async def test_another_list_under_a_batchs_key_is_a_conflict() -> None:
    twin = RecordingConnector("acme", "additive", 3)
    sent, key = [shipment(twin, number=number) for number in range(3)], uuid4()
    await twin.send(sent, key)
    await twin.send(sent[:2], key)
    assert twin.conflicts == sent[:2]


async def test_more_than_a_batch_is_the_callers_mistake() -> None:
    twin = RecordingConnector(batch_size=1)
    sent = shipment(twin)
    with pytest.raises(ValueError, match="2 shipments in a request of 1 to 1"):
        await twin.send([sent, sent], sent.idempotency_key)


def test_what_it_understands_is_up_to_the_test() -> None:
    assert RecordingConnector().understands(FULL)
    picky = RecordingConnector(understands=lambda of: of.metrics[0].metric == "sessions")
    assert not picky.understands(FULL)
    assert picky.understands(event(entry("sessions")))


def test_its_webhook_can_be_signed_and_read() -> None:
    hook = RecordingWebhook()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    headers, raw = hook.signed(PlatformStatus.REJECTED, "t-1", at, b"key")
    hook.verify(headers, raw, [b"key"], 0.0)
    report = hook.parse(raw)
    assert (report.status, report.transaction_id, report.occurred_at) == (PlatformStatus.REJECTED, "t-1", at)
    with pytest.raises(SignatureRejected, match="mismatch"):
        hook.verify(headers, raw, [b"another"], 0.0)
