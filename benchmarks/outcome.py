"""What a benchmark found: figures, each with its mark (issue 4) where it has one."""

import statistics
from collections.abc import Sequence
from typing import Any, Literal

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One number, as often as it was measured. The median is held against the mark; a `strict` one has to hold in
    every run."""

    what: str
    values: list[float]
    unit: str = ""
    mark: float | None = None
    reached_when: Literal["at least", "at most"] = "at least"
    strict: bool = False
    peers: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool | None:
        """None where there is no mark."""
        if self.mark is None:
            return None
        high, low = (max(self.values), min(self.values)) if self.strict else (self.median, self.median)
        return low >= self.mark if self.reached_when == "at least" else high <= self.mark

    def spread(self) -> str:
        low, middle, high = (number(value) for value in (min(self.values), self.median, max(self.values)))
        text = middle if low == high else f"{low} / {middle} / {high}"
        return f"{text} {self.unit}".rstrip()

    def wanted(self) -> str:
        if self.mark is None:
            return "report"
        sign = "≥" if self.reached_when == "at least" else "≤"
        return f"{sign} {number(self.mark)} {self.unit}".rstrip()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """`faults`: what must never be seen (lost, doubled, out of order, early), in words. `runs`: whatever was measured,
    run by run."""

    name: str
    figures: list[Figure]
    runs: list[dict[str, Any]] = []
    faults: list[str] = []
    notes: list[str] = []

    @property
    def reached(self) -> bool:
        return not self.faults and all(figure.reached is not False for figure in self.figures)


def number(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below this share of them."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1))]
