"""Well-formed requests, as contract section 4 describes them; a test changes one thing about them."""

import uuid
from typing import Any

BENEVITY = "/v1/impact"
GOODERA, GOODERA_BATCH = "/v1/impact-data", "/v1/impact-data/batch"
WORKDAY = "/ccx/service/volunteer-management/v1/activities"


def headers(platform: str, key: str | None = None, token: str = "") -> dict[str, str]:
    credentials = {
        "benevity": {"Authorization": "Bearer simulated-benevity-key", "X-API-Version": "1.0"},
        "goodera": {"X-API-Key": "simulated-goodera-key", "X-API-Version": "1.0"},
        "workday": {"Authorization": f"Bearer {token}", "X-Workday-Tenant": "simulated_tenant"},
    }
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": key or str(uuid.uuid4()),
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        **credentials[platform],
    }


def benevity(organization: str = "org-1", hours: Any = 12.5) -> dict[str, Any]:
    return {
        "organizationId": organization,
        "programId": "program-1",
        "reportingPeriod": {"startDate": "2026-01-01", "endDate": "2026-01-31"},
        "metrics": [
            {"metricType": "volunteer_hours", "metricValue": hours, "metricUnit": "hours"},
            {
                "metricType": "outcome_score",
                "metricValue": 0.5,
                "metricUnit": "score",
                "category": "integration",
            },
        ],
        "programName": "Welcome",
        "programDescription": "Language and work",
        "timestamp": "2026-02-01T08:00:00.123Z",
    }


def goodera(organization: str = "org-1", hours: Any = 12.5) -> dict[str, Any]:
    return {
        "projectId": "program-1",
        "organizationId": organization,
        "reportingPeriod": {"from": "2026-01-01", "to": "2026-01-31"},
        "impactDimensions": [
            {
                "dimensionId": "volunteer_hours",
                "dimensionName": "Volunteer hours",
                "value": hours,
                "unit": "hours",
                "beneficiaries": 3,
            },
            {"dimensionId": "trees", "dimensionName": "trees", "value": 7, "unit": "pieces"},
        ],
        "metadata": {"source": "buddy-service", "timestamp": "2026-02-01T08:00:00Z", "version": "1.0"},
    }


def workday(organization: str = "org-1", activity: str | None = None) -> dict[str, Any]:
    return {
        "organizationId": organization,
        "reportingPeriod": {"startDate": "2026-01-01", "endDate": "2026-01-31"},
        "volunteerActivities": [
            {
                "activityId": activity or str(uuid.uuid4()),
                "activityName": "Welcome",
                "activityType": "volunteer",
                "volunteerHours": 12.5,
                "participantCount": 4,
                "activityDate": "2026-01-31",
                "status": "completed",
            }
        ],
        "programEnrollments": [
            {
                "programId": "program-1",
                "programName": "Welcome",
                "enrollmentCount": 9,
                "periodStart": "2026-01-01",
                "periodEnd": "2026-01-31",
            }
        ],
        "metadata": {"source": "buddy-service", "version": "1.0", "timestamp": "2026-02-01T08:00:00Z"},
    }
