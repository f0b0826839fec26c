"""Is the platform sick, or one company? A breaker that looks at organizations, not at requests. Pure: time is given.

It opens when more than half of the organizations tried in the last 30 s, and at least two, had only failures; where
only one was tried, after five failures running. Then single real deliveries go through as probes, one at a time: the
first after 1 s, doubling to 60 s. A probe that gets an answer closes it.
"""

from typing import Literal

State = Literal["closed", "open", "half_open"]

_WINDOW = 30.0
_ALONE = 5
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0


class Breaker:
    """One platform's. `now` is any clock that only goes on, in seconds."""

    def __init__(self) -> None:
        # organization → when it was last answered, and when it last failed
        self._answered: dict[str, float] = {}
        self._failed: dict[str, float] = {}
        self._running_failures = 0
        self._wait = _FIRST_WAIT
        self._probe_at: float | None = None
        self._probing = False

    def state(self, now: float) -> State:
        if self._probe_at is None:
            return "closed"
        return "half_open" if now >= self._probe_at else "open"

    def wait(self, now: float) -> float:
        """Seconds until it is worth asking again; 0.0: `admit` would let one go."""
        if self._probe_at is None:
            return 0.0
        if self._probing:
            return _FIRST_WAIT
        return max(self._probe_at - now, 0.0)

    def admit(self, now: float) -> float:
        """As `wait`; 0.0: go. While half-open, one: call `answered`, `failed` or `released` when it is over."""
        wait = self.wait(now)
        if wait == 0.0 and self._probe_at is not None:
            self._probing = True
        return wait

    @property
    def next_probe(self) -> tuple[float, float] | None:
        """When the next probe may go, and the wait that came before it, in seconds; None while it is closed."""
        return None if self._probe_at is None else (self._probe_at, self._wait)

    def open(self, probe_at: float, wait: float) -> None:
        """As another worker has found it."""
        self._probe_at, self._wait = probe_at, wait

    def close(self) -> None:
        """Well again: what was seen before says nothing any more."""
        self._probe_at, self._probing, self._wait = None, False, _FIRST_WAIT
        self._running_failures = 0
        self._answered.clear()
        self._failed.clear()

    def answered(self, organization: str, now: float, *, probe: bool = True) -> None:
        """The platform answered, whatever it said. `probe` False: it was sent before the breaker opened."""
        self._running_failures = 0
        if self._probe_at is not None and self._probing and probe:
            self.close()
        if self._probe_at is None:
            self._answered[organization] = now

    def failed(self, organization: str, now: float, *, probe: bool = True) -> None:
        """5xx, a time-out, no connection."""
        if self._probe_at is not None:
            if self._probing and probe:
                self._probing = False
                self._wait = min(self._wait * 2, _LONGEST_WAIT)
                self._probe_at = now + self._wait
            return  # sent before it opened: it says nothing new
        self._running_failures += 1
        self._failed[organization] = now
        if self._sick(now):
            self._probe_at = now + self._wait

    def released(self) -> None:
        """What was admitted was not sent: another may be the probe."""
        self._probing = False

    def _sick(self, now: float) -> bool:
        since = now - _WINDOW
        self._answered = {name: at for name, at in self._answered.items() if at > since}
        self._failed = {name: at for name, at in self._failed.items() if at > since}
        sick = len(self._failed.keys() - self._answered.keys())
        tried = len(self._failed.keys() | self._answered.keys())
        if tried == 1:
            return self._running_failures >= _ALONE
        return sick >= 2 and sick * 2 > tried
