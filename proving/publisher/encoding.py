"""A metric event on the wire: Avro single-object encoding and JSON (contract, section 3), written by hand.

Avro 1.12 (https://avro.apache.org/docs/1.12.0/specification/): zigzag integers, length-prefixed strings, one block an
array or map, `C3 01`, CRC-64-AVRO of the canonical form (little-endian), the body.
"""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import TypeVar

from proving.publisher.events import Event, Metric

T = TypeVar("T")

# Parsing canonical form of the schema in the contract: names, types and their order, nothing else.
_CANONICAL = (
    '{"name":"impact_in.ImpactMetricEvent","type":"record","fields":['
    '{"name":"event_id","type":"string"},{"name":"company_id","type":"string"},{"name":"program_id","type":"string"},'
    '{"name":"program_name","type":"string"},{"name":"program_description","type":["null","string"]},'
    '{"name":"period_start","type":"int"},{"name":"period_end","type":"int"},{"name":"occurred_at","type":"long"},'
    '{"name":"source","type":"string"},{"name":"metrics","type":{"type":"array","items":'
    '{"name":"impact_in.Metric","type":"record","fields":[{"name":"metric","type":"string"},'
    '{"name":"value","type":"bytes"},{"name":"unit","type":"string"},{"name":"category","type":["null","string"]},'
    '{"name":"beneficiaries","type":["null","long"]},{"name":"description","type":["null","string"]}]}}},'
    '{"name":"platforms","type":["null",{"type":"array","items":"string"}]},'
    '{"name":"correlation_id","type":["null","string"]},{"name":"metadata","type":{"type":"map","values":"string"}}]}'
)
_EMPTY = 0xC15D213AA4D7A795
_SCALE = 4
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def as_avro(event: Event) -> bytes:
    return PREFIX + _body(event)


def as_json(event: Event) -> bytes:
    """Amounts as strings, so that no writer of JSON rounds them."""
    return json.dumps(_fields(event), separators=(",", ":")).encode()


def content_sha256(event: Event) -> str:
    """Of the content alone: the same in both encodings."""
    return sha256(json.dumps(_fields(event), sort_keys=True).encode()).hexdigest()


def _fields(event: Event) -> dict[str, object]:
    return {
        "event_id": str(event.event_id),
        "company_id": str(event.company_id),
        "program_id": event.label,
        "program_name": event.program_name,
        "period_start": event.period_start.isoformat(),
        "period_end": event.period_end.isoformat(),
        "occurred_at": event.occurred_at.isoformat(),
        "source": event.source,
        "metrics": [
            {"metric": metric.name, "value": format(metric.value, "f"), "unit": metric.unit} for metric in event.metrics
        ],
        "platforms": None if event.platforms is None else list(event.platforms),
        "metadata": dict(sorted(event.metadata.items())),
    }


def _body(event: Event) -> bytes:
    since = event.occurred_at - _EPOCH
    return b"".join(
        (
            _text(str(event.event_id)),
            _text(str(event.company_id)),
            _text(event.label),
            _text(event.program_name),
            _optional(None, _text),
            _number(event.period_start.toordinal() - _EPOCH_DAY),
            _number(event.period_end.toordinal() - _EPOCH_DAY),
            _number((since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000),
            _text(event.source),
            _block([_metric(metric) for metric in event.metrics]),
            _optional(event.platforms, lambda names: _block([_text(name) for name in names])),
            _optional(None, _text),
            _block([_text(name) + _text(value) for name, value in sorted(event.metadata.items())]),
        )
    )


def _metric(metric: Metric) -> bytes:
    unscaled = int(metric.value.scaleb(_SCALE))
    assert Decimal(unscaled).scaleb(-_SCALE) == metric.value
    value = unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)
    nothing = _optional(None, _text)
    return _text(metric.name) + _number(len(value)) + value + _text(metric.unit) + nothing * 3


def _number(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(value: str) -> bytes:
    raw = value.encode()
    return _number(len(raw)) + raw


def _optional(value: T | None, write: Callable[[T], bytes]) -> bytes:
    return _number(0) if value is None else _number(1) + write(value)


def _block(items: Iterable[bytes]) -> bytes:
    found = list(items)
    return _number(len(found)) + b"".join(found) + _number(0) if found else _number(0)


def _crc_64_avro(data: bytes) -> int:
    table = []
    for index in range(256):
        entry = index
        for _ in range(8):
            entry = (entry >> 1) ^ (_EMPTY & -(entry & 1))
        table.append(entry)
    found = _EMPTY
    for byte in data:
        found = (found >> 8) ^ table[(found ^ byte) & 0xFF]
    return found


PREFIX = b"\xc3\x01" + _crc_64_avro(_CANONICAL.encode()).to_bytes(8, "little")
