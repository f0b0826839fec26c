"""Failpoints: when they act, what they leave behind, and that nothing but the harness's own process knows them."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proving.failpoints import POINTS, DroppedReply, Failpoints, InjectedFault, parse

pytestmark = pytest.mark.fast

_ROOT = Path(__file__).parents[2]
_PRODUCT = ("schemas", "connectors", "guards", "delivery_log", "delivery", "streams", "webhook_gateway", "impact_in")


def test_a_failpoint_acts_at_its_passing_and_says_so_first(tmp_path: Path) -> None:
    fired = tmp_path / "fired.jsonl"
    points = Failpoints([parse("after-begin:3:raise")], fired)
    points.passed("after-begin")
    points.passed("after-finish")
    points.passed("after-begin")
    assert not fired.exists()
    with pytest.raises(InjectedFault):
        points.passed("after-begin")
    points.passed("after-begin")
    [line] = fired.read_text().splitlines()
    assert json.loads(line)["point"] == "after-begin"
    assert json.loads(line)["passing"] == 3


def test_one_with_a_star_acts_again_and_again() -> None:
    points = Failpoints([parse("quota:*2:drop-reply")], None)
    lost = 0
    for _ in range(10):
        try:
            points.passed("quota")
        except DroppedReply:
            lost += 1
    assert lost == 5


def test_kill_leaves_its_line_and_nothing_else(tmp_path: Path) -> None:
    fired = tmp_path / "fired.jsonl"
    program = (
        "import pathlib, sys; from proving.failpoints import *; "
        "Failpoints([parse('before-ack:1:kill')], pathlib.Path(sys.argv[1])).passed('before-ack'); print('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(fired)], cwd=_ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == ""
    assert json.loads(fired.read_text())["action"] == "kill"


@pytest.mark.parametrize("text", ["", "after-begin", "after-begin:0:kill", "after-begin:x:kill", "here:1:kill"])
def test_what_is_no_failpoint_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match="POINT:WHEN:ACTION is expected"):
        parse(text)


def test_the_product_knows_no_failpoint() -> None:
    words = ("failpoint", "proving", "mutant")
    for room in _PRODUCT:
        for source in (_ROOT / room).rglob("*.py"):
            text = source.read_text(encoding="utf-8")
            assert not [word for word in words if word in text.lower()], f"{source} speaks of one"
    assert POINTS
