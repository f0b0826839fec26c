"""What the platforms must have received, worked out from the events by a short table of its own: the demo's check
shares no code with the connectors that it checks."""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from schemas.event import ImpactMetricEvent

# platform → demo metric → (the simulator's name for it, factor)
_TABLE: dict[str, dict[str, tuple[str, Decimal]]] = {
    "benevity": {
        "volunteer_hours": ("volunteer_hours", Decimal(1)),
        "participants": ("participant_count", Decimal(1)),
        "volunteers": ("program_participation", Decimal(1)),
        "integration_score": ("outcome_score/integration", Decimal(1)),
    },
    "goodera": {
        "volunteer_hours": ("volunteer_hours", Decimal(1)),
        "participants": ("program_reach", Decimal(1)),
        "volunteers": ("volunteer_engagement", Decimal(1)),
        "sessions": ("session_count", Decimal(1)),
        "integration_score": ("integration_outcome", Decimal(100)),
    },
    "workday": {
        "volunteer_hours": ("volunteer/volunteerHours", Decimal(1)),
        "volunteers": ("volunteer/participantCount", Decimal(1)),
        "sessions": ("mentorship/volunteerHours", Decimal("1.5")),
        "participants": ("enrollmentCount", Decimal(1)),
    },
}


def expected_sums(platform: str, events: Iterable[ImpactMetricEvent]) -> dict[str, Decimal]:
    """By the names of the simulator's `/_received`."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    table = _TABLE[platform]
    for event in events:
        for entry in event.metrics:
            if entry.metric in table:
                name, factor = table[entry.metric]
                sums[name] += entry.value * factor
    return dict(sums)
