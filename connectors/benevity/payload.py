"""Event → Benevity's body (contract, section 4).

One metric for each entry of the event, in its order; entries of the same metric stay apart.

| metric | `metricType` | `metricUnit` | `category` |
|---|---|---|---|
| `volunteer_hours` | `volunteer_hours` | hours | the entry's, if any |
| `participants` | `participant_count` | count | the entry's, if any |
| `volunteers` | `program_participation` | count | the entry's, if any |
| `integration_score` | `outcome_score` | score | integration |
| `language_level` | `outcome_score` | level | language |
| `job_readiness` | `outcome_score` | score | job_readiness |
| `sessions` | not sent | | |
| any other | `outcome_score` | the entry's | the metric's name |

Amounts go as they are: nothing is rounded, scores keep their scale. Dates are the event's; `timestamp` is its
`occurred_at` in UTC. An absent description is left out, not null. `beneficiaries` has no place here.
"""

import msgspec

from connectors.json_body import encode, number, timestamp, to_unscaled
from schemas.event import ImpactMetricEvent, MetricEntry

NOT_SENT = frozenset({"sessions"})

_TYPE_UNIT_CATEGORY: dict[str, tuple[str, str, str | None]] = {
    "volunteer_hours": ("volunteer_hours", "hours", None),
    "participants": ("participant_count", "count", None),
    "volunteers": ("program_participation", "count", None),
    "integration_score": ("outcome_score", "score", "integration"),
    "language_level": ("outcome_score", "level", "language"),
    "job_readiness": ("outcome_score", "score", "job_readiness"),
}


class _Period(msgspec.Struct):
    startDate: str  # noqa: N815 (the platform's names, here and below)
    endDate: str  # noqa: N815


class _Metric(msgspec.Struct, omit_defaults=True):
    metricType: str  # noqa: N815
    metricValue: msgspec.Raw  # noqa: N815
    metricUnit: str  # noqa: N815
    category: str | None = None
    description: str | None = None


class _Body(msgspec.Struct, omit_defaults=True):
    organizationId: str  # noqa: N815
    programId: str  # noqa: N815
    reportingPeriod: _Period  # noqa: N815
    metrics: list[_Metric]
    programName: str  # noqa: N815
    timestamp: str
    programDescription: str | None = None  # noqa: N815


def understands(event: ImpactMetricEvent) -> bool:
    return any(entry.metric not in NOT_SENT for entry in event.metrics)


def body(event: ImpactMetricEvent, organization_id: str) -> bytes:
    return encode(
        _Body(
            organizationId=organization_id,
            programId=event.program_id,
            reportingPeriod=_Period(event.period_start.isoformat(), event.period_end.isoformat()),
            metrics=[_metric(entry) for entry in event.metrics if entry.metric not in NOT_SENT],
            programName=event.program_name,
            programDescription=event.program_description,
            timestamp=timestamp(event),
        )
    )


def _metric(entry: MetricEntry) -> _Metric:
    kind, unit, category = _TYPE_UNIT_CATEGORY.get(entry.metric, ("outcome_score", entry.unit, entry.metric))
    return _Metric(kind, number(to_unscaled(entry.value)), unit, category or entry.category, entry.description)
