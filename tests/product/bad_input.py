"""Records that are no events, each with what has to become of it."""

import json
from dataclasses import dataclass

from schemas.avro import FINGERPRINT

# In every record that has room for it. What is told of a record must not repeat it.
PLANTED = "planted-5ecret"

DIGITS = b"9" * 5_000
_DEEP = 100_000
_EVENT = {
    "event_id": "00000000-0000-4000-8000-0000000000ff",
    "company_id": "11111111-1111-4111-8111-111111111111",
    "program_id": PLANTED,
    "program_name": f"{PLANTED} TEXT",
    "period_start": "2026-01-01",
    "period_end": "2026-01-31",
    "occurred_at": "2026-02-01T08:02:00Z",
    "source": PLANTED,
    "metrics": [{"metric": PLANTED, "value": 34, "unit": "hours"}],
}


@dataclass(frozen=True)
class Bad:
    """`kind`: the dead letter's `ii-error-kind`. `key`: None stands for the key of a good record beside it."""

    name: str
    value: bytes
    kind: str
    key: bytes | None = None


def _with(old: bytes, new: bytes) -> bytes:
    whole = json.dumps(_EVENT).encode()
    assert old in whole
    return whole.replace(old, new)


def _without(field: str) -> bytes:
    return json.dumps({name: value for name, value in _EVENT.items() if name != field}).encode()


def _field(json_text: bytes) -> bytes:
    return _with(b'"period_start"', json_text + b', "period_start"')


def bad_records() -> list[Bad]:
    planted = PLANTED.encode()
    return [
        Bad("no JSON", b"this is no JSON but " + planted, "invalid_json"),
        Bad("JSON with something behind it", json.dumps(_EVENT).encode() + planted, "invalid_json"),
        Bad("no Avro behind our fingerprint", b"\xc3\x01" + FINGERPRINT + planted, "invalid_avro"),
        Bad("an Avro marker and no more", b"\xc3\x01", "invalid_avro"),
        Bad("an unknown fingerprint", b"\xc3\x01" + bytes(8) + planted, "unknown_schema"),
        Bad("the Confluent wire format", b"\x00\x00\x00\x00\x07" + planted, "unsupported_encoding"),
        Bad("an array", json.dumps([PLANTED]).encode(), "invalid_event"),
        Bad("a string", json.dumps(PLANTED).encode(), "invalid_event"),
        Bad("a number", b"17", "invalid_event"),
        Bad("the JSON null", b"null", "invalid_event"),
        Bad("an event in an envelope", json.dumps({"event": _EVENT}).encode(), "invalid_event"),
        Bad("metrics that are no array", _with(b'"metrics": [', b'"metrics": 7, "more": ['), "invalid_event"),
        Bad("NaN", _with(b"34", b"NaN"), "invalid_json"),
        Bad("NaN as text", _with(b"34", b'"NaN"'), "invalid_event"),
        Bad("infinity", _with(b"34", b"Infinity"), "invalid_json"),
        Bad("infinity as text", _with(b"34", b'"-Infinity"'), "invalid_event"),
        Bad("a number beyond all floats", _with(b"34", b"1e999"), "invalid_event"),
        Bad("NUL in a text", _with(b" TEXT", b"\\u0000"), "invalid_event"),
        Bad("NUL in a name", _field(b'"metadata": {"a\\u0000": "b"}'), "invalid_event"),
        Bad("a bare NUL", _with(b" TEXT", b"\0"), "invalid_json"),
        Bad("a lone surrogate", _with(b" TEXT", b"\\ud800"), "invalid_json"),
        Bad("a lone surrogate in UTF-8", _with(b" TEXT", b"\xed\xa0\x80"), "invalid_json"),
        Bad("5,000 digits", _with(b"34", DIGITS), "invalid_event"),
        Bad("5,000 digits as text", _with(b"34", b'"' + DIGITS + b'"'), "invalid_event"),
        Bad("5,000 decimals", _with(b"34", b"0." + DIGITS), "invalid_event"),
        Bad("5,000 digits for a count", _with(b'"unit"', b'"beneficiaries": ' + DIGITS + b', "unit"'), "invalid_event"),
        Bad("nesting 100,000 deep", b"[" * _DEEP, "invalid_event"),
        Bad("nesting 100,000 deep, closed", b'{"a":' * _DEEP + b"1" + b"}" * _DEEP, "invalid_json"),
        Bad("nesting within an event", _field(b'"extra": ' + b"[" * _DEEP + b"]" * _DEEP), "invalid_json"),
        Bad("an empty value", b"", "empty"),
        *(Bad(f"no {field}", _without(field), "invalid_event") for field in _EVENT),
        Bad("no unit", _with(b', "unit": "hours"', b""), "invalid_event"),
        Bad("2 MB", _field(b'"extra": "' + planted + b"x" * 2_000_000 + b'"'), "oversize"),
        Bad("a key that is no UTF-8", planted, "invalid_json", key=b"\xff\xfe\x00"),
    ]  # fmt: skip
