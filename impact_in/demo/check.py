"""The ledger check at the demo's end: E1, E2, E3, E5 and E9, from topics, tables and what the simulators saw."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from uuid import UUID

from impact_in.demo.expected import expected_sums
from impact_in.demo.stage import DELAYS, PLATFORMS, Stage
from impact_in.ledger_check import Violation, equations, read_kafka, read_ledger
from impact_in.ledger_check.facts import DeliveryFact, read_positions
from schemas.durations import format_duration
from schemas.event import ImpactMetricEvent

_COMMIT_WITHIN = 15.0


async def check(stage: Stage, events: Sequence[ImpactMetricEvent]) -> dict[str, list[Violation]]:
    """Equation → what breaks it, for the equations that were checked. At rest only."""
    delays = [format_duration(delay) for delay in DELAYS]
    await _committed(stage, delays)
    ledger = await read_ledger(stage.database)
    kafka = await read_kafka(stage.connection, stage.topics, PLATFORMS, delays)
    by_id = {event.event_id: event for event in events}
    found = {
        "E1": equations.e1_every_committed_record_has_one_visible_outcome(
            kafka.metrics, kafka.positions, ledger.events, kafka.metrics_dlt
        ),
        "E2": equations.e2_every_expected_delivery_is_finished(
            ((event.event_id, platform) for event in events for platform in PLATFORMS), ledger.deliveries
        ),
        "E3": [],
        "E5": equations.e5_dead_letters_are_what_could_not_be_done(
            ledger.deliveries, kafka.deliveries_dlt, kafka.metrics, kafka.metrics_dlt
        ),
        "E9": equations.e9_everything_is_committed(kafka.positions),
    }
    for platform in PLATFORMS:
        received = await stage.received(platform, keys=True)
        effects = {key: seen["effects"] for key, seen in received["keys"].items()}
        rows = [delivery for delivery in ledger.deliveries if delivery.platform == platform]
        found["E3"] += equations.e3_effects_are_what_was_delivered(
            platform,
            rows,
            effects,
            {name: Decimal(text) for name, text in received["sums"].items() if Decimal(text)},
            expected_sums(platform, _applied(effects, rows, by_id)),
        )
    return found


def _applied(
    effects: Mapping[str, int], rows: Iterable[DeliveryFact], events: Mapping[UUID, ImpactMetricEvent]
) -> list[ImpactMetricEvent]:
    """The events whose keys have an effect; of a batch's members, which share one, those that were not refused."""
    return [
        events[row.event_id]
        for row in rows
        if row.idempotency_key is not None
        and effects.get(row.idempotency_key)
        and row.event_id in events
        and not (row.outcome == "dead" and row.refused)
    ]


async def _committed(stage: Stage, delays: Sequence[str]) -> None:
    """Offsets are committed a moment after the work: wait until they are, so that E9 speaks of the rest."""
    give_up_at = time.monotonic() + _COMMIT_WITHIN
    while time.monotonic() < give_up_at:
        positions = await read_positions(stage.connection, stage.topics, PLATFORMS, delays)
        if not equations.e9_everything_is_committed(positions):
            return
        await asyncio.sleep(0.25)
