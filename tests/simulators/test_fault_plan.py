"""Faults can be computed by whoever knows seed, key and attempt."""

from collections import Counter
from hashlib import sha256

import pytest

from impact_in.simulators.faults import LEVELS, FaultPlan, final_fault, transient_fault

pytestmark = pytest.mark.fast
KEYS = [f"key-{number}" for number in range(20_000)]


def _drawn_by_hand(text: str) -> float:
    return int(sha256(text.encode()).hexdigest()[:16], 16) / 2**64


def test_a_fault_is_where_the_documented_draw_says() -> None:
    # The first share of `some` is error_503 at 2 %, then error_500 at 1.5 %.
    for key in KEYS[:2000]:
        number = _drawn_by_hand(f"7|{key}|1")
        expected = "error_503" if number < 0.02 else "error_500" if number < 0.035 else None
        if number < 0.035:
            assert transient_fault("some", 7, key, 1) == expected
        refused = _drawn_by_hand(f"7|{key}|final") < 0.00375
        assert (final_fault("some", 7, key) == "refused") is refused


@pytest.mark.parametrize(("level", "transient", "final"), [("some", 0.06, 0.005), ("many", 0.20, 0.02)])
def test_shares_are_what_the_level_promises(level: str, transient: float, final: float) -> None:
    assert sum(share for _, share in LEVELS[level].transient) == pytest.approx(transient)
    assert sum(share for _, share in LEVELS[level].final) == pytest.approx(final)
    met = Counter(transient_fault(level, 1, key, 1) for key in KEYS)
    assert 1 - met[None] / len(KEYS) == pytest.approx(transient, rel=0.15)
    refused = sum(final_fault(level, 1, key) is not None for key in KEYS)
    assert refused / len(KEYS) == pytest.approx(final, rel=0.3)


def test_only_the_first_attempts_of_a_key_meet_a_fault() -> None:
    for level, attempts in (("some", 2), ("many", 3), ("none", 0)):
        met = {
            attempt for attempt in range(1, 6) if any(transient_fault(level, 1, key, attempt) for key in KEYS[:3000])
        }
        assert met == set(range(1, attempts + 1))


def test_another_seed_meets_other_faults() -> None:
    assert {key for key in KEYS if final_fault("many", 1, key)} != {key for key in KEYS if final_fault("many", 2, key)}


@pytest.mark.parametrize("level", ["some", "many"])
@pytest.mark.parametrize("seed", range(50))
def test_three_keys_show_a_retry_and_two_hundred_a_refusal(level: str, seed: int) -> None:
    plan = FaultPlan(level, seed)
    transient, final = [], []
    for number in range(200):
        key = f"{seed}-{number}"
        final.append(plan.finals([key], first_attempt=True)[0])
        transient.append(plan.transient(key, 1, refused=final[-1] is not None))
    assert any(fault not in (None, "slow") for fault in transient[:3])
    assert any(final)


def test_what_was_promoted_stays_refused_and_is_told() -> None:
    plan = FaultPlan("some", 1)
    never = [key for key in KEYS if final_fault("some", 1, key) is None][:200]
    for key in never:
        plan.finals([key], first_attempt=True)
    assert plan.promoted == {never[-1]: "refused"}
    assert plan.finals([never[-1]], first_attempt=False) == ["refused"]
    assert plan.finals([never[0]], first_attempt=False) == [None]


def test_the_third_keys_retry_comes_even_before_its_refusal() -> None:
    plan = FaultPlan("some", 1)
    assert [plan.transient(key, 1, refused=True) for key in ("a", "b", "c", "d")] == [
        None,
        None,
        "error_503",
        None,
    ]
    assert plan.transient("c", 2, refused=True) is None
    assert plan.promoted == {"c": "error_503"}
