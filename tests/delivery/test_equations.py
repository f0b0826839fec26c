"""Arrivals, crashes, redeliveries, doubled and lost records, cancels, clock steps, in any order: the ledger's equations
(guarantees.md) hold after each, and at rest everything has ended exactly once."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import UUID, uuid5

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from delivery_log.contract import CompanyPlatform
from delivery_log.memory.companies import MemoryCompanyRegistry
from schemas.event import ImpactMetricEvent
from schemas.identity import delivery_id
from schemas.reading import UnreadableKind
from tests.delivery.house import POISON, House
from tests.delivery.virtual_time import VirtualLoop
from tests.delivery.world import TOPICS, event, raw

pytestmark = pytest.mark.fast

NAMESPACE = UUID(int=7)
COMPANIES = [uuid5(NAMESPACE, f"company {number}") for number in range(4)]
ROUTES = [
    {"benevity", "goodera"},
    {"benevity", "goodera"},
    {"benevity"},
    set(),
]
KEYED = "benevity"

cycles = st.integers(0, 25)
platforms = st.sampled_from(["benevity", "goodera"])
workers = st.sampled_from(["w1", "w2"])
choices = st.integers(0, 10**6)


class Deliveries(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.house: House = self.run(self._open())
        self.events: list[ImpactMetricEvent] = []
        self.published: list[tuple[str, ImpactMetricEvent | None]] = []
        self.cancelled: set[UUID] = set()
        self.crashes = 0

    async def _open(self) -> House:
        house = House(self.loop)
        for company, routes in zip(COMPANIES, ROUTES, strict=True):
            for platform in routes:
                house.state.company_platforms[company, platform] = CompanyPlatform(
                    company_id=company, platform=platform, organization_id="org"
                )
        return house

    def run(self, coroutine: Coroutine[Any, Any, Any], cycles: int = 0) -> Any:
        async def and_go_on() -> Any:
            answer = await coroutine
            for _ in range(cycles):
                await asyncio.sleep(0)
            return answer

        return self.loop.run_until_complete(and_go_on())

    # ---- what upstream services do

    def _publish(self, kind: str, of: ImpactMetricEvent | None, value: bytes | None, cycles: int) -> None:
        async def put() -> None:
            self.house.broker.put(TOPICS.metrics, None, value)

        self.published.append((kind, of))
        self.run(put(), cycles)

    @initialize(companies=st.lists(st.sampled_from([0, 0, 0, 1, 1, 2]), min_size=3, max_size=6))
    def there_is_a_backlog(self, companies: list[int]) -> None:
        for company in companies:
            self.an_event(company, 1, 0)

    @rule(company=st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3]), poison=st.integers(0, 6), cycles=cycles)
    def an_event(self, company: int, poison: int, cycles: int) -> None:
        of = event(
            COMPANIES[company],
            event_id=uuid5(NAMESPACE, f"event {len(self.events)}"),
            program_name="n" if poison else POISON,
        )
        self.events.append(of)
        self._publish("event", of, raw(of), cycles)

    @precondition(lambda self: self.events)
    @rule(which=choices, changed=st.booleans(), cycles=cycles)
    def an_event_again(self, which: int, changed: bool, cycles: int) -> None:
        of = self.events[which % len(self.events)]
        other = msgspec.structs.replace(of, source="another") if changed else of
        self._publish("conflict" if changed else "duplicate", of, raw(other), cycles)

    @rule(value=st.sampled_from([None, b"", b"garbage", b"\xc3\x01"]), cycles=cycles)
    def a_bad_record(self, value: bytes | None, cycles: int) -> None:
        self._publish("tombstone" if value is None else "bad", None, value, cycles)

    # ---- what time and the loop do

    @rule(cycles=st.integers(1, 60))
    def a_few_steps(self, cycles: int) -> None:
        self.run(asyncio.sleep(0), cycles)

    @rule(seconds=st.sampled_from([0.01, 1.0, 5.0, 20.0, 61.0, 310.0]), twice=st.booleans(), cycles=cycles)
    def time_passes(self, seconds: float, twice: bool, cycles: int) -> None:
        self.run(self.house.pass_time(seconds, forward_twice=twice), cycles)

    @rule(cycles=cycles)
    def the_sweeper_has_its_turn(self, cycles: int) -> None:
        async def turn() -> None:
            # Its calls may find the ledger away: then the next turn does it.
            failures, self.house.ledger.failures = self.house.ledger.failures, 0
            await self.house.turn()
            self.house.ledger.failures = failures

        self.run(turn(), cycles)

    # ---- what goes wrong

    @initialize(moodiness=st.sampled_from([0.3, 0.6, 0.9]), doubling=st.sampled_from([0.0, 0.5]), seed=choices)
    def there_are_faults(self, moodiness: float, doubling: float, seed: int) -> None:
        self.house.broker.doubling = doubling
        self.house.broker.chance.seed(seed)
        for number, platform in enumerate(self.house.platforms.values()):
            platform.chance.seed(seed + number)
            platform.moodiness = moodiness

    @rule(which=platforms, moodiness=st.sampled_from([0.0, 0.3, 1.0]))
    def a_platforms_mood_changes(self, which: str, moodiness: float) -> None:
        self.house.platforms[which].moodiness = moodiness

    @rule(which=platforms, cycles=cycles)
    def held_answers_come(self, which: str, cycles: int) -> None:
        async def release() -> None:
            self.house.platforms[which].release()

        self.run(release(), cycles)

    @rule(which=workers, cycles=cycles)
    def a_worker_is_killed_and_comes_back(self, which: str, cycles: int) -> None:
        self.crashes += 1
        self.run(self.house.restart(which), cycles)

    @rule(role=st.sampled_from(["ingest", "benevity", "goodera"]), cycles=cycles)
    def a_rebalance(self, role: str, cycles: int) -> None:
        async def rebalance() -> None:
            self.house.rebalance(role)

        self.run(rebalance(), cycles)

    @rule(which=workers, running=st.booleans(), cycles=cycles)
    def a_worker_stands_still_or_goes_on(self, which: str, running: bool, cycles: int) -> None:
        gate = self.house.workers[which].gate
        if running:
            gate.set()
        else:
            gate.clear()
        self.run(asyncio.sleep(0), cycles)

    @rule(ledger=st.integers(0, 3), broker=st.integers(0, 3), arrive=st.booleans())
    def servers_are_away(self, ledger: int, broker: int, arrive: bool) -> None:
        self.house.ledger.failures, self.house.broker.refusals = ledger, broker
        self.house.broker.arrive_all_the_same = arrive

    @rule(flushed=st.booleans(), available=st.booleans())
    def the_fast_memory_fails(self, flushed: bool, available: bool) -> None:
        if flushed:
            self.house.seen.forget_everything()
        self.house.seen.available = available

    @precondition(lambda self: self.house.own_topics())
    @rule(topic=choices, index=choices, cycles=cycles)
    def a_record_is_doubled(self, topic: int, index: int, cycles: int) -> None:
        async def double() -> None:
            names = self.house.own_topics()
            name = names[topic % len(names)]
            self.house.broker.double(name, index % len(self.house.broker.topics[name]))

        self.run(double(), cycles)

    @precondition(lambda self: self.house.own_topics())
    @rule(topic=choices, index=choices)
    def a_record_is_lost(self, topic: int, index: int) -> None:
        names = self.house.own_topics()
        name = names[topic % len(names)]
        self.house.broker.lose(name, index % len(self.house.broker.topics[name]))

    # ---- what operators do

    @precondition(lambda self: any(row.unfinished for row in self.house.state.deliveries.values()))
    @rule(which=choices, cycles=cycles)
    def a_delivery_is_cancelled(self, which: int, cycles: int) -> None:
        rows = [row for row in self.house.state.deliveries.values() if row.unfinished]
        row = rows[which % len(rows)]
        row.status = "failed"
        self.cancelled.add(row.id)
        self.run(asyncio.sleep(0), cycles)

    @rule(company=st.integers(0, 2), organization=st.sampled_from(["org", "org-2"]), which=platforms)
    def an_organization_changes(self, company: int, organization: str, which: str) -> None:
        if which in ROUTES[company]:
            entry = CompanyPlatform(company_id=COMPANIES[company], platform=which, organization_id=organization)
            self.run(MemoryCompanyRegistry(self.house.state).set_company_platforms([entry]))

    # ---- what holds at every moment

    @invariant()
    def nothing_broke(self) -> None:
        assert self.house.defects == []

    @invariant()
    def one_effect_and_one_content_a_key(self) -> None:
        for platform in self.house.platforms.values():
            assert max(platform.effects.values(), default=0) <= 1
            assert platform.conflicts == []

    @invariant()
    def what_is_delivered_had_its_effect(self) -> None:
        for row in self.house.state.deliveries.values():
            assert row.status != "delivered" or row.id in self.house.platforms[row.platform].effects

    @invariant()
    def what_is_delivered_stays_delivered(self) -> None:
        rows = self.house.state.deliveries
        assert all(rows[identifier].status == "delivered" for identifier in self.house.ledger.ever_delivered)

    @invariant()
    def a_companys_first_effects_are_in_order(self) -> None:
        rows = self.house.state.deliveries
        given_up = {row.id for row in rows.values() if row.status == "failed"}
        given_up |= self.cancelled | self.house.ledger.revived
        for company in COMPANIES:
            order = [
                rows[identifier].seq
                for identifier in self.house.platforms[KEYED].first_effects
                if rows[identifier].company_id == company and identifier not in given_up
            ]
            assert order == sorted(order)

    @invariant()
    def rows_are_in_the_order_of_the_topic(self) -> None:
        events = self.house.state.events
        for company in COMPANIES:
            rows = [row for row in self.house.state.deliveries.values() if row.company_id == company]
            origins = [events[row.event_id].origin for row in sorted(rows, key=lambda row: row.seq)]
            offsets = [origin.offset for origin in origins if origin is not None]
            assert len(offsets) == len(rows)
            assert offsets == sorted(offsets)

    @invariant()
    def no_dead_letter_of_a_delivered_row(self) -> None:
        rows = self.house.state.deliveries
        for name in self.house.platforms:
            for found in self.house.broker.headers(TOPICS.deliveries_dlt(name)):
                row = rows[UUID(found["ii-delivery-id"])]
                assert row.outcome == "dead" or row.id in self.house.ledger.revived
                assert found["ii-error-kind"] in ("refused", "deadline", "unknown_outcome")

    @invariant()
    def no_request_without_an_attempt(self) -> None:
        for row in self.house.state.deliveries.values():
            written = sum(identifier == row.id for identifier, _ in self.house.state.attempts)
            begun = self.house.ledger.begun[row.id]
            assert self.house.platforms[row.platform].asked[row.id] <= begun
            assert written <= begun == row.attempts

    # ---- what holds at rest

    def teardown(self) -> None:
        try:
            assert self.run(self.house.come_to_rest()), [
                row for row in self.house.state.deliveries.values() if row.unfinished
            ]
            self._at_rest()
            for check in (
                self.nothing_broke,
                self.one_effect_and_one_content_a_key,
                self.what_is_delivered_had_its_effect,
                self.what_is_delivered_stays_delivered,
                self.a_companys_first_effects_are_in_order,
                self.no_dead_letter_of_a_delivered_row,
                self.no_request_without_an_attempt,
            ):
                check()
        finally:
            self._close()

    def _at_rest(self) -> None:
        state, broker = self.house.state, self.house.broker
        first: dict[UUID, int] = {}
        contents: dict[UUID, bytes | None] = {}
        bad: dict[int, bytes | None] = {}
        # E1: every offset is exactly one of event row, dead letter, duplicate, tombstone.
        for record, (kind, of) in zip(broker.records(TOPICS.metrics), self.published, strict=True):
            if kind == "bad" or (of is not None and contents.setdefault(of.event_id, record.value) != record.value):
                bad[record.offset] = record.value
            elif of is not None:
                first.setdefault(of.event_id, record.offset)
        assert {identifier: row.origin and row.origin.offset for identifier, row in state.events.items()} == first
        letters = zip(broker.records(TOPICS.metrics_dlt), broker.headers(TOPICS.metrics_dlt), strict=True)
        found = {int(why["ii-original-offset"]): (record.value, why["ii-error-kind"]) for record, why in letters}
        assert {offset: value for offset, (value, _) in found.items()} == bad
        assert all(kind != UnreadableKind.INTERNAL_ERROR for _, kind in found.values())
        # E2: what is expected, once, and ended.
        expected = {
            delivery_id(identifier, platform): identifier
            for identifier, row in state.events.items()
            for platform in ROUTES[COMPANIES.index(row.company_id)]
        }
        assert {row.id: row.event_id for row in state.deliveries.values()} == expected
        assert all(row.status in ("delivered", "failed") for row in state.deliveries.values())
        self._effects_at_rest()

    def _effects_at_rest(self) -> None:
        poison = {of.event_id for of in self.events if of.program_name == POISON}
        for row in self.house.state.deliveries.values():
            had_effect = row.id in self.house.platforms[row.platform].effects
            # E3: an effect without a delivery is one that the ledger holds for possible.
            if had_effect and row.status != "delivered":
                assert row.uncertain_since is not None or row.id in self.cancelled
            if row.status == "failed" and row.id not in self.cancelled:
                assert row.outcome == "dead"
                assert row.event_id in poison or row.deadline_at is not None or row.error_code == "UNKNOWN_OUTCOME"
            if row.event_id in poison:
                assert not had_effect
                assert row.status == "failed"
            # E5, whatever came between an outcome and its record.
            if row.outcome == "dead":
                named = [
                    headers["ii-delivery-id"]
                    for headers in self.house.broker.headers(TOPICS.deliveries_dlt(row.platform))
                ]
                assert str(row.id) in named
            # E6, as far as no crash cost an attempt its outcome.
            if not self.crashes:
                assert row.counted <= 1 + 2 + 300 // 60 + 1

    def _close(self) -> None:
        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.loop.run_until_complete(end())
        self.loop.close()


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_a_doubled_record_does_not_park_the_row_of_its_twin() -> None:
    """Found by the machine: a forbidden organization's probe met the row that its own double had just parked, for as
    long as records were doubled, and nothing went on."""
    machine = Deliveries()
    machine.there_are_faults(moodiness=0.3, doubling=0.5, seed=6871)
    machine.there_is_a_backlog(companies=[0, 0, 0])
    for _ in range(4):
        machine.a_few_steps(cycles=1)
    machine.teardown()
