"""Connectors from settings, and the platform that is answered for."""

from uuid import uuid4

import pytest

from connectors.contract import Accepted, Shipment, Unavailable
from connectors.mock import MockConnector
from impact_in.platforms import build_connectors, credential_fingerprints, webhooks
from impact_in.settings import load
from schemas.identity import idempotency_key
from tests.connectors.events import event
from tests.impact_in.test_settings import COMPLETE

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("environment")]

MOCKED = {"BENEVITY_MOCK_MODE": "true", "GOODERA_MOCK_MODE": "true", "WORKDAY_MOCK_MODE": "true"}


async def test_each_enabled_platform_gets_its_connector() -> None:
    connectors = build_connectors(load("platforms", environ=COMPLETE | {"IMPACT_IN_GOODERA_ENABLED": "false"}))
    assert list(connectors) == ["benevity", "workday"]
    assert not any(isinstance(connector, MockConnector) for connector in connectors.values())
    for connector in connectors.values():
        await connector.close()


async def test_what_becomes_of_a_token_request_is_told_with_its_platform() -> None:
    told: list[tuple[str, str]] = []
    nowhere = {"WORKDAY_API_URL": "http://127.0.0.1:9"}
    connectors = build_connectors(
        load("platforms", environ=COMPLETE | nowhere), lambda platform, result: told.append((platform, result))
    )
    [outcome] = await connectors["workday"].send([shipment()], uuid4())
    assert isinstance(outcome, Unavailable)
    assert told == [("workday", "unavailable")]
    for connector in connectors.values():
        await connector.close()


def test_a_fingerprint_is_another_for_another_credential_and_tells_nothing() -> None:
    def of(salt: str = "ledger", **changes: str) -> dict[str, str]:
        return credential_fingerprints(load("platforms", environ=COMPLETE | changes), salt)

    assert of() == of()
    changed = of(GOODERA_API_KEY="another")
    assert {name for name in changed if changed[name] != of()[name]} == {"goodera"}
    assert set(of("another ledger").values()).isdisjoint(of().values())
    assert set(of(**MOCKED).values()).isdisjoint(of().values())
    assert all(len(text) == 16 for text in of().values())


async def test_a_mocked_platform_writes_the_same_bodies_and_calls_nobody() -> None:
    real = build_connectors(load("platforms", environ=COMPLETE))
    mocked = build_connectors(load("platforms", environ=MOCKED))
    one = event()
    for name, connector in mocked.items():
        assert (connector.name, connector.ordering, connector.batch_size) == (
            name,
            real[name].ordering,
            real[name].batch_size,
        )
        assert connector.understands(one) == real[name].understands(one)
        assert connector.body(one, "org", 0) == real[name].body(one, "org", 0)
        shipments = [shipment() for _ in range(min(2, connector.batch_size))]
        outcomes = await connector.send(shipments, uuid4())
        assert outcomes == await connector.send(shipments, uuid4())
        assert outcomes == [Accepted(transaction_id=f"mock-{one.idempotency_key}") for one in shipments]
        await connector.close()
        await real[name].close()


def test_a_platform_accepts_webhooks_under_each_of_its_secrets() -> None:
    found, keys = webhooks(load("gateway", environ={"GOODERA_WEBHOOK_SECRET": "old, whsec_bmV3"}))
    assert list(found) == ["benevity", "goodera", "workday"]
    assert keys == {"benevity": (), "goodera": (b"old", b"new"), "workday": ()}


def shipment() -> Shipment:
    delivery = uuid4()
    return Shipment(
        delivery_id=delivery,
        event=event(),
        organization_id="org",
        generation=0,
        body=b"{}",
        idempotency_key=idempotency_key(delivery, 0),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
