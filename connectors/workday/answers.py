"""Workday's error codes (contract, section 4).

`DUPLICATE_ACTIVITY`: already there, so delivered. The counts of a 200 (`activitiesProcessed`, `enrollmentsProcessed`)
are not compared with what was sent: nobody says how Workday counts.
"""

from connectors.answers import COMMON_CODES, Kind

CODES = {
    **COMMON_CODES,
    "TENANT_INVALID": Kind.REFUSED,
    "ACTIVITY_INVALID": Kind.REFUSED,
    "DUPLICATE_ACTIVITY": Kind.ACCEPTED,
}
