"""JSON encoding and decoding."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Context, Decimal, Inexact, InvalidOperation, Rounded, localcontext
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import message
from wsclient.stream.codec import (
    MAX_DIGITS,
    PlainDecoder,
    decode_flat,
    decoder,
    encode,
    is_suspect,
    lenient_decoder,
)
from wsclient.text import one_line, text_of

# --- encoding ------------------------------------------------------------------------------------


def test_text_is_sent_unchanged() -> None:
    assert encode('{"a": 1}') == '{"a": 1}'
    assert encode("ping") == "ping"


def test_bytes_are_sent_unchanged() -> None:
    assert encode(b"\x00\x01") == b"\x00\x01"


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_like_objects_are_sent_as_bytes(kind: Any) -> None:
    encoded = encode(kind(b"\x00\x01"))
    assert type(encoded) is bytes
    assert encoded == b"\x00\x01"


def test_an_object_is_sent_as_json_text() -> None:
    assert encode({"op": "subscribe", "args": ["a", 1, None]}) == (
        '{"op":"subscribe","args":["a",1,null]}'
    )


def test_a_decimal_is_sent_as_a_number_with_all_its_digits() -> None:
    assert encode({"price": Decimal("1.10")}) == '{"price":1.10}'


@pytest.mark.parametrize("payload", [object(), {"f": print}, {(1, 2): 3}])
def test_what_json_cannot_express_is_a_type_error(payload: Any) -> None:
    with pytest.raises(TypeError):
        encode(payload)


# --- decoding ------------------------------------------------------------------------------------


def test_json_is_decoded_to_python_objects() -> None:
    assert decoder()(b'{"a": [1, 1.5, "x", true, null]}') == {"a": [1, 1.5, "x", True, None]}


def test_numbers_are_floats_by_default() -> None:
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
def test_the_lenient_decoder_refuses_invalid_json(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        lenient_decoder()(raw)


@pytest.mark.parametrize("number", [math.nan, math.inf, Decimal("NaN"), Decimal("-Infinity")])
def test_nan_and_infinity_are_not_sent_as_null(number: Any) -> None:
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


@given(json_values)
def test_an_encoded_value_decodes_to_the_same(value: Any) -> None:
    text = encode([value])
    assert isinstance(text, str)
    assert decoder()(text.encode()) == json.loads(text) == [value]


def test_a_lone_surrogate_is_refused_before_it_is_sent() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode("price \ud800")


def test_a_venues_text_becomes_one_short_line() -> None:
    assert one_line("a\r\nb\x1b[0m") == "a  b [0m"
    assert one_line("x" * 200) == "x" * 200
    assert one_line("x" * 201) == "x" * 197 + "..."


# --- values that a peek does not check -----------------------------------------------------------

FOREIGN = [
    Context(prec=8),
    Context(prec=1, Emax=1, Emin=-1, traps=[]),
    Context(prec=3, traps=[Inexact, Rounded, InvalidOperation]),
]


@pytest.mark.parametrize("context", FOREIGN)
@pytest.mark.parametrize("text", ["12345678901234567890.1", "1E-7000", "0.10", "-5e30"])
def test_a_decimal_does_not_depend_on_the_programs_context(text: str, context: Context) -> None:
    expected = Decimal(text)
    with localcontext(context):
        found = decoder(decimal=True)(text.encode())
    assert found.as_tuple() == expected.as_tuple()


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"1e99999999999999999999", math.inf),
        (b"-1e1000000000000000000", -math.inf),
        (b"1e-99999999999999999999", 0),
    ],
)
def test_an_exponent_beyond_decimals_is_read_as_for_a_float(raw: bytes, value: float) -> None:
    assert decoder(decimal=True)(raw) == value
    assert lenient_decoder(decimal=True)(raw) == value


@contextmanager
def int_max_str_digits(limit: int) -> Iterator[None]:
    if not hasattr(sys, "set_int_max_str_digits"):  # before 3.10.7
        yield
        return
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(limit)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize("limit", [0, 640, 4300])
@pytest.mark.parametrize("sign", [b"", b"-"])
def test_integers_are_read_up_to_our_own_limit(limit: int, sign: bytes) -> None:
    decode = PlainDecoder().decode_all
    with int_max_str_digits(limit):
        for count in (20, 640, 641, MAX_DIGITS):
            assert decode(sign + b"1" * count) == int(f"{sign.decode()}1") * (10**count // 9)
        with pytest.raises(ValueError, match=f"more than {MAX_DIGITS} digits"):
            decode(sign + b"1" * (MAX_DIGITS + 1))


@given(st.integers(0, 3 * MAX_DIGITS), st.integers(0, MAX_DIGITS), st.integers(0, 3 * MAX_DIGITS))
def test_an_integer_beyond_the_limit_is_suspect_at_any_position(
    before: int, more: int, after: int
) -> None:
    assert is_suspect(b" " * before + b"7" * (MAX_DIGITS + 1 + more) + b"," * after)


def test_an_ordinary_frame_is_not_suspect() -> None:
    rows = [[f"{i}.12345678", 1735689600000000000 + i] for i in range(10_000)]
    assert not is_suspect(encode(rows).encode())  # type: ignore[union-attr]


def nested(depth: int) -> bytes:
    half = depth // 2
    return b'{"a":[' * half + b'1e999,"\\"]}{[\\\\",1.5' + b"]}" * half


@pytest.mark.parametrize("decimal", [False, True])
def test_nesting_deeper_than_the_stack_is_decoded_without_recursion(decimal: bool) -> None:
    value = PlainDecoder(decimal).decode_deep(nested(200_000))
    depth = 0
    while len(value) == 1 or type(value) is dict:
        value = value["a"] if type(value) is dict else value[0]
        depth += 1
    assert depth == 199_999
    assert value == [Decimal("1e999") if decimal else math.inf, '"]}{[\\', 1.5]
    assert type(value[2]) is (Decimal if decimal else float)


@given(json_values, st.sampled_from([None, 1]), st.booleans())
def test_decoding_without_recursion_gives_the_same(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert decode_flat(raw, json.loads) == value


def test_a_type_that_needs_more_stack_is_a_validation_error() -> None:
    with pytest.raises(msgspec.ValidationError, match="nested too deep"):
        PlainDecoder().typed(message(raw=nested(200_000)), dict[str, Any])


class Exiting(Exception):
    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize(
    ("error", "text"),
    [(KeyError("a"), "'a'"), (ValueError(), "ValueError"), (Exiting(), "Exiting")],
)
def test_an_error_has_a_text_whatever_its_class(error: BaseException, text: str) -> None:
    assert text_of(error) == text
