"""The headers that differ from request to request (contract, section 4)."""

from collections.abc import Mapping
from uuid import UUID

from schemas.trace import valid_traceparent


def request_headers(fixed: Mapping[str, str], idempotency_key: UUID, traceparent: str) -> dict[str, str]:
    """A platform's fixed headers, with `Idempotency-Key` and, where it is well-formed, `traceparent`."""
    headers = {**fixed, "Idempotency-Key": str(idempotency_key)}
    if valid_traceparent(traceparent):
        headers["traceparent"] = traceparent
    return headers
