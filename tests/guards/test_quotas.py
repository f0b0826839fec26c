"""What every quota promises: one suite for the twin and for Valkey, an oracle that knows no buckets, and what only a
server can get wrong."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guards.quota_contract import LENGTHS, WINDOWS, Attempts, Granted, Limits, QuotasOutOfReach, Wait
from guards.quota_memory import MemoryQuotas
from guards.quota_redis import RedisQuotas

START = 1_790_000_000.123456
SECONDS = [length / 1_000_000 for length in LENGTHS]
NONE = Limits()


class Clock:
    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Backend:
    """Makes quotas of one kind that share a memory and a clock, as the workers of a fleet do."""

    def __init__(self, url: str | None) -> None:
        self.url = url
        self.clock = Clock()
        self.opened: list[MemoryQuotas | RedisQuotas] = []

    def open(self, attempts: Attempts | None = None) -> MemoryQuotas | RedisQuotas:
        if self.url is None:
            quotas: MemoryQuotas | RedisQuotas = MemoryQuotas(attempts=attempts, clock=self.clock)
        else:
            quotas = RedisQuotas.open(self.url, "ledger-1", attempts=attempts, timeout=5, clock=self.clock)
        self.opened.append(quotas)
        return quotas


@pytest.fixture(
    params=[pytest.param("memory", marks=pytest.mark.fast), pytest.param("redis", marks=pytest.mark.servers)]
)
def memory_url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue("redis_url")


@pytest.fixture
async def backend(memory_url: str | None) -> AsyncIterator[Backend]:
    backend = Backend(memory_url)
    yield backend
    for quotas in backend.opened:
        await quotas.close()


@pytest.fixture
def clock(backend: Backend) -> Clock:
    return backend.clock


@pytest.fixture
def quotas(backend: Backend) -> MemoryQuotas | RedisQuotas:
    return backend.open()


AnyQuotas = MemoryQuotas | RedisQuotas


async def take_all(quotas: AnyQuotas, limits: Limits, scope: str = "acme", most: int = 1_000) -> int:
    granted = 0
    while granted < most and isinstance(await quotas.take(scope, limits), Granted):
        granted += 1
    return granted


async def wait_of(quotas: AnyQuotas, limits: Limits, scope: str = "acme") -> float:
    answer = await quotas.take(scope, limits)
    assert isinstance(answer, Wait)
    return answer.after


@pytest.mark.fast
@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_nothing_is_refused(limit: int) -> None:
    for name in WINDOWS:
        with pytest.raises(ValueError, match=name):
            Limits(**{name: limit})


@pytest.mark.parametrize("window", range(3))
async def test_the_limit_is_granted_and_the_wait_is_exact(quotas: AnyQuotas, clock: Clock, window: int) -> None:
    limits = Limits(**{WINDOWS[window]: 7})
    assert await take_all(quotas, limits) == 7
    after = await wait_of(quotas, limits)
    assert SECONDS[window] < after <= SECONDS[window] * 61 / 60 + 0.0001
    clock.now += after - 0.0001
    assert await wait_of(quotas, limits) == pytest.approx(0.001)  # never shorter: waiters do not spin
    clock.now += 0.0001
    assert await take_all(quotas, limits) == 7


async def test_all_three_windows_count_and_the_fullest_decides(quotas: AnyQuotas, clock: Clock) -> None:
    limits = Limits(per_second=2, per_minute=3, per_day=4)
    assert await take_all(quotas, limits) == 2
    clock.now += await wait_of(quotas, limits)
    assert await take_all(quotas, limits) == 1
    after = await wait_of(quotas, limits)
    assert 58 < after < 61
    clock.now += after
    assert await take_all(quotas, limits) == 1
    assert 86_000 < await wait_of(quotas, limits) < 88_000
    assert await quotas.usage("acme", limits) == {"per_second": 1, "per_minute": 2, "per_day": 4}
    assert await quotas.usage("acme", Limits(per_day=9)) == {"per_day": 4}


async def test_scopes_do_not_know_of_each_other(quotas: AnyQuotas) -> None:
    limits = Limits(per_minute=1)
    assert await take_all(quotas, limits, "acme") == 1
    assert await take_all(quotas, limits, "a}{c:me") == 1
    assert await quotas.usage("unheard of", limits) == {"per_minute": 0}


async def test_a_changed_limit_counts_with_the_next_take_and_what_was_granted_before(quotas: AnyQuotas) -> None:
    assert await take_all(quotas, NONE, most=5) == 5
    assert await wait_of(quotas, Limits(per_minute=3)) > 1
    assert await take_all(quotas, Limits(per_minute=7)) == 2


async def test_a_repeated_call_is_granted_once(quotas: AnyQuotas, clock: Clock) -> None:
    limits = Limits(per_minute=3)
    first = await quotas.take("acme", limits, call="c1")
    clock.now += 9.9
    await quotas.hold("acme", 1)
    assert await quotas.take("acme", limits, call="c1") == first
    assert await quotas.usage("acme", limits) == {"per_minute": 1}
    clock.now += 1
    assert await quotas.take("acme", limits, call="c1") == first
    assert await quotas.usage("acme", limits) == {"per_minute": 2}  # after ten seconds it is another call


async def test_what_is_given_back_can_be_taken_again_but_only_once(quotas: AnyQuotas, clock: Clock) -> None:
    limits = Limits(per_second=2, per_minute=2, per_day=2)
    granted = await quotas.take("acme", limits)
    assert isinstance(granted, Granted)
    assert await take_all(quotas, limits) == 1
    clock.now += 5
    await quotas.give_back("acme", granted)
    await quotas.give_back("acme", granted)
    await quotas.give_back("acme", Granted("never given"))
    assert await quotas.usage("acme", limits) == {"per_second": 0, "per_minute": 1, "per_day": 1}
    late = await quotas.take("acme", limits)
    assert isinstance(late, Granted)
    clock.now += 11
    await quotas.give_back("acme", late)
    assert await quotas.usage("acme", limits) == {"per_second": 0, "per_minute": 2, "per_day": 2}


async def test_a_hold_stops_everybody_and_the_longer_one_is_kept(quotas: AnyQuotas, clock: Clock) -> None:
    await quotas.hold("acme", 30)
    await quotas.hold("acme", 10)
    await quotas.hold("acme", -5)
    assert await wait_of(quotas, NONE) == pytest.approx(30)
    assert await take_all(quotas, NONE, "other", most=1) == 1
    clock.now += 31
    assert await take_all(quotas, NONE, most=1) == 1
    await quotas.hold("acme", 100 * 3600)
    clock.now += 99 * 3600
    assert await wait_of(quotas, NONE) == pytest.approx(3600)
    for absurd in (math.inf, math.nan):
        with pytest.raises(ValueError, match="n"):
            await quotas.hold("acme", absurd)


async def test_the_ledgers_attempts_fill_an_empty_memory_and_no_other(quotas: AnyQuotas) -> None:
    limits = Limits(per_second=9, per_minute=9, per_day=9)
    await quotas.hold("acme", 0)  # knows nothing of grants
    await quotas.rebuild("acme", limits, [-1, 0.5, 30, 59, 61.5, 3600, 80_000, 88_000, 1e9])
    assert await quotas.usage("acme", limits) == {"per_second": 2, "per_minute": 4, "per_day": 7}
    await quotas.rebuild("acme", limits, [1.0] * 9)
    assert await take_all(quotas, limits) == 2
    await quotas.take("other", limits)
    await quotas.rebuild("other", limits, [1.0])
    assert await quotas.usage("other", limits) == {"per_second": 1, "per_minute": 1, "per_day": 1}


async def test_a_forgotten_scope_asks_the_ledger_before_it_grants(backend: Backend) -> None:
    asked: list[str] = []

    async def attempts(scope: str) -> Sequence[float]:
        asked.append(scope)
        await asyncio.sleep(0)
        return [10.0, 20.0]

    quotas, limits = backend.open(attempts), Limits(per_minute=3)
    answers = await asyncio.gather(*(quotas.take("acme", limits) for _ in range(3)))
    assert sum(isinstance(answer, Granted) for answer in answers) == 1
    assert len(asked) == 1 or backend.url is None
    asked.clear()
    await quotas.tell("acme", [0.0])
    assert await quotas.usage("acme", limits) == {"per_minute": 4}
    assert asked == []
    await quotas.tell("other", [0.0])  # the ledger tells more than the teller
    assert await quotas.usage("other", limits) == {"per_minute": 2}


async def test_what_is_told_is_counted_over_the_limit_too(quotas: AnyQuotas, clock: Clock) -> None:
    limits = Limits(per_minute=2)
    await take_all(quotas, limits)
    await quotas.tell("acme", [0.0, 15.0, 70.0])
    assert await quotas.usage("acme", limits) == {"per_minute": 4}
    clock.now += await wait_of(quotas, limits)
    assert await take_all(quotas, limits) > 0


async def test_a_clock_set_back_stops_nobody_and_lets_nothing_leave_early(quotas: AnyQuotas, clock: Clock) -> None:
    limits = Limits(per_minute=2)
    assert await take_all(quotas, limits) == 2
    clock.now -= 5_000
    after = await wait_of(quotas, limits)
    assert 60 <= after <= 61
    clock.now += after
    assert await take_all(quotas, limits) == 2


GAPS = st.one_of(
    st.just(0.0),
    st.floats(0, 0.03),
    st.floats(0, 2),
    st.floats(0, 90),
    st.floats(0, 30_000),
    st.sampled_from([1 / 60, 1.0, 60.0, 61.0, 1440.0, 86_400.0]),
)
WAITED = None  # instead of a gap: whoever was refused comes back on the dot, the worst that can happen to a window
STEPS = st.lists(st.tuples(st.just(WAITED) | GAPS, st.integers(1, 8)), min_size=1, max_size=60)
LIMITS = st.builds(
    Limits,
    per_second=st.none() | st.integers(1, 6),
    per_minute=st.none() | st.integers(1, 12),
    per_day=st.none() | st.integers(1, 20),
)


def most_in_any_window(times: Sequence[float], length: float) -> int:
    """The oracle: knows the grants' times and nothing else. Both ends of the window belong to it."""
    most = first = 0
    for last, time in enumerate(times):
        while times[first] < time - length:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.fast
