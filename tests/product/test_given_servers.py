"""The product on servers that were given by variables, on Apache Kafka: one command after another, as a runbook has
it, and nothing embedded."""

import asyncio
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from impact_in.ledger_check import equations
from impact_in.ledger_check.facts import read_positions
from impact_in.local_stack.ports import free_port
from schemas.topics import Topics
from streams.connection import KafkaConnection
from tests.local_stack.processes import alive, descendants
from tests.product.command_line import Platforms, Running, ask, done, environment, impact_in, rows, states
from tests.servers import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(200)]

PLATFORMS = ("benevity", "goodera", "workday")
COMPANIES = [UUID(int=number, version=4) for number in range(1, 6)]
WITHIN = 5.0  # seconds in which a start that cannot be has to end
SECRETS = {f"{platform.upper()}_WEBHOOK_SECRET": secrets.token_hex(24) for platform in PLATFORMS}
# Short waits: nothing of what is tested here is about how long they are.
SETTINGS = {"IMPACT_IN_RETRY_DELAYS": "1s", "IMPACT_IN_SESSION_TIMEOUT": "6s", "PORT_IMPACT_IN": "0"}
EMBEDDED = re.compile(r"tansu|valkey-server|postgres|lifeline")


class House:
    """Given servers, and the commands that were started on them; all of them end with the test."""

    def __init__(self, env: dict[str, str], cwd: Path, stack: ExitStack) -> None:
        self.env = env
        self.cwd = cwd
        self._stack = stack
        self.platforms: Platforms
        self.gateway_url = ""

    @property
    def database(self) -> str:
        return self.env["DATABASE_URL"]

    def run(self, *arguments: str, name: str = "", **variables: str) -> Running:
        return self._stack.enter_context(Running(*arguments, env=self.env | variables, cwd=self.cwd, name=name))

    def done(self, *arguments: str, stdin: bytes = b"") -> str:
        return done(*arguments, env=self.env, cwd=self.cwd, stdin=stdin).out

    def publish(self, events: int, *options: str) -> None:
        lines = b"".join(event(COMPANIES[number % len(COMPANIES)]) for number in range(events))
        assert json.loads(self.done("publish", "-", "--json", *options, stdin=lines))["published"] == events

    async def set_up(self, *simulator_options: str) -> None:
        """Tables, topics, companies, gateway, platforms: everything but workers."""
        self.done("migrate")
        self.done("topics", "--partitions", "4")
        companies = [
            json.dumps({"company": str(company), "platform": platform, "organization": f"{platform}-{company}"})
            for company in COMPANIES
            for platform in PLATFORMS
        ]
        self.done("companies", "import", "-", stdin="\n".join(companies).encode())
        gateway = self.run("gateway")
        await eventually(lambda: gateway.out.strip(), timeout=60, what="the gateway listens")
        self.gateway_url = gateway.out.strip()
        simulators = self.run("simulate", "--webhook-url", self.gateway_url, *simulator_options)
        self.platforms = await Platforms.ready(simulators)
        self.env |= self.platforms.env

    async def worker(self, *roles: str) -> tuple[Running, str]:
        """A worker that has joined its groups, and its address."""
        port = free_port()
        options = [option for role in roles for option in ("--role", role)]
        worker = self.run("worker", *options, IMPACT_IN_WORKER_PORT=str(port))
        url = f"http://127.0.0.1:{port}"

        def ready() -> bool:
            assert worker.status is None, worker.err
            try:
                return ask(f"{url}/health/ready")[0] == 200
            except OSError:
                return False  # not listening yet

        await eventually(ready, timeout=60, what="the worker is ready")
        return worker, url

    async def delivered(self, events: int, *platforms: str) -> None:
        wanted = {(platform, "delivered"): events for platform in platforms or PLATFORMS}

        async def so() -> bool:
            found = await states(self.database)
            return all(found.get(key) == count for key, count in wanted.items())

        await eventually(so, timeout=90, what=f"{wanted}")

    async def everything_is_committed(self) -> None:
        connection = KafkaConnection(bootstrap_servers=self.env["KAFKA_BOOTSTRAP_SERVERS"])
        topics = Topics(self.env["IMPACT_IN_TOPIC_PREFIX"])

        async def so() -> bool:
            positions = await read_positions(connection, topics, PLATFORMS, ["1s"])
            return not equations.e9_everything_is_committed(positions)

        await eventually(so, timeout=20, what="all offsets are committed")

    def repeated(self) -> int:
        """Requests that the platforms saw beyond one for each key."""
        received = [self.platforms.received(platform) for platform in PLATFORMS]
        return sum(int(one["requests"]) - len(one["keys"]) for one in received)


