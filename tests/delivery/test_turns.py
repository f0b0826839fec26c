"""Companies in turn."""

import pytest

from delivery.turns import Turns

pytestmark = pytest.mark.fast


def test_each_key_has_its_turn_and_its_eldest_goes_first() -> None:
    turns: Turns[str] = Turns()
    for number in range(4):
        turns.put("a", f"a{number}")
    turns.put("b", "b0")
    turns.put("c", "c0")
    assert turns.take(4) == ["a0", "b0", "c0", "a1"]
    turns.put("b", "b1")
    assert len(turns) == 3
    assert turns.take(10) == ["a2", "b1", "a3"]
    assert turns.take(10) == []
    assert not turns


def test_what_had_its_turn_has_the_next_one() -> None:
    turns: Turns[str] = Turns()
    turns.put("a", "a0")
    turns.put("b", "b0")
    turns.put_back("b", "b-again")
    assert turns.take(3) == ["b-again", "a0", "b0"]
