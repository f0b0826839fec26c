"""What operators see of a platform's breaker."""

from uuid import uuid4

import pytest

from delivery_log.contract import HeldNow, HoldReason, PlatformControl
from impact_in.operations.platforms import PlatformView, view
from impact_in.settings import load
from tests.impact_in.test_settings import COMPLETE

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("environment")]


def held(reason: HoldReason = "breaker", *, next_probe: float = 3.0, probing: float = 0.0) -> HeldNow:
    return HeldNow(
        id=uuid4(),
        platform="benevity",
        organization_id=None,
        reason=reason,
        owner="w1",
        age=9.0,
        next_probe=next_probe,
        probing=probing,
    )


def seen(*holds: HeldNow, platform: str = "benevity") -> PlatformView:
    return view(load("platforms", environ=COMPLETE), platform, PlatformControl(), holds)


@pytest.mark.parametrize(
    ("holds", "breaker"),
    [
        ([], "closed"),
        ([held("credentials", probing=9.0)], "closed"),
        ([held()], "open"),
        ([held(next_probe=-0.5)], "half_open"),
        ([held(next_probe=-0.5, probing=9.0)], "half_open"),
    ],
)
def test_a_breaker_that_probes_is_half_open(holds: list[HeldNow], breaker: str) -> None:
    assert seen(*holds).breaker == breaker
    assert seen(*holds, platform="goodera").breaker == "closed"
    assert seen(*holds).held_reason == (holds[0].reason if holds else None)