@settings(max_examples=300, deadline=None)
@given(limits=LIMITS, steps=STEPS, start=st.floats(0, 2e9))
def test_no_window_ever_holds_more_than_its_limit(
    limits: Limits, steps: list[tuple[float | None, int]], start: float
) -> None:
    clock = Clock(start)
    quotas = MemoryQuotas(clock=clock)
    granted: list[float] = []

    async def run() -> None:
        refused = 0.0
        for gap, asks in steps:
            clock.now += refused if gap is WAITED else gap
            refused = 0.0
            for _ in range(asks):
                answer = await quotas.take("acme", limits)
                if isinstance(answer, Granted):
                    granted.append(clock.now)
                else:
                    refused = answer.after

    asyncio.run(run())
    for limit, length in zip(limits.in_order(), SECONDS, strict=True):
        assert limit is None or most_in_any_window(granted, length - 1e-6) <= limit  # the clock has microseconds


@pytest.mark.fast
@settings(max_examples=60, deadline=None)
@given(
    window=st.integers(0, 2),
    limit=st.integers(1, 40),
    start=st.floats(0, 2e9),
    begin=st.lists(st.floats(0, 1), max_size=40),
    lateness=st.floats(0, 0.5),
)
def test_98_percent_of_the_limit_is_had_by_who_keeps_asking(
    window: int, limit: int, start: float, begin: list[float], lateness: float
) -> None:
    """Whatever was granted in the beginning, and though who waits comes up to half a bucket late."""
    clock = Clock(start)
    quotas, limits, length = MemoryQuotas(clock=clock), Limits(**{WINDOWS[window]: limit}), SECONDS[window]

    async def run() -> int:
        await quotas.rebuild("acme", limits, [part * length for part in begin])
        clock.now += length / 2
        await take_all(quotas, limits)  # not counted: the steady state begins with a full window
        end, granted = clock.now + 60 * length, 0
        while clock.now < end:
            granted += await take_all(quotas, limits)
            clock.now += await wait_of(quotas, limits) + lateness * length / 60
        return granted

    assert asyncio.run(run()) >= 0.98 * limit * 60


