"""What a demo is asked for."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """`rate`: events a second, 0 is as fast as it goes. `timeout`: seconds until everything has to be finished."""

    events: int = 300
    rate: float = 25.0
    faults: Literal["none", "some", "many"] = "some"
    seed: int = 1
    quotas: Literal["none", "real"] = "none"
    exit: bool = False
    json: bool = False
    timeout: float = 300.0
