"""Benevity's error codes (contract, section 4)."""

from connectors.answers import COMMON_CODES, Kind

CODES = {**COMMON_CODES, "ORG_NOT_FOUND": Kind.REFUSED, "INVALID_METRIC": Kind.REFUSED}
