"""Under CI=true nothing may be skipped."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

SKIPS = """
import pytest

def test_by_a_call():
    pytest.skip("no server")

@pytest.mark.skip(reason="no server")
def test_by_a_mark(): ...

@pytest.fixture
def server():
    pytest.skip("no server")

def test_by_a_fixture(server): ...
"""


def run_pytest(directory: Path, source: str, *plugins: str, ci: bool) -> tuple[int, str]:
    """Exit status and output of a run on one file of tests, with our plugin and those named."""
    (directory / "test_it.py").write_text(source)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"CI": "true" if ci else "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    options = ["-p", "tests.servers.skips", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(directory)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *plugins, directory],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("plugins", [(), ("-p", "xdist", "-n", "1")], ids=["one process", "workers"])
def test_in_ci_every_skip_fails_the_run_and_says_why(plugins: tuple[str, ...], tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, SKIPS, *plugins, ci=True)

    assert status == 1
    assert "1 failed, 2 errors" in output  # before its body a test does not fail, it errs
    summary = re.findall(
        r"^(?:FAILED|ERROR) .*::(\w+) - Skipped: no server \(nothing may be skipped", output, re.MULTILINE
    )
    assert sorted(summary) == ["test_by_a_call", "test_by_a_fixture", "test_by_a_mark"]


def test_in_ci_a_file_that_skips_itself_fails_the_run(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, "import pytest\npytest.skip('no server', allow_module_level=True)", ci=True)

    assert status == pytest.ExitCode.INTERRUPTED
    assert "no server (nothing may be skipped where CI=true)" in output


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, SKIPS, ci=False)

    assert status == 0
    assert "3 skipped" in output


def test_in_ci_an_expected_failure_is_not_a_skip(tmp_path: Path) -> None:
    expected = "import pytest\n@pytest.mark.xfail(reason='upstream')\ndef test(): raise ValueError"

    status, output = run_pytest(tmp_path, expected, ci=True)

    assert status == 0
    assert "1 xfailed" in output


def test_this_suite_runs_under_that_rule(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.has_plugin("tests.servers.skips")
