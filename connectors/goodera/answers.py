"""Goodera's error codes, and what a batch's answer says of each member (contract, section 4).

| answer to a batch | outcome of a member |
|---|---|
| not 2xx, or no boolean `success` | the same for all, as for any request |
| `success: false` without `results` | the same for all; refused: the heart halves the batch |
| `success: true` without `results`, `recordsProcessed` absent or the batch's size | all accepted |
| `success: true` without `results`, `recordsProcessed` anything else | all uncertain |
| with `results` | by the entry of its `index`, whatever the batch's own `success` says |
| not in `results`, named there twice, or without a boolean `success` | uncertain |
| `results` is no list | all uncertain |

`recordsProcessed` is not consulted beside `results`: those say more. A member's transaction id is its own, else, where
it was taken, the batch's `batchId`. A single record answered with `success: true` but `recordsProcessed: 0` is
uncertain.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from connectors.answers import COMMON_CODES, AnswerReader, Body, Kind, read_body
from connectors.contract import Accepted, Outcome, Refused, Shipment, Uncertain
from connectors.http_client import Reply, Result

CODES = {
    **COMMON_CODES,
    "PROJECT_NOT_FOUND": Kind.REFUSED,
    "DIMENSION_INVALID": Kind.REFUSED,
    "BATCH_SIZE_EXCEEDED": Kind.REFUSED,
}

UNACCOUNTED = "NOT_ACCOUNTED_FOR"
_UNACCOUNTED_MESSAGE = "the answer does not say what became of this record"


class _Entry(msgspec.Struct):
    index: Any = None
    success: Any = None
    transactionId: Any = None  # noqa: N815
    error: Any = None
    errorCode: Any = None  # noqa: N815
    message: Any = None


def single(reader: AnswerReader, result: Result, shipments: Sequence[Shipment]) -> Outcome:
    if not isinstance(result, Reply):
        return reader.outcome(result, shipments)
    body = read_body(result.body)
    outcome = reader.of_reply(result, body, shipments)
    if isinstance(outcome, Accepted) and body is not None and body.recordsProcessed == 0:
        return _unaccounted(result)
    return outcome


def batch(reader: AnswerReader, result: Result, shipments: Sequence[Shipment]) -> list[Outcome]:
    """One outcome for each shipment, in their order."""
    size = len(shipments)
    if not isinstance(result, Reply):
        return [reader.outcome(result, ())] * size
    body = read_body(result.body)
    understood = 200 <= result.status < 300 and body is not None and isinstance(body.success, bool)
    if body is None or not understood:
        return [_of_the_whole(reader.of_reply(result, body, shipments))] * size
    body.transactionId, body.batchId = body.batchId, body.transactionId  # `batchId` first
    if body.results is not None:
        return _by_results(reader, result, body, shipments)
    if body.success and not _accounts_for_all(body.recordsProcessed, size):
        return [_unaccounted(result)] * size
    return [_of_the_whole(reader.of_reply(result, body, shipments))] * size


def _of_the_whole(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(outcome, whole=True) if isinstance(outcome, Refused) else outcome


def _accounts_for_all(processed: object, size: int) -> bool:
    return processed is None or (type(processed) is int and processed == size)


def _by_results(reader: AnswerReader, reply: Reply, body: Body, shipments: Sequence[Shipment]) -> list[Outcome]:
    entries: dict[int, _Entry | None] = {}
    for raw in body.results if isinstance(body.results, list) else ():
        if not isinstance(raw, dict):
            continue
        entry = msgspec.convert(raw, _Entry)
        if type(entry.index) is int:
            entries[entry.index] = None if entry.index in entries else entry
    return [_member(reader, reply, body, entries.get(index), shipment) for index, shipment in enumerate(shipments)]


def _member(reader: AnswerReader, reply: Reply, body: Body, entry: _Entry | None, shipment: Shipment) -> Outcome:
    if entry is None or not isinstance(entry.success, bool):
        return _unaccounted(reply)
    said = Body(
        transactionId=entry.transactionId,
        # What the platform says of the batch later is said of what it took.
        batchId=reader.transaction_id(body.transactionId, body.batchId) if entry.success else None,
        error=entry.error,
        message=entry.message,
    )
    code = entry.errorCode if isinstance(entry.errorCode, str) else None
    kind = Kind.ACCEPTED if entry.success else reader.refined(code)
    return reader.of_kind(kind, reply.status, said, code, None, (shipment,))


def _unaccounted(reply: Reply) -> Uncertain:
    return Uncertain(http_status=reply.status, error_code=UNACCOUNTED, error_message=_UNACCOUNTED_MESSAGE)
