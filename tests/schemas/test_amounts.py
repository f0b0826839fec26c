"""decimal(18,4): from the digits in a JSON text to Avro and back, exactly."""

import io
import json
from decimal import Decimal, localcontext

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ImpactMetricEvent, Unreadable, UnreadableKind, avro, decode
from schemas.event import amount, from_unscaled, to_avro, to_unscaled
from tests.schemas.events import json_with_value, patient

pytestmark = pytest.mark.fast

unscaled = st.integers(0, 10**18 - 1)


def value_of(digits: str) -> Decimal:
    event = decode(json_with_value(digits))
    assert isinstance(event, ImpactMetricEvent), event
    return event.metrics[0].value


def spelled(number: int, places: int, zeros: int) -> str:
    text = str(number).rjust(places + 1, "0")
    return f"{text[:-places]}.{text[-places:]}{'0' * zeros}" if places else text


@patient
@given(unscaled, st.integers(0, 15), st.booleans())
def test_digits_go_to_avro_and_back_unchanged(number: int, zeros: int, quoted: bool) -> None:
    digits = spelled(number, 4, zeros)
    event = decode(json_with_value(json.dumps(digits) if quoted else digits))
    assert isinstance(event, ImpactMetricEvent)
    again = decode(avro.encode_single_object(to_avro(event)))
    assert isinstance(again, ImpactMetricEvent)
    value = again.metrics[0].value
    assert to_unscaled(value) == number
    assert str(value) == spelled(number, 4, 0)
    assert again == event


@patient
@given(st.text("0123456789", min_size=1, max_size=30), st.text("0123456789", max_size=30), st.integers(-40, 40))
def test_an_amount_is_exact_or_refused(whole: str, places: str, exponent: int) -> None:
    digits = f'"{whole}{"." + places if places else ""}e{exponent}"'
    answer = decode(json_with_value(digits))
    with localcontext() as context:
        context.prec = 200
        exact = Decimal(int(whole + places)).scaleb(exponent - len(places))
        fits = exact < 10**14 and exact * 10**4 == int(exact * 10**4)
    if fits:
        assert isinstance(answer, ImpactMetricEvent)
        assert answer.metrics[0].value == exact
    else:
        assert isinstance(answer, Unreadable)
        assert answer.kind is UnreadableKind.INVALID_EVENT


@patient
@given(unscaled)
def test_our_bytes_of_a_decimal_are_fastavros(number: int) -> None:
    schema = fastavro.parse_schema({"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 4})
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, Decimal(number).scaleb(-4))
    length_and_digits = buffer.getvalue()
    assert length_and_digits[1:] == avro.decimal_bytes(number)


@pytest.mark.parametrize("digits", ["0.12345", "1e-5", "1.00001", "1." + "0" * 35 + "1", "99999999999999.99999"])
def test_more_than_four_decimals_are_invalid(digits: str) -> None:
    answer = decode(json_with_value(digits))
    assert isinstance(answer, Unreadable)
    assert "four decimals" in answer.detail


@pytest.mark.parametrize(
    ("digits", "value"),
    [
        ("1.50000", "1.5000"),
        ("0.00000000", "0.0000"),
        ("12e-1", "1.2000"),
        ("1E2", "100.0000"),
        ("-0", "0.0000"),
        ("-0.0", "0.0000"),
        ("0e20", "0.0000"),
        ("99999999999999.9999", "99999999999999.9999"),
        ("99999999999999.99990000000000000000", "99999999999999.9999"),
        ("0.1", "0.1000"),
        ('"0.1"', "0.1000"),
    ],
)
def test_the_same_number_is_the_same_amount(digits: str, value: str) -> None:
    assert str(value_of(digits)) == value


@pytest.mark.parametrize("digits", ["-1", "-0.0001", '"-1"', "100000000000000", "1e14", "1e999", "true", "null", "[1]"])
def test_what_is_no_amount_is_refused(digits: str) -> None:
    answer = decode(json_with_value(digits))
    assert isinstance(answer, Unreadable)
    assert answer.kind is UnreadableKind.INVALID_EVENT


@pytest.mark.parametrize("number", [-1, 10**18])
def test_an_amount_out_of_range_in_avro_is_refused(number: int) -> None:
    event = decode(json_with_value("7"))
    assert isinstance(event, ImpactMetricEvent)
    body, good, bad = to_avro(event), avro.decimal_bytes(70_000), avro.decimal_bytes(number)
    wrong = body.replace(bytes([2 * len(good)]) + good, bytes([2 * len(bad)]) + bad)
    assert wrong != body
    answer = decode(avro.encode_single_object(wrong))
    assert isinstance(answer, Unreadable)
    assert answer.kind is UnreadableKind.INVALID_EVENT


@patient
@given(unscaled)
def test_an_amount_read_from_its_own_text_is_itself(number: int) -> None:
    assert amount(str(from_unscaled(number))) == from_unscaled(number)
