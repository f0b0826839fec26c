"""The platforms' own limits: a sliding log of what was granted, so no window ever holds more than the limit."""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    requests: int
    seconds: float


class SlidingWindow:
    def __init__(self, limits: tuple[Limit, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._longest = max((limit.seconds for limit in limits), default=0.0)
        self._granted: dict[str, deque[float]] = defaultdict(deque)

    def wait_for(self, scope: str) -> int | None:
        """None: granted, and counted. Else whole seconds until it would be; a refusal does not count."""
        now, granted = self._clock(), self._granted[scope]
        while granted and granted[0] <= now - self._longest:
            granted.popleft()
        wait = 0.0
        for limit in self._limits:
            if len(granted) >= limit.requests:
                wait = max(wait, granted[-limit.requests] + limit.seconds - now)
        if wait > 0:
            return max(1, math.ceil(wait))
        granted.append(now)
        return None
