"""One request, bounded by its lease. Whatever happens is an outcome."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from connectors.contract import Connector, Outcome, Shipment, Unavailable, Uncertain
from delivery.observer import Observer, Trouble

LEASE_SPENT = "LEASE_SPENT"
"""This worker stood still for so long that nothing was sent: no fault of the delivery's."""


async def send(
    connector: Connector,
    shipments: Sequence[Shipment],
    idempotency_key: UUID,
    *,
    asked_at: float,
    lease: float,
    request_timeout: float,
    observer: Observer,
) -> list[Outcome]:
    """One outcome for each shipment. Seconds; `asked_at`: the loop's time when the ledger was asked for the lease."""
    # The bound is the lease's: a request must not outlive it, whatever the connector's own limit does. Where the
    # process stood still since it asked, the rows may be another's by now.
    limit = min(request_timeout + 5.0, lease * 0.9)
    outcome: Outcome
    if asyncio.get_running_loop().time() - asked_at + limit > lease:
        outcome = Unavailable(
            error_code=LEASE_SPENT, error_message="this worker stood still; nothing was sent", fate_known=True
        )
        return [outcome] * len(shipments)
    try:
        async with asyncio.timeout(limit):
            outcomes = await connector.send(shipments, idempotency_key)
            if len(outcomes) != len(shipments):
                raise ValueError(f"{len(outcomes)} outcomes of {len(shipments)} shipments")
            return outcomes
    except TimeoutError:
        outcome = Uncertain(error_code="TIMEOUT", error_message=f"no answer within {limit:g} s")
    except Exception as error:  # nobody can know whether bytes had left
        observer.notice(Trouble("connector_send", type(error).__name__))
        outcome = Uncertain(error_code="INTERNAL_ERROR", error_message=f"the connector failed: {type(error).__name__}")
    return [outcome] * len(shipments)
