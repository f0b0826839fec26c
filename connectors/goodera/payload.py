"""Event → Goodera's record (contract, section 4).

One dimension for each entry of the event, in its order; entries of the same metric stay apart, since amounts add up.

| metric | `dimensionId` | `unit` | value |
|---|---|---|---|
| `volunteers` | `volunteer_engagement` | volunteers | as it is |
| `volunteer_hours` | `volunteer_hours` | hours | as it is |
| `participants` | `program_reach` | participants | as it is |
| `sessions` | `session_count` | sessions | as it is |
| `integration_score` | `integration_outcome` | percentage | times 100 |
| `language_level` | `language_proficiency` | level_0_10 | as it is |
| `job_readiness` | `employability` | percentage | times 100 |
| any other | the metric's name | the entry's | as it is |

Every metric has a place, so Goodera understands every event. A percentage is the exact score times 100: nothing is
rounded. `dimensionName` is the id in words, for any other metric its name (the contract names none). `metadata` holds
the event's `source`, its `occurred_at` in UTC, and the version of this mapping. The entry's category and description
have no place here.
"""

import msgspec

from connectors.json_body import encode, number, timestamp, to_unscaled
from schemas.event import SCALE, ImpactMetricEvent, MetricEntry

VERSION = "1.0"

_PERCENT = SCALE - 2  # two places fewer: a hundred times as much
_DIMENSIONS: dict[str, tuple[str, str, str, int]] = {
    "volunteers": ("volunteer_engagement", "Volunteer engagement", "volunteers", SCALE),
    "volunteer_hours": ("volunteer_hours", "Volunteer hours", "hours", SCALE),
    "participants": ("program_reach", "Program reach", "participants", SCALE),
    "sessions": ("session_count", "Session count", "sessions", SCALE),
    "integration_score": ("integration_outcome", "Integration outcome", "percentage", _PERCENT),
    "language_level": ("language_proficiency", "Language proficiency", "level_0_10", SCALE),
    "job_readiness": ("employability", "Employability", "percentage", _PERCENT),
}


class _Period(msgspec.Struct):
    from_: str = msgspec.field(name="from")
    to: str


class _Dimension(msgspec.Struct, omit_defaults=True):
    dimensionId: str  # noqa: N815 (the platform's names, here and below)
    dimensionName: str  # noqa: N815
    value: msgspec.Raw
    unit: str
    beneficiaries: int | None = None


class _Metadata(msgspec.Struct):
    source: str
    timestamp: str
    version: str


class _Record(msgspec.Struct):
    projectId: str  # noqa: N815
    organizationId: str  # noqa: N815
    reportingPeriod: _Period  # noqa: N815
    impactDimensions: list[_Dimension]  # noqa: N815
    metadata: _Metadata


def body(event: ImpactMetricEvent, organization_id: str) -> bytes:
    return encode(
        _Record(
            projectId=event.program_id,
            organizationId=organization_id,
            reportingPeriod=_Period(event.period_start.isoformat(), event.period_end.isoformat()),
            impactDimensions=[_dimension(entry) for entry in event.metrics],
            metadata=_Metadata(event.source, timestamp(event), VERSION),
        )
    )


def batch(bodies: list[bytes]) -> bytes:
    """`{"records": […]}` out of the members' bodies as they stand: what was hashed is what is sent."""
    return b'{"records":[' + b",".join(bodies) + b"]}"


def _dimension(entry: MetricEntry) -> _Dimension:
    identity, name, unit, scale = _DIMENSIONS.get(entry.metric, (entry.metric, entry.metric, entry.unit, SCALE))
    return _Dimension(identity, name, number(to_unscaled(entry.value), scale), unit, entry.beneficiaries)