OPERATIONS = st.lists(
    st.tuples(
        st.floats(-3, 3) | st.floats(0, 100) | st.floats(0, 4_000),
        st.sampled_from(["take", "take", "take", "again", "give back", "hold", "rebuild", "tell"]),
    ),
    max_size=40,
)


@pytest.mark.servers
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits=LIMITS, operations=OPERATIONS)
def test_the_twin_and_the_server_say_the_same(
    redis_url: str, limits: Limits, operations: list[tuple[float, str]]
) -> None:
    """So that what is shown above for the twin holds for the script; clocks that are set back included."""

    async def run() -> None:
        clock, scope, calls = Clock(), uuid4().hex, [uuid4().hex]
        twin, server = MemoryQuotas(clock=clock), RedisQuotas.open(redis_url, "ledger-1", timeout=5, clock=clock)
        try:
            for gap, operation in operations:
                clock.now += gap
                if operation in ("take", "again"):
                    if operation == "take":
                        calls.append(uuid4().hex)
                    said = [await quotas.take(scope, limits, call=calls[-1]) for quotas in (twin, server)]
                    assert said[0] == said[1]
                    continue
                for quotas in (twin, server):
                    if operation == "give back":
                        await quotas.give_back(scope, Granted(calls[-1]))
                    elif operation == "hold":
                        await quotas.hold(scope, 1.5)
                    elif operation == "rebuild":
                        await quotas.rebuild(scope, limits, [0.1, 2.5, 50, 7_000])
                    else:
                        await quotas.tell(scope, [0.0, 0.9, 30])
                assert await twin.usage(scope, limits) == await server.usage(scope, limits)
        finally:
            await server.close()

    asyncio.run(run())


