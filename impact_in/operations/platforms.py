"""What operators see and set of a platform."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from connectors.registry import REGISTRY
from delivery_log.contract import HeldNow, PlatformControl
from impact_in.settings import Settings

UNLIMITED: dict[str, bool | int | None] = {"per_second": 0, "per_minute": 0, "per_day": 0}
_WORST_FIRST = ("paused", "credentials", "breaker", "throttled", "forbidden")


class LimitsView(msgspec.Struct, frozen=True, rename="camel"):
    """Requests; null: any number."""

    per_second: int | None
    per_minute: int | None
    per_day: int | None


class PlatformView(msgspec.Struct, frozen=True, rename="camel"):
    """A platform as the API shows it (contract, section 7)."""

    platform: str
    paused: bool
    mock_mode: bool
    limits: LimitsView
    breaker: Literal["closed", "open", "half_open"]
    held_reason: str | None
    credentials_ok: bool
    held_organizations: int


def view(settings: Settings, platform: str, control: PlatformControl, held: Sequence[HeldNow]) -> PlatformView:
    """`held`: of all platforms and workers."""
    mine = [hold for hold in held if hold.platform == platform]
    whole = {hold.reason for hold in mine if hold.organization_id is None} | ({"paused"} if control.paused else set())
    usual = REGISTRY[platform].limits
    return PlatformView(
        platform=platform,
        paused=control.paused,
        mock_mode=settings.platforms[platform].mock_mode,
        limits=LimitsView(
            per_second=_limit(control.per_second, usual.per_second),
            per_minute=_limit(control.per_minute, usual.per_minute),
            per_day=_limit(control.per_day, usual.per_day),
        ),
        breaker=_breaker([hold for hold in mine if hold.reason == "breaker"]),
        held_reason=next((reason for reason in _WORST_FIRST if reason in whole), None),
        credentials_ok="credentials" not in whole,
        held_organizations=len({hold.organization_id for hold in mine if hold.organization_id is not None}),
    )


def _breaker(holds: Sequence[HeldNow]) -> Literal["closed", "open", "half_open"]:
    """Half open: a probe is on its way, or the next delivery that comes is one."""
    if not holds:
        return "closed"
    return "half_open" if any(hold.probing > 0 or hold.next_probe <= 0 for hold in holds) else "open"


def _limit(wanted: int | None, usual: int | None) -> int | None:
    return usual if wanted is None else wanted or None
