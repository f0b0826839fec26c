"""What a user gets: a Makefile that explains itself, dependencies locked in one place, a wheel with all in it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKEFILE = ROOT / "Makefile"


def run(*command: str | Path, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.fast
def test_make_alone_lists_every_target_with_one_line_each() -> None:
    lines = run("make", "--no-print-directory").splitlines()

    declared = re.findall(r"^([a-z-]+):", MAKEFILE.read_text(), re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE.read_text(), re.MULTILINE)
    assert phony is not None
    assert phony[1].split() == declared
    assert [re.sub(r"^  make (\S+) +\S.*$", r"\1", line) for line in lines] == declared


@pytest.mark.fast
def test_requirements_txt_is_what_uv_lock_says() -> None:
    if shutil.which("uv") is None:
        pytest.skip("no uv to export uv.lock with")
    exported = run(
        *["uv", "export", "--locked", "--offline", "--quiet", "--format", "requirements-txt", "--no-emit-project"],
        UV_PYTHON_DOWNLOADS="never",
    )

    assert _without_comments((ROOT / "requirements.txt").read_text()) == _without_comments(exported)


def _without_comments(requirements: str) -> list[str]:
    return [line for line in requirements.splitlines() if not line.lstrip().startswith("#")]


@pytest.mark.fast
def test_every_folder_of_tests_is_a_package() -> None:
    """Otherwise pytest puts the folder itself on the path, where tests/…/schemas would stand for schemas."""
    folders = {file.parent for file in (ROOT / "tests").rglob("test_*.py")}
    folders |= {parent for folder in folders for parent in folder.parents if parent.is_relative_to(ROOT / "tests")}

    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_the_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    """Built as `pip install .` builds it, by the locked hatchling. SQL, Avro schemas and py.typed are not code, and as
    easily forgotten."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)

    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    wanted = {f"{package}/py.typed" for package in packages} | {"impact_in/examples/events.jsonl"}
    for package in packages:
        files = (file for file in (ROOT / package).rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        wanted |= {str(file.relative_to(ROOT)) for file in files}
    assert wanted - inside == set()
