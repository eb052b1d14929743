"""JSON out and in."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsclient.sansio.codec import decoder, encode, lenient_decoder, one_line

# --- out -----------------------------------------------------------------------------------------


def test_text_goes_out_as_it_is() -> None:
    assert encode('{"a": 1}') == '{"a": 1}'
    assert encode("ping") == "ping"


def test_bytes_go_out_as_they_are() -> None:
    assert encode(b"\x00\x01") == b"\x00\x01"


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_what_is_like_bytes_goes_out_as_bytes(kind: Any) -> None:
    encoded = encode(kind(b"\x00\x01"))
    assert type(encoded) is bytes
    assert encoded == b"\x00\x01"


def test_an_object_goes_out_as_json_text() -> None:
    assert encode({"op": "subscribe", "args": ["a", 1, None]}) == (
        '{"op":"subscribe","args":["a",1,null]}'
    )


def test_a_decimal_goes_out_as_a_number_digit_for_digit() -> None:
    assert encode({"price": Decimal("1.10")}) == '{"price":1.10}'


@pytest.mark.parametrize("payload", [object(), {"f": print}, {(1, 2): 3}])
def test_what_json_cannot_express_is_a_type_error(payload: Any) -> None:
    with pytest.raises(TypeError):
        encode(payload)


# --- in ------------------------------------------------------------------------------------------


def test_json_comes_in_as_python_objects() -> None:
    assert decoder()(b'{"a": [1, 1.5, "x", true, null]}') == {"a": [1, 1.5, "x", True, None]}


def test_numbers_are_floats_unless_asked_for() -> None:
    assert type(decoder()(b"1.10")) is float


@pytest.mark.parametrize("text", ["1.10", "0.00000000", "63004.9", "1E-7", "5e3"])
def test_a_decimal_keeps_each_digit(text: str) -> None:
    number = decoder(decimal=True)(text.encode())
    assert type(number) is Decimal
    assert str(number) == str(Decimal(text))


def test_a_whole_number_is_an_int_even_among_decimals() -> None:
    assert type(decoder(decimal=True)(b"7204881492680171915")) is int


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"1e999", math.inf),
        (b"-1e999", -math.inf),
        (b"12345678901234567890123", 12345678901234567890123),
    ],
)
def test_a_number_that_the_fast_reader_refuses_is_read_leniently(raw: bytes, value: Any) -> None:
    assert lenient_decoder()(raw) == value


@pytest.mark.parametrize("raw", [b"NaN", b"[Infinity]", b"-Infinity"])
def test_what_is_no_json_is_refused_leniently_too(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        lenient_decoder()(raw)


@pytest.mark.parametrize("number", [math.nan, math.inf, Decimal("NaN"), Decimal("-Infinity")])
def test_what_is_no_number_is_not_sent_as_null(number: Any) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        encode({"prices": [number]})


def test_a_number_too_large_for_a_float_is_exact_as_a_decimal() -> None:
    assert decoder(decimal=True)(b"1e999") == Decimal("1e999")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None)
@given(json_values)
def test_what_goes_out_comes_in_the_same(value: Any) -> None:
    text = encode([value])
    assert isinstance(text, str)
    assert decoder()(text.encode()) == json.loads(text) == [value]


def test_a_lone_surrogate_is_refused_before_it_is_sent() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode("price \ud800")


def test_a_venues_words_are_one_short_line() -> None:
    assert one_line("a\r\nb\x1b[0m") == "a  b [0m"
    assert one_line("x" * 300) == "x" * 200
