"""Where a worker can be made to fail, and how: `POINT:WHEN:ACTION`.

WHEN is the how-many-th passing of the point (`37`), or every so many-th (`*37`). Before it acts, a failpoint writes one
JSON line to a file and syncs it: a run proves by it that its fault fired.
"""

import json
import os
import signal
import time
from pathlib import Path
from typing import Literal, get_args

import msgspec

Point = Literal[
    "after-consume",
    "after-rows",
    "after-publish",
    "after-begin",
    "request-sent",
    "after-response",
    "after-finish",
    "after-retry-publish",
    "before-ack",
    "after-ack",
    "quota",
    "lookup",
]
Action = Literal["kill", "stop", "raise", "drop-reply"]

POINTS: tuple[str, ...] = get_args(Point)
ACTIONS: tuple[str, ...] = get_args(Action)


class InjectedFault(Exception):
    """What no handler foresees."""


class DroppedReply(Exception):
    """The call happened, its answer did not arrive. Whoever wraps a port turns it into what that port says then."""


class Failpoint(msgspec.Struct, frozen=True):
    point: Point
    number: int
    again: bool
    action: Action

    def due(self, passing: int) -> bool:
        return passing % self.number == 0 if self.again else passing == self.number


def parse(text: str) -> Failpoint:
    """Raises ValueError that says what is expected."""
    point, _, rest = text.partition(":")
    when, _, action = rest.partition(":")
    number = when.removeprefix("*")
    if point not in POINTS or action not in ACTIONS or not number.isdecimal() or int(number) < 1:
        raise ValueError(
            f"{text!r}: POINT:WHEN:ACTION is expected; points {', '.join(POINTS)}; actions {', '.join(ACTIONS)}; "
            "WHEN 37, or *37 for every 37th"
        )
    return msgspec.convert(
        {"point": point, "number": int(number), "again": when.startswith("*"), "action": action}, Failpoint
    )


class Failpoints:
    """Counts passings, and acts when it is time."""

    def __init__(self, failpoints: list[Failpoint], fired: Path | None) -> None:
        self._failpoints = failpoints
        self._fired = fired
        self._passings: dict[str, int] = {}

    def watches(self, point: Point) -> bool:
        return any(failpoint.point == point for failpoint in self._failpoints)

    def passed(self, point: Point) -> None:
        """Returns, raises InjectedFault or DroppedReply, stops this process for a while, or ends it."""
        passing = self._passings[point] = self._passings.get(point, 0) + 1
        for failpoint in self._failpoints:
            if failpoint.point == point and failpoint.due(passing):
                self._note(failpoint, passing)
                self._act(failpoint)

    def _note(self, failpoint: Failpoint, passing: int) -> None:
        if self._fired is None:
            return
        line = {"point": failpoint.point, "passing": passing, "action": failpoint.action, "pid": os.getpid()}
        with self._fired.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | {"at": time.time()}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _act(self, failpoint: Failpoint) -> None:
        match failpoint.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "raise":
                raise InjectedFault(failpoint.point)
            case "drop-reply":
                raise DroppedReply(failpoint.point)
