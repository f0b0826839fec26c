"""`impact-in demo`, as a stranger runs it: in any directory, with whatever the shell has set."""

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_stack.processes import alive, descendants, linux_only
from tests.product.command_line import Ended, Running, environment, impact_in
from tests.servers import eventually

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(200)]

PLATFORMS = ("benevity", "goodera", "workday")
EQUATIONS = {"E1", "E2", "E3", "E5", "E9"}

# What a shell may have set for a real installation. Each of these would break the demo, or make it call somebody.
OWN_SETTINGS = {
    "BENEVITY_MOCK_MODE": "true",
    "BENEVITY_API_KEY": "a-real-key",
    "BENEVITY_WEBHOOK_URL": "http://127.0.0.1:9/benevity",
    "IMPACT_IN_GOODERA_ENABLED": "false",
    "IMPACT_IN_TOPIC_PREFIX": "real.",
    "IMPACT_IN_RETRY_DELAYS": "1h",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "DATABASE_URL": "postgresql://real@127.0.0.1:9/real",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "PORT_IMPACT_IN": "1",
}
OWN_DOTENV = {
    "WORKDAY_MOCK_MODE": "true",
    "IMPACT_IN_BENEVITY_ENABLED": "false",
    "IMPACT_IN_DELIVERY_DEADLINE": "1ms",
    "KAFKA_SASL_MECHANISM": "nonsense",
}


class Place:
    """Where a demo runs: a directory of the user's, and one for what is temporary."""

    def __init__(self, directory: Path, temporary: Path) -> None:
        self.directory = directory
        self.temporary = temporary

    def environment(self, **variables: str) -> dict[str, str]:
        return environment(**variables) | {"TMPDIR": str(self.temporary)}

    def left(self) -> list[str]:
        """What the demo has left behind."""
        # Root's copy of PostgreSQL is a cache (local_stack/account.py).
        temporary = [path.name for path in self.temporary.iterdir() if "impact-in-postgres-" not in path.name]
        ours = {".env", "schemas.py", "redis.py"}
        own = [p.name for p in self.directory.iterdir() if p.name not in ours and not p.name.startswith("demo.")]
        return sorted(temporary + own)


@pytest.fixture(scope="module")
def temporary_directory() -> Iterator[Path]:
    # Not pytest's own: a socket in it would have too long a path.
    with tempfile.TemporaryDirectory(prefix="impact-in-t-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


@pytest.fixture
def place(tmp_path: Path, temporary_directory: Path) -> Place:
    return Place(tmp_path, temporary_directory)


@pytest.fixture(scope="module")
def with_some_faults(tmp_path_factory: pytest.TempPathFactory, temporary_directory: Path) -> tuple[Ended, Place]:
    place = Place(tmp_path_factory.mktemp("demo"), temporary_directory)
    arguments = ("demo", "--events", "300", "--rate", "0", "--faults", "some", "--exit", "--json")
    return impact_in(*arguments, env=place.environment(), cwd=place.directory, timeout=150), place


def test_with_some_faults_all_events_are_accounted_for_and_the_ledger_holds(
    with_some_faults: tuple[Ended, Place],
) -> None:
    ended, _ = with_some_faults
    assert ended.status == 0, ended
    summary = ended.json()
    assert summary["events"] == 300
    for platform in PLATFORMS:
        counts = summary["deliveries"][platform]
        assert counts["delivered"] + counts["failed"] == 300
        assert counts["pending"] == counts["retrying"] == 0
    assert summary["ledger"] == {"ok": True, "equations": dict.fromkeys(EQUATIONS, True)}


def test_the_summary_is_one_object_of_the_contracts_shape_and_all_of_stdout(
    with_some_faults: tuple[Ended, Place],
) -> None:
    ended, _ = with_some_faults
    assert ended.out.endswith("}\n")
    assert len(ended.out.splitlines()) == 1
    summary = json.loads(ended.out)
    assert set(summary) == {"events", "deliveries", "statusEvents", "deadLetters", "seconds", "ledger"}
    assert set(summary["deliveries"]) == set(PLATFORMS)
    assert all({"delivered", "failed"} <= set(counts) for counts in summary["deliveries"].values())
    numbers = [summary["events"], summary["statusEvents"], summary["deadLetters"]]
    numbers += [number for counts in summary["deliveries"].values() for number in counts.values()]
    assert all(type(number) is int for number in numbers)
    assert summary["seconds"] > 0


def test_with_some_faults_there_are_retries_and_dead_letters_to_be_seen(with_some_faults: tuple[Ended, Place]) -> None:
    summary = with_some_faults[0].json()
    counts = summary["deliveries"].values()
    assert all(count["retries"] > 0 for count in counts)
    assert summary["deadLetters"] == sum(count["failed"] for count in counts) > 0
    assert all(count["confirmed"] > 0 for count in counts)
    # One webhook for each accepted record, but for a whole batch of Goodera's.
    single = sum(count["confirmed"] for platform, count in summary["deliveries"].items() if platform != "goodera")
    assert summary["statusEvents"] > single


def test_nothing_is_left_behind_by_a_demo_that_ended(with_some_faults: tuple[Ended, Place]) -> None:
    _, place = with_some_faults
    assert place.left() == []


def test_what_a_user_has_set_for_real_does_not_reach_the_demo(place: Place) -> None:
    lines = [f"{name}={value}\n" for name, value in OWN_DOTENV.items()]
    (place.directory / ".env").write_text("".join(lines))
    for module in ("schemas", "redis"):  # as they stand in many a project
        (place.directory / f"{module}.py").write_text("raise SystemExit('the user's own module')")
    arguments = ("demo", "--events", "60", "--rate", "0", "--faults", "none", "--exit", "--json")

    ended = impact_in(*arguments, env=place.environment(**OWN_SETTINGS), cwd=place.directory, timeout=150)

    assert ended.status == 0, ended
    summary = ended.json()
    # Confirmed: the simulated platforms were called, and nobody was mocked.
    undisturbed = {"delivered": 60, "failed": 0, "pending": 0, "retrying": 0, "retries": 0, "confirmed": 60}
    assert summary["deliveries"] == dict.fromkeys(PLATFORMS, undisturbed)
    assert summary["deadLetters"] == 0
    assert summary["ledger"]["ok"]
    assert place.left() == []


@linux_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
async def test_a_demo_that_is_ended_leaves_no_process_behind(place: Place, number: signal.Signals) -> None:
    arguments = ("demo", "--events", "5000", "--rate", "20", "--exit")
    with Running(*arguments, env=place.environment(), cwd=place.directory) as demo:
        await demo.says(" published,")
        family = descendants(demo.pid)
        assert len(alive(family)) > 9

        status = await demo.stop(number)

        assert status == (-signal.SIGKILL if number == signal.SIGKILL else 1)
        await eventually(lambda: not alive(family), timeout=20, what="all its processes have ended")
        if number != signal.SIGKILL:  # nobody is left then who could tidy up
            assert place.left() == []
