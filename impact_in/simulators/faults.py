"""Which request meets which fault: a function of seed, key and attempt, so that anybody can compute it.

    draw = first 8 bytes of SHA-256("{seed}|{key}|{attempt}") / 2**64     transient faults
    draw = first 8 bytes of SHA-256("{seed}|{identity}|final") / 2**64    refusals, whatever the attempt

`attempt` is how often this simulator has seen the key, this time included. `identity` is the key; at Goodera it
is the record's content, because a record that was refused in a batch comes again in a smaller one, under
another key, and must be refused again.

Two exceptions look at the order of arrival, so that even a short demonstration shows something; both count
from the start, or from the last change of level. If the first two keys and the third one's draw show no retry, the
third meets `error_503` at its first attempt. If 199 identities met no refusal, the 200th is `refused`.
Where a level draws both a refusal and a transient fault, the refusal wins; over the third key's, it does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

BEFORE_EFFECT: Final = frozenset(("error_500", "error_503", "throttled", "drop_before_effect"))
AFTER_EFFECT: Final = frozenset(("slow", "drop_after_effect", "garbage"))
FINAL: Final = frozenset(("refused", "success_false"))
FORCED_ONLY: Final = frozenset(("partial",))
NAMES: Final = BEFORE_EFFECT | AFTER_EFFECT | FINAL | FORCED_ONLY
_RETRIED: Final = (BEFORE_EFFECT | AFTER_EFFECT) - {"slow"}

SLOW_SECONDS: Final = 0.3
OUTAGES: Final = frozenset(("503", "timeout", "429", "401", "403"))


@dataclass(frozen=True, slots=True)
class Level:
    attempts: int  # only a key's first so many attempts meet a transient fault
    transient: tuple[tuple[str, float], ...]
    final: tuple[tuple[str, float], ...]


LEVELS: Final = {
    "none": Level(0, (), ()),
    "some": Level(
        attempts=2,
        transient=(("error_503", 0.02), ("error_500", 0.015), ("drop_after_effect", 0.015), ("slow", 0.01)),
        final=(("refused", 0.00375), ("success_false", 0.00125)),
    ),
    "many": Level(
        attempts=3,
        transient=(
            ("error_500", 0.04),
            ("error_503", 0.065),
            # Rare, since it stops all who share the quota for a second: a platform that throttled every thirtieth
            # request by chance would not be slower to others, but to everybody.
            ("throttled", 0.005),
            ("garbage", 0.03),
            ("drop_after_effect", 0.03),
            ("drop_before_effect", 0.02),
            ("slow", 0.01),
        ),
        final=(("refused", 0.015), ("success_false", 0.005)),
    ),
}


def draw(seed: int, name: str, what: int | str) -> float:
    """A number from 0 to under 1 that depends on nothing but its arguments."""
    digest = sha256(f"{seed}|{name}|{what}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def transient_fault(level: str, seed: int, key: str, attempt: int) -> str | None:
    chosen = LEVELS[level]
    if not 1 <= attempt <= chosen.attempts:
        return None
    return _pick(chosen.transient, draw(seed, key, attempt))


def final_fault(level: str, seed: int, identity: str) -> str | None:
    shares = LEVELS[level].final
    return _pick(shares, draw(seed, identity, "final")) if shares else None


class FaultPlan:
    """The two functions above and the two exceptions."""

    def __init__(self, level: str, seed: int, *, exceptions: bool = True) -> None:
        """`exceptions` False: the two functions alone, so that the order of arrival changes nothing."""
        self.level, self.seed, self.exceptions = level, seed, exceptions
        self.promoted: dict[str, str] = {}  # key or identity → the fault that it met out of turn
        self._keys = self._identities = 0
        self._retry_met = self._refusal_met = level == "none" or not exceptions

    @property
    def quiet(self) -> bool:
        return self.level == "none"

    def finals(self, identities: Iterable[str], *, first_attempt: bool) -> list[str | None]:
        return [self._final(identity, first_attempt) for identity in identities]

    def transient(self, key: str, attempt: int, *, refused: bool) -> str | None:
        """Asked for every request, so that keys are counted; a refused one meets only the third key's fault."""
        self._keys += attempt == 1
        fault = None if refused else transient_fault(self.level, self.seed, key, attempt)
        if fault is None and attempt == 1 and self._keys >= 3 and not self._retry_met:
            fault = self.promoted[key] = "error_503"
        if fault in _RETRIED:
            self._retry_met = True
        return fault

    def _final(self, identity: str, first_attempt: bool) -> str | None:
        self._identities += first_attempt
        fault = self.promoted.get(identity)
        if fault not in FINAL:
            fault = final_fault(self.level, self.seed, identity)
        if fault is None and first_attempt and self._identities >= 200 and not self._refusal_met:
            fault = self.promoted[identity] = "refused"
        if fault is not None:
            self._refusal_met = True
        return fault


@dataclass(frozen=True, slots=True)
class Outage:
    kind: str
    retry_after: int | None = None


@dataclass(slots=True)
class Faults:
    """What can be changed at run time (`POST /_faults`): the level and the outages, of all or of one organization."""

    plan: FaultPlan
    outages: dict[str | None, Outage] = field(default_factory=dict)

    def change(self, wish: Any) -> None:
        """Takes a `/_faults` body whole or not at all. Raises ValueError with what is wrong about it."""
        known = {"level", "outage", "organization", "retryAfter"}
        if type(wish) is not dict or not wish or not wish.keys() <= known:
            raise ValueError(f"an object with some of {sorted(known)} is expected")
        level: Any = wish.get("level")
        kind: Any = wish.get("outage")
        organization, retry_after = wish.get("organization"), wish.get("retryAfter")
        if "level" in wish and (type(level) is not str or level not in LEVELS):
            raise ValueError(f"level: one of {sorted(LEVELS)} is expected")
        if kind is not None and (type(kind) is not str or kind not in OUTAGES):
            raise ValueError(f"outage: null or one of {sorted(OUTAGES)} is expected")
        if organization is not None and type(organization) is not str:
            raise ValueError("organization: a string is expected")
        if retry_after is not None and (type(retry_after) is not int or retry_after < 0):
            raise ValueError("retryAfter: whole seconds are expected")
        if "outage" not in wish and (organization is not None or retry_after is not None):
            raise ValueError("organization and retryAfter belong to an outage")
        if "level" in wish:
            self.plan = FaultPlan(level, self.plan.seed, exceptions=self.plan.exceptions)
        if "outage" in wish:
            self._set_outage(organization, None if kind is None else Outage(kind, retry_after))

    def outage_of_all(self) -> Outage | None:
        return self.outages.get(None)

    def outage_of(self, organizations: Iterable[str]) -> Outage | None:
        if not self.outages:
            return None
        return next((self.outages[name] for name in organizations if name in self.outages), None)

    def as_json(self) -> dict[str, Any]:
        return {
            "level": self.plan.level,
            "seed": self.plan.seed,
            "promoted": self.plan.promoted,
            "outages": [
                {"organization": name, "outage": outage.kind, "retryAfter": outage.retry_after}
                for name, outage in self.outages.items()
            ],
        }

    def _set_outage(self, organization: str | None, outage: Outage | None) -> None:
        if outage is not None:
            self.outages[organization] = outage
        elif organization is None:
            self.outages.clear()
        else:
            self.outages.pop(organization, None)


def _pick(shares: tuple[tuple[str, float], ...], number: float) -> str | None:
    for name, share in shares:
        if number < share:
            return name
        number -= share
    return None
