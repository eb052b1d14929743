"""JSON in and out, in one place.

What a peek lets pass must not raise later, when a consumer asks for the data. A peek looks at the
whole syntax; three things only a decoding sees:

* a number out of msgspec's range: :func:`lenient_decoder` reads it;
* an integer of more than MAX_DIGITS digits: the frame is refused, and :func:`is_suspect` says
  cheaply which frames must be decoded to find out;
* nesting too deep for what is left of the consumer's stack: decoded without recursion.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache, partial
from typing import Any

import msgspec

from wsclient.messages import Message

__all__ = [
    "Decoded",
    "PlainDecoder",
    "decode_flat",
    "decoder",
    "encode",
    "is_suspect",
    "lenient_decoder",
    "one_line",
    "plain_decoder",
]

#: Integers of more digits are refused. This is the interpreter's own limit where nobody changed it;
#: ours does not change with it.
MAX_DIGITS = 4300
#: The interpreter converts integers of up to this many digits, whatever limit was set.
SAFE_DIGITS = 640
#: So many digits in a row are suspect where an integer of more than MAX_DIGITS would have them.
_RUN = 32

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(payload: Any) -> str | bytes:
    """What goes into a frame: text and bytes as they are, anything else as JSON text.

    Raises TypeError or ValueError for what JSON cannot express: NaN and infinities too, which
    would go out as ``null``.
    """
    if isinstance(payload, str):
        payload.encode()  # raises for a lone surrogate, which no text frame can hold
        return payload
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, (bytearray, memoryview)):
        return bytes(payload)
    _check_finite(payload)
    return _encoder.encode(payload).decode()


def _check_finite(payload: Any) -> None:
    if isinstance(payload, (float, Decimal)) and not math.isfinite(payload):
        raise ValueError(f"{payload} cannot be sent as JSON")
    if isinstance(payload, dict):
        for value in payload.values():
            _check_finite(value)
    elif isinstance(payload, (list, tuple)):
        for value in payload:
            _check_finite(value)


def one_line(text: str) -> str:
    """A venue's words for a log: bounded, and unable to begin a line of their own."""
    return "".join(c if c.isprintable() else " " for c in text[:200])


#: Exact, whatever the decimal context of the program, and never raises: an exponent of more than 18
#: digits gives an infinity or zero, as it does with floats.
_exact = Context(
    prec=MAX_PREC, rounding=ROUND_HALF_EVEN, Emax=MAX_EMAX, Emin=MIN_EMIN, clamp=0, traps=[]
).create_decimal


def decoder(decimal: bool = False) -> Callable[[bytes], Any]:
    """A function from a frame's payload to Python objects.

    With ``decimal``, numbers with a fraction or an exponent become :class:`decimal.Decimal`,
    digit for digit. Raises ``msgspec.DecodeError``.
    """
    return msgspec.json.Decoder(float_hook=_exact if decimal else None).decode


def lenient_decoder(decimal: bool = False) -> Callable[[bytes], Any]:
    """The same for what msgspec refuses and a peek lets pass, as ``1e999``; far slower."""
    return partial(
        json.loads,
        parse_float=_exact if decimal else None,
        parse_int=_integer,
        parse_constant=_refuse,
    )


def _integer(digits: str) -> int:
    if len(digits) <= SAFE_DIGITS:
        return int(digits)
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"an integer of more than {MAX_DIGITS} digits")
    return int(_exact(digits))  # not subject to sys.set_int_max_str_digits()


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def is_suspect(raw: bytes) -> bool:
    """May the payload hold an integer of more than MAX_DIGITS digits?

    Such an integer covers one of the places that are MAX_DIGITS + 1 apart, and extends from there
    by half of its length at least to one side.
    """
    for i in range(MAX_DIGITS, len(raw), MAX_DIGITS + 1):
        if raw[i : i + _RUN].isdigit() or raw[i + 1 - _RUN : i + 1].isdigit():
            return True
    return False


_TOKEN = re.compile(rb'[\[\]{}]|"(?:[^"\\]|\\.)*"|[^\s\[\]{}:,"]+', re.DOTALL)


def decode_flat(raw: bytes, decode: Callable[[bytes], Any]) -> Any:
    """Decode valid JSON without recursion; ``decode`` is for text, numbers and constants."""
    into: Any = []
    around: list[Any] = []
    key: Any = None
    for token in _TOKEN.findall(raw):
        if token in b"]}":
            into = around.pop()
            continue
        value: Any = [] if token == b"[" else {} if token == b"{" else decode(token)
        if type(into) is list:
            into.append(value)
        elif key is None:
            key = value
            continue
        else:
            into[key], key = value, None
        if token in b"[{":
            around.append(into)
            into = value
    return into[0]


class PlainDecoder:
    """Decodes messages as JSON, without a dialect or a client: in another process."""

    def __init__(self, decimal: bool = False) -> None:
        self.decimal = decimal
        self.decode = decoder(decimal)
        self._decode_leniently = lenient_decoder(decimal)
        self._typed: dict[Any, Callable[[bytes], Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return plain_decoder, (self.decimal,)

    def decode_all(self, raw: bytes) -> Any:
        """Decode what a peek lets pass. Raises for an integer of more than MAX_DIGITS digits, and
        RecursionError where the stack is too short."""
        try:
            return self.decode(raw)
        except (msgspec.ValidationError, ValueError):  # ValueError: sys.set_int_max_str_digits()
            return self._decode_leniently(raw)

    def decode_deep(self, raw: bytes) -> Any:
        """Decode what has been decoded or peeked at before, perhaps on a longer stack."""
        try:
            return self.decode_all(raw)
        except RecursionError:
            return decode_flat(raw, self.decode_all)

    def data(self, message: Message) -> Any:
        """What ``message.data`` is: the whole payload."""
        return self.decode_deep(message.raw)

    def typed(self, message: Message, kind: Any) -> Any:
        """What ``message.decode(kind)`` is: the whole payload."""
        try:
            return self.typed_decoder(kind)(message.raw)
        except RecursionError:
            raise msgspec.ValidationError("nested too deep for what is left of the stack") from None

    def typed_decoder(self, kind: Any) -> Callable[[bytes], Any]:
        decode = self._typed.get(kind)
        if decode is None:
            decode = self._typed[kind] = msgspec.json.Decoder(kind).decode
        return decode

    def portable(self, message: Message) -> PlainDecoder:
        """A decoder of the message that pickles."""
        return self


@lru_cache
def plain_decoder(decimal: bool) -> PlainDecoder:
    """The one decoder of all the messages that a process is sent."""
    return PlainDecoder(decimal)


class Decoded(msgspec.Struct, frozen=True):
    """The decoder of a message of which the payload alone does not tell what its data are."""

    value: Any

    def data(self, message: Message) -> Any:
        return copy.deepcopy(self.value)  # each message has data of its own

    def typed(self, message: Message, kind: Any) -> Any:
        return msgspec.convert(self.value, kind)

    def portable(self, message: Message) -> Decoded:
        return self
