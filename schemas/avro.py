"""Avro single-object encoding, by hand (https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding).

`C3 01`, the schema's CRC-64-AVRO fingerprint (little-endian), the body. No registry is needed to read it.
"""

import io
import json
from importlib import resources
from typing import Any, cast

import fastavro
import fastavro.schema

SINGLE_OBJECT_MARKER = b"\xc3\x01"


class AvroError(ValueError):
    """These bytes are no body of the schema."""


def _plain(node: Any) -> Any:
    """The schema without logical types: its canonical form, and so its fingerprint, is the same, and our own
    conversions (integers in and out, no Decimal context) are several times faster than fastavro's."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items() if key not in ("logicalType", "precision", "scale")}
    return [_plain(item) for item in node] if isinstance(node, list) else node


SCHEMA_JSON: str = resources.files("schemas").joinpath("ImpactMetricEvent.avsc").read_text(encoding="utf-8")
_SCHEMA = fastavro.parse_schema(_plain(json.loads(SCHEMA_JSON)))
FINGERPRINT: bytes = bytes.fromhex(
    fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(json.loads(SCHEMA_JSON)), "CRC-64-AVRO")
)
PREFIX: bytes = SINGLE_OBJECT_MARKER + FINGERPRINT


def write_body(fields: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, _SCHEMA, fields)
    return buffer.getvalue()


def read_body(body: bytes) -> dict[str, Any]:
    """Raises AvroError on anything that is not exactly one body: too short, too long, bad text, bad lengths."""
    buffer = io.BytesIO(body)
    try:
        fields = fastavro.schemaless_reader(buffer, _SCHEMA, None)
    except Exception as error:  # fastavro raises whatever its C code met: EOFError, IndexError, UnicodeDecodeError …
        raise AvroError(f"no ImpactMetricEvent in Avro: {type(error).__name__}") from error
    if buffer.tell() != len(body):
        raise AvroError("bytes follow the Avro body")
    return cast("dict[str, Any]", fields)


def decimal_bytes(unscaled: int) -> bytes:
    """Two's complement, big-endian, as short as can be: Avro's bytes for a decimal."""
    return unscaled.to_bytes((unscaled.bit_length() + 8) >> 3, "big", signed=True)


def encode_single_object(body: bytes) -> bytes:
    """A body as a self-describing record value."""
    return PREFIX + body
