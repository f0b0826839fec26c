"""Event → Workday's body (contract, section 4).

| metric | becomes |
|---|---|
| `volunteer_hours` | an activity `volunteer`, completed, on `period_end`; hours as they are |
| `sessions` | an activity `mentorship`, completed, on `period_end`; hours = value times 1.5, exactly |
| `participants` | an enrolment over the event's period |
| `volunteers` | `participantCount` of the volunteer activities; nothing by itself |
| the scores, any other | not sent |

Entries keep their order, and entries of the same metric stay apart: each is an activity or enrolment of its own.

**Pairing `volunteers`.** The first `volunteers` entry is the `participantCount` of the first `volunteer_hours` entry,
the second of the second, and so on. Hours without a partner have 0. What `volunteers` are left over are added to the
last hours' count. So nobody is counted twice, and the counts of an event add up to its volunteers whenever it has
hours. Without any hours they have no place: a mentorship's `participantCount` is 0, and an event of `volunteers`
(and what Workday is not sent) alone is not understood, never sent empty.

**`activityId`** is `{event_id}:{index}:{generation}`, index being the entry's place in the event's `metrics`: the
same at every retry, another after a replay that may have a second effect, and the event can be read off it.

`activityName` and `programName` are the event's program name, `completionCount` is not known and left out; nothing is
rounded. `metadata` holds the event's `source`, its `occurred_at` in UTC, and the version of this mapping.
"""

from collections.abc import Iterator
from uuid import UUID

import msgspec

from connectors.json_body import encode, number, timestamp, to_unscaled
from schemas.event import SCALE, ImpactMetricEvent

VERSION = "1.0"
UNDERSTOOD = frozenset({"volunteer_hours", "sessions", "participants"})

_HOURS_PER_SESSION_TENTHS = 15  # 1.5


class _Period(msgspec.Struct):
    startDate: str  # noqa: N815 (the platform's names, here and below)
    endDate: str  # noqa: N815


class _Activity(msgspec.Struct):
    activityId: str  # noqa: N815
    activityName: str  # noqa: N815
    activityType: str  # noqa: N815
    volunteerHours: msgspec.Raw  # noqa: N815
    participantCount: msgspec.Raw  # noqa: N815
    activityDate: str  # noqa: N815
    status: str = "completed"


class _Enrollment(msgspec.Struct):
    programId: str  # noqa: N815
    programName: str  # noqa: N815
    enrollmentCount: msgspec.Raw  # noqa: N815
    periodStart: str  # noqa: N815
    periodEnd: str  # noqa: N815


class _Metadata(msgspec.Struct):
    source: str
    version: str
    timestamp: str


class _Body(msgspec.Struct):
    organizationId: str  # noqa: N815
    reportingPeriod: _Period  # noqa: N815
    volunteerActivities: list[_Activity]  # noqa: N815
    programEnrollments: list[_Enrollment]  # noqa: N815
    metadata: _Metadata


def understands(event: ImpactMetricEvent) -> bool:
    return any(entry.metric in UNDERSTOOD for entry in event.metrics)


def activity_id(event_id: UUID, index: int, generation: int) -> str:
    return f"{event_id}:{index}:{generation}"


def event_of_activity(identity: str) -> UUID | None:
    """The event that an `activityId` of ours was made of; None for any other text."""
    event, colon, rest = identity.partition(":")
    if not colon or len(event) != 36 or not rest.replace(":", "", 1).isdecimal():
        return None
    try:
        return UUID(event)
    except ValueError:
        return None


def body(event: ImpactMetricEvent, organization_id: str, generation: int) -> bytes:
    start, end = event.period_start.isoformat(), event.period_end.isoformat()
    counts = _participant_counts(event)
    activities: list[_Activity] = []
    enrollments: list[_Enrollment] = []
    for index, entry in enumerate(event.metrics):
        if entry.metric == "volunteer_hours":
            kind, hours, count = "volunteer", number(to_unscaled(entry.value)), next(counts)
        elif entry.metric == "sessions":
            kind, count = "mentorship", 0
            hours = number(to_unscaled(entry.value) * _HOURS_PER_SESSION_TENTHS, SCALE + 1)
        elif entry.metric == "participants":
            amount = number(to_unscaled(entry.value))
            enrollments.append(_Enrollment(event.program_id, event.program_name, amount, start, end))
            continue
        else:
            continue
        activities.append(
            _Activity(
                activity_id(event.event_id, index, generation),
                event.program_name,
                kind,
                hours,
                number(count),
                end,
            )
        )
    return encode(
        _Body(
            organizationId=organization_id,
            reportingPeriod=_Period(start, end),
            volunteerActivities=activities,
            programEnrollments=enrollments,
            metadata=_Metadata(event.source, VERSION, timestamp(event)),
        )
    )


def _participant_counts(event: ImpactMetricEvent) -> Iterator[int]:
    """For each `volunteer_hours` entry the count (in ten-thousandths) that goes with it."""
    hours = sum(entry.metric == "volunteer_hours" for entry in event.metrics)
    volunteers = [to_unscaled(entry.value) for entry in event.metrics if entry.metric == "volunteers"]
    counts = volunteers[:hours] + [0] * (hours - len(volunteers))
    if hours:
        counts[-1] += sum(volunteers[hours:])
    return iter(counts)