def event(company: UUID) -> bytes:
    fields = {
        "event_id": str(uuid4()),
        "company_id": str(company),
        "program_id": "buddies",
        "program_name": "Buddies",
        "period_start": "2026-01-01",
        "period_end": "2026-01-31",
        "occurred_at": "2026-02-01T08:00:00Z",
        "source": "test",
        "metrics": [{"metric": "volunteer_hours", "value": "12.25", "unit": "hours"}],
    }
    return json.dumps(fields).encode() + b"\n"


@pytest.fixture
def given(kafka_bootstrap: str, database_url: str, redis_url: str, topic_prefix: str) -> dict[str, str]:
    servers = {"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap, "DATABASE_URL": database_url, "REDIS_URL": redis_url}
    return environment(**servers, **SETTINGS, **SECRETS, IMPACT_IN_TOPIC_PREFIX=topic_prefix)


@pytest.fixture
def house(given: dict[str, str], tmp_path: Path) -> Iterator[House]:
    with ExitStack() as stack:
        yield House(given, tmp_path, stack)


@pytest.fixture
async def furnished(house: House) -> House:
    await house.set_up()
    return house


async def test_from_the_first_command_to_the_platforms_confirmation_by_variables_alone(house: House) -> None:
    await house.set_up()
    one, other = str(uuid4()), str(uuid4())
    for platform in PLATFORMS:
        house.done("companies", "set", one, "--platform", platform, "--organization", f"org at {platform}")
    worker, worker_url = await house.worker()

    house.publish(10, "--encoding", "json")
    house.publish(10, "--encoding", "avro")
    lines = event(UUID(one)) + b"no event\n" + event(UUID(other))
    ended = impact_in("publish", "-", env=house.env, cwd=house.cwd, stdin=lines)
    assert ended.status == 1
    assert "line 2: " in ended.err
    await house.delivered(21)

    async def all_are_confirmed() -> bool:
        query = "select count(*) as n from impact_deliveries where platform_status = 'confirmed'"
        return (await rows(house.database, query))[0]["n"] == 63

    await eventually(all_are_confirmed, timeout=60, what="all are confirmed by webhook")
    assert house.platforms.effects() == dict.fromkeys(PLATFORMS, 21)
    unrouted = await rows(house.database, "select reason from impact_events where disposition = 'unrouted'")
    assert [row["reason"] for row in unrouted] == ["unknown_company"]

    listed = json.loads(house.done("deliveries", "list", "--company", one, "--json"))["items"]
    assert {(item["platform"], item["status"], item["platformStatus"]) for item in listed} == {
        (platform, "delivered", "confirmed") for platform in PLATFORMS
    }
    shown = json.loads(house.done("deliveries", "show", listed[0]["id"], "--json"))
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["accepted"]
    assert "confirmed" in {status["platformStatus"] for status in shown["statusEvents"]}

    assert ask(f"{worker_url}/health/live") == (200, {"status": "alive"})
    for path in ("/health", "/health/ready", "/health/live"):
        assert ask(f"{house.gateway_url}{path}")[0] == 200
    ours = " ".join(alive(descendants(worker.pid) | {worker.pid}).values())
    assert "impact_in worker" in ours
    assert not EMBEDDED.search(ours)
    await house.everything_is_committed()
    assert await worker.stop() == 0


async def test_a_worker_that_is_told_to_stop_in_full_flow_drains_and_the_next_one_repeats_nothing(
    house: House,
) -> None:
    await house.set_up("--latency-ms", "30")
    for platform in PLATFORMS:
        house.done("platforms", "set", platform, "--unlimited")
    first, _ = await house.worker()
    house.publish(300)
    # What is in hand is drained, and that is all that was published in one go: the rest still comes while it stops.
    publishing = asyncio.create_task(asyncio.to_thread(house.publish, 300, "--rate", "50"))

    async def in_full_flow() -> bool:
        return sum(count for (_, status), count in (await states(house.database)).items() if status == "delivered") > 50

    await eventually(in_full_flow, timeout=60, what="deliveries are being made")
    assert await first.stop(timeout=40) == 0
    made = await states(house.database)
    delivered = sum(count for (_, status), count in made.items() if status == "delivered")
    assert delivered < 600 * len(PLATFORMS)  # it was in full flow
    leased = await rows(house.database, "select from delivery_attempts where outcome is null")
    assert leased == []  # what was begun is finished

    await publishing
    await house.worker()
    await house.delivered(600)
    assert house.platforms.effects() == dict.fromkeys(PLATFORMS, 600)
    assert house.repeated() == 0
    await house.everything_is_committed()


async def test_a_paused_platform_waits_while_the_others_go_on_and_goes_on_when_it_is_resumed(furnished: House) -> None:
    furnished.done("platforms", "pause", "benevity")
    await furnished.worker()
    furnished.publish(12)
    await furnished.delivered(12, "goodera", "workday")
    assert furnished.platforms.effects()["benevity"] == 0
    [benevity, *_] = json.loads(furnished.done("platforms", "status", "--json"))["items"]
    assert (benevity["platform"], benevity["paused"], benevity["heldReason"]) == ("benevity", True, "paused")
    assert benevity["limits"] == {"perSecond": None, "perMinute": 100, "perDay": 10_000}
    furnished.done("platforms", "resume", "benevity")
    await furnished.delivered(12, "benevity")
    assert await rows(furnished.database, "select from delivery_attempts where attempt > 1") == []
    await furnished.everything_is_committed()


async def test_rejected_credentials_hold_a_platform_and_cost_nobody_an_attempt(furnished: House) -> None:
    right = furnished.env["GOODERA_API_KEY"]
    furnished.env["GOODERA_API_KEY"] = "wrong"
    worker, _ = await furnished.worker()
    furnished.publish(12)
    await furnished.delivered(12, "benevity", "workday")

    async def held() -> bool:
        items = json.loads(furnished.done("platforms", "status", "--json"))["items"]
        return any(one["platform"] == "goodera" and not one["credentialsOk"] for one in items)

    await eventually(held, timeout=30, what="the platform is held")
    assert await worker.stop(timeout=40) == 0
    furnished.env["GOODERA_API_KEY"] = right
    await furnished.worker()
    await furnished.delivered(12)
    assert await rows(furnished.database, "select from delivery_attempts where counted and outcome <> 'accepted'") == []


async def test_no_second_holds_more_requests_than_the_limit_set(furnished: House) -> None:
    furnished.done("platforms", "set", "workday", "--per-second", "4")
    await furnished.worker()
    furnished.publish(30)
    await furnished.delivered(30)
    times = sorted(datetime.fromisoformat(one["at"]) for one in furnished.platforms.requests("workday"))
    assert len(times) == 30
    # The limit is kept by the grants; how long each request then takes to get there is another matter, so two windows
    # are looked at together, and half a second is left to that.
    spans = [later - earlier for earlier, later in zip(times, times[8:], strict=False)]
    assert min(spans) > timedelta(seconds=1.5)


async def test_roles_run_in_processes_of_their_own(furnished: House) -> None:
    ingest, _ = await furnished.worker("ingest")
    furnished.publish(12)

    async def all_are_in() -> bool:
        return await states(furnished.database) == {(platform, "pending"): 12 for platform in PLATFORMS}

    await eventually(all_are_in, timeout=30, what="all are in, and nothing is delivered")

    benevity, url = await furnished.worker("deliver:benevity")
    assert ask(f"{url}/health/ready")[1]["roles"] == {"deliver:benevity": True}
    await furnished.delivered(12, "benevity")
    assert furnished.platforms.effects() == {"benevity": 12, "goodera": 0, "workday": 0}

    others, _ = await furnished.worker("deliver:goodera", "deliver:workday")
    await furnished.delivered(12)
    assert [await one.stop() for one in (ingest, benevity, others)] == [0, 0, 0]


def test_a_worker_without_topics_or_tables_names_the_command_that_makes_them(house: House) -> None:
    mocked = {f"{platform.upper()}_MOCK_MODE": "true" for platform in PLATFORMS} | {"IMPACT_IN_WORKER_PORT": "0"}
    house.env |= mocked

    (line,) = refused(house.env, house.cwd, "worker")
    assert f"{house.env['IMPACT_IN_TOPIC_PREFIX']}metrics" in line
    assert "impact-in topics" in line

    house.done("topics", "--partitions", "1")
    for command in ("worker", "gateway"):
        (line,) = refused(house.env, house.cwd, command)
        assert "0001_ledger" in line
        assert "impact-in migrate" in line


COMPLETE = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "DATABASE_URL": "postgresql://u:planted-password@127.0.0.1:9/d",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "BENEVITY_API_KEY": "planted-key",
    "BENEVITY_WEBHOOK_URL": "http://127.0.0.1:9/b",
    "GOODERA_MOCK_MODE": "true",
    "WORKDAY_MOCK_MODE": "true",
}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", None),
        ("DATABASE_URL", None),
        ("REDIS_URL", None),
        ("BENEVITY_API_KEY", None),
        ("BENEVITY_WEBHOOK_URL", "not an address planted-key"),
        ("DATABASE_URL", "mysql://u:planted-password@h/d"),
        ("IMPACT_IN_RETRY_DELAYS", "5s,soon"),
        ("IMPACT_IN_WORKER_PORT", "99999"),
    ],
)
def test_a_missing_or_malformed_variable_ends_the_start_in_one_line_that_names_it(
    variable: str, value: str | None, tmp_path: Path
) -> None:
    variables = COMPLETE | ({} if value is None else {variable: value})
    if value is None:
        del variables[variable]
    (line,) = refused(environment(**variables), tmp_path, "worker", status=2)
    assert variable in line
    assert "takes" in line
    assert "planted" not in line


@pytest.mark.parametrize("command", ["worker", "gateway"])
def test_a_server_that_is_out_of_reach_ends_the_start_with_a_line_that_names_it(command: str, tmp_path: Path) -> None:
    # A worker's Kafka client may have logged its attempts before it.
    *_, line = refused(environment(**COMPLETE), tmp_path, command, status=3)
    assert re.match(r"impact-in: (Kafka at 127\.0\.0\.1:9|DATABASE_URL: )", line)
    assert "planted" not in line


def refused(env: dict[str, str], cwd: Path, command: str, *, status: int = 1) -> list[str]:
    """What the command says before it ends, in time."""
    for attempt in (1, 2, 3):
        ended = impact_in(command, env=env, cwd=cwd)
        assert ended.status == status, ended
        assert ended.out == ""
        if ended.seconds < WITHIN:
            break
        # Other work on the machine slows its start, and that is nothing we promise for.
        assert attempt < 3, f"{ended.seconds:.1f} s"
    return ended.err.splitlines()
