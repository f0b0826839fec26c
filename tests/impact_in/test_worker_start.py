"""What stops a worker's start is said in one line, before anything is loaded that takes its time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from impact_in.role_names import role_names

# The libraries that a worker takes a second to load, and five on a busy machine: within five it has to have ended.
HEAVY = ("faust.app", "impact_in.roles", "impact_in.worker")
RUN = (
    "import sys\n"
    "from impact_in.cli import run\n"
    "status = run(['worker', *sys.argv[1:]])\n"
    f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
    "print(status, *loaded)\n"
)


def start(directory: Path, *arguments: str, **variables: str) -> tuple[str, str]:
    """What it printed and said; the first is its status and the heavy modules that it had loaded."""
    environ = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=directory, env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout.strip(), done.stderr.strip()


def variables(bootstrap: str, **more: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "REDIS_URL": "redis://127.0.0.1:9",
        **{f"{platform}_MOCK_MODE": "true" for platform in ("BENEVITY", "GOODERA", "WORKDAY")},
        **more,
    }


@pytest.mark.parametrize("arguments", [(), ("--role", "ingest"), ("--processes", "2")])
@pytest.mark.embedded
def test_a_missing_topic_is_named_before_anything_heavy_is_loaded(
    tmp_path: Path, embedded_bootstrap: str, topic_prefix: str, arguments: tuple[str, ...]
) -> None:
    given = variables(embedded_bootstrap, IMPACT_IN_TOPIC_PREFIX=topic_prefix)
    printed, said = start(tmp_path, *arguments, **given)
    assert said == f"impact-in: topic {topic_prefix}metrics is missing; run `impact-in topics`"
    assert printed == "1"


@pytest.mark.fast
def test_a_missing_variable_is_named_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    given = variables("127.0.0.1:9")
    del given["DATABASE_URL"]
    printed, said = start(tmp_path, **given)
    assert said.startswith("impact-in: DATABASE_URL is missing")
    assert printed == "2"


@pytest.mark.fast
def test_an_unknown_role_is_named_with_those_there_are(tmp_path: Path) -> None:
    printed, said = start(tmp_path, "--role", "deliver:nobody", **variables("127.0.0.1:9"))
    assert "deliver:nobody" in said
    assert "ingest, deliver:benevity" in said
    assert printed == "2"
    assert role_names(["goodera"]) == ["ingest", "deliver:goodera"]
