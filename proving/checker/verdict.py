"""All equations over the facts of a run, and whether two runs end alike (E11)."""

from collections import Counter

import msgspec

from proving.checker import equations
from proving.checker.equations import Violation
from proving.checker.expected import Index
from proving.checker.facts import Facts
from proving.checker.history import history
from proving.checker.order import order

TITLES = {
    "E1": "every record read has exactly the one outcome that it must have",
    "E2": "every expected delivery is finished, and there is no other",
    "E3": "the platforms have what was delivered, once, to the last decimal",
    "E4": "no other content under a key that may have had its effect",
    "E5": "the dead letters are what could not be done, byte for byte",
    "E6": "no request without an attempt, none after the platform had it",
    "E9": "every offset of every topic is committed",
    "E11": "the same end as the other run's",
    "order": "a company's records came in order where order matters",
    "format": "no request broke a platform's format",
}
_TOLD = 3


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`violations` has every equation that was checked, empty where it holds. `ends`: `{event}/{platform}` → how the
    delivery ended, and with or without an effect. `counts`: what was there, to see that the run was no empty one.
    `histories`: of the first few violations of each equation, in their order."""

    violations: dict[str, list[Violation]]
    counts: dict[str, int]
    ends: dict[str, str]
    histories: dict[str, list[list[str]]] = {}

    @property
    def holds(self) -> bool:
        return not any(self.violations.values())

    def broken(self) -> list[str]:
        return [name for name, found in self.violations.items() if found]

    def explained(self) -> str:
        """For a failing test: each broken equation, with the first records that break it and their lives."""
        lines = []
        for name in self.broken():
            lines.append(f"{name}: {len(self.violations[name])} violations ({TITLES[name]})")
            for violation, life in zip(self.violations[name], self.histories.get(name, []), strict=False):
                lines += [f"  {violation.what}", *(f"      {line}" for line in life)]
        return "\n".join(lines) or "all equations hold"


def judge(facts: Facts) -> Verdict:
    """Only at rest: what is under way breaks E2 and E9."""
    index = Index(facts)
    found = {
        "E1": list(equations.e1(index)),
        "E2": list(equations.e2(index)),
        "E3": list(equations.e3(index)),
        "E4": list(equations.e4(index)),
        "E5": list(equations.e5(index)),
        "E6": list(equations.e6(index)),
        "E9": list(equations.e9(index)),
        "order": list(order(index)),
        "format": list(equations.strict(facts)),
    }
    return Verdict(
        violations=found,
        counts=_counts(facts),
        ends={
            f"{event}/{platform}": f"{row.end}{', effect' if index.effects((event, platform)) else ''}"
            for (event, platform), row in index.row.items()
        },
        histories={name: [history(index, one) for one in some[:_TOLD]] for name, some in found.items() if some},
    )


def same_end(one: Verdict, other: Verdict) -> Verdict:
    """E11: `one`, judged also against the `other` run (say, the one without FLUSHALL) of the same events."""
    differing = [
        Violation("E11", f"{target} ended {one.ends.get(target, 'nowhere')}, and in the other run {end or 'nowhere'}")
        for target in sorted(one.ends.keys() | other.ends.keys())
        if one.ends.get(target) != (end := other.ends.get(target))
    ]
    differing += [
        Violation("E11", f"{name} {_held(one, name)}, and {_held(other, name)} in the other run")
        for name in one.violations.keys() & other.violations.keys()
        if bool(one.violations[name]) != bool(other.violations[name])
    ]
    return msgspec.structs.replace(one, violations={**one.violations, "E11": differing})


def _held(verdict: Verdict, name: str) -> str:
    return "is broken" if verdict.violations[name] else "holds"


def _counts(facts: Facts) -> dict[str, int]:
    keys = Counter((receipt.platform, receipt.key) for receipt in facts.receipts)
    counts = {
        "published": len(facts.published),
        "events": len(facts.events),
        "deliveries": len(facts.deliveries),
        "attempts": len(facts.attempts),
        "requests": len(facts.receipts),
        "effects": sum(receipt.effect for receipt in facts.receipts),
        "repeated requests": sum(keys.values()) - len(keys),
        "faults met": sum(receipt.fault is not None for receipt in facts.receipts),
        "dead letters": len(facts.metrics_dead) + sum(len(found) for found in facts.deliveries_dead.values()),
        "attempts of unknown outcome": sum(attempt.outcome == "unknown_outcome" for attempt in facts.attempts),
    }
    return counts | _published_kinds(facts)


def _published_kinds(facts: Facts) -> dict[str, int]:
    kinds = Counter(entry.kind for entry in facts.published)
    plural = {"duplicate": "duplicates", "conflict": "conflicts", "poison": "poison", "tombstone": "tombstones"}
    return {name: kinds[kind] for kind, name in plural.items()}