@pytest.mark.servers
async def test_many_workers_never_take_more_than_the_limit_by_the_servers_own_clock(redis_url: str) -> None:
    workers = [RedisQuotas.open(redis_url, "ledger-1", timeout=5) for _ in range(4)]
    limits = Limits(per_minute=50, per_day=1_000)

    async def greedy(quotas: RedisQuotas) -> int:
        answers = [await quotas.take("acme", limits) for _ in range(30)]
        return sum(isinstance(answer, Granted) for answer in answers)

    try:
        assert sum(await asyncio.gather(*(greedy(worker) for worker in workers for _ in range(3)))) == 50
    finally:
        for worker in workers:
            await worker.close()


@pytest.mark.servers
async def test_keys_expire_and_stay_small_and_ledgers_do_not_mix(redis_url: str) -> None:
    mine, theirs = RedisQuotas.open(redis_url, "ledger-1"), RedisQuotas.open(redis_url, "ledger-2")
    client = redis.asyncio.from_url(redis_url, decode_responses=True)
    try:
        for _ in range(300):
            await mine.take("acme", Limits(per_second=100_000))
        assert await theirs.usage("acme", Limits(per_day=1)) == {"per_day": 0}
        assert 24.4 * 3600 < await client.ttl("quota:{ledger-1:acme}") <= 25 * 3600
        assert await client.memory_usage("quota:{ledger-1:acme}") < 1_000
        calls = await client.keys("quota:{ledger-1:acme}:call:*")
        assert len(calls) == 300
        for call in calls[:10]:
            assert 0 < await client.pttl(call) <= 10_000
        await client.script_flush()
        assert isinstance(await mine.take("acme", Limits(per_second=100_000)), Granted)
        await client.set("quota:{ledger-1:acme}", "not ours")
        assert isinstance(await mine.take("acme", Limits(per_day=1)), Granted)
    finally:
        await client.aclose()
        await mine.close()
        await theirs.close()


class Line:
    """A proxy on the way to the server, which loses the next reply: the connection breaks, or nothing comes."""

    def __init__(self) -> None:
        self.lose: Literal["", "break", "silence"] = ""

    @asynccontextmanager
    async def to(self, url: str) -> AsyncIterator[str]:
        target = urlsplit(url)
        tasks: set[asyncio.Task[None]] = set()

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replies: bool) -> None:
            while chunk := await reader.read(65_536):
                if replies and self.lose:
                    lost, self.lose = self.lose, ""
                    if lost == "break":
                        break
                    continue
                writer.write(chunk)
            writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there = await asyncio.open_connection(target.hostname, target.port)
            tasks.add(asyncio.create_task(pump(reader, there[1], False)))
            tasks.add(asyncio.create_task(pump(there[0], writer, True)))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        user = f"{target.username or ''}:{target.password}@" if target.password else ""
        try:
            yield f"redis://{user}127.0.0.1:{port}{target.path}"
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.servers
async def test_a_lost_reply_grants_nothing_twice(redis_url: str) -> None:
    line, limits = Line(), Limits(per_minute=10)
    async with line.to(redis_url) as url:
        quotas = RedisQuotas.open(url, "ledger-1")
        await quotas.take("acme", limits)
        line.lose = "break"
        granted = await quotas.take("acme", limits)
        assert isinstance(granted, Granted)
        assert await quotas.usage("acme", limits) == {"per_minute": 2}
        line.lose = "break"
        await quotas.give_back("acme", granted)
        assert await quotas.usage("acme", limits) == {"per_minute": 1}
        line.lose = "break"
        await quotas.tell("acme", [1.0])
        assert await quotas.usage("acme", limits) == {"per_minute": 2}
        await quotas.close()


@pytest.mark.servers
async def test_silence_is_borne_for_half_a_second(redis_url: str) -> None:
    line = Line()
    async with line.to(redis_url) as url:
        quotas = RedisQuotas.open(url, "ledger-1")
        await quotas.take("acme", NONE)
        line.lose = "silence"
        began = asyncio.get_running_loop().time()
        with pytest.raises(QuotasOutOfReach):
            await quotas.take("acme", NONE)
        assert asyncio.get_running_loop().time() - began < 0.9
        assert isinstance(await quotas.take("acme", NONE), Granted)
        await quotas.close()


@pytest.mark.fast
async def test_no_foreign_exception_leaks(free_port: int) -> None:
    quotas, memory = RedisQuotas.open(f"redis://127.0.0.1:{free_port}/0", "ledger-1"), MemoryQuotas()
    memory.available = False
    for each in (quotas, memory):
        for call in (
            each.take("acme", NONE),
            each.give_back("acme", Granted("g")),
            each.hold("acme", 1),
            each.rebuild("acme", NONE, []),
            each.tell("acme", []),
            each.usage("acme", NONE),
        ):
            with pytest.raises(QuotasOutOfReach):
                await call
        assert await each.ping() is False
        await each.close()
