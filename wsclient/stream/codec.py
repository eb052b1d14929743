"""JSON encoding and decoding.

A frame that passes a dialect's peek must not raise later, when a consumer asks for the data. A peek
checks the whole syntax; three things are seen only when decoding:

* a number out of msgspec's range: :func:`lenient_decoder` reads it;
* an integer of more than MAX_DIGITS digits: the frame is refused; :func:`is_suspect` finds cheaply
  the frames that must be decoded to detect one;
* nesting too deep for the rest of the consumer's stack: :func:`decode_flat` decodes without
  recursion.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache, partial
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from wsclient.errors import NotSupported
from wsclient.messages import Message, View
from wsclient.text import why

__all__ = [
    "Decoded",
    "Origin",
    "PlainDecoder",
    "decode_flat",
    "decoder",
    "encode",
    "encode_made",
    "is_suspect",
    "lenient_decoder",
    "plain_decoder",
]

#: Integers of more digits are refused. This is the interpreter's default limit; ours stays the
#: same if the program changes the interpreter's.
MAX_DIGITS = 4300
#: The interpreter converts integers of up to this many digits, whatever its limit is set to.
SAFE_DIGITS = 640
#: This many digits in a row, to either side of a checked place, make a payload suspect.
_RUN = 32

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(payload: Any) -> str | bytes:
    """Return the payload of a frame: text and bytes unchanged, anything else as JSON text.

    Raises TypeError or ValueError for what JSON cannot express, including NaN and infinities, which
    would be sent as ``null``.
    """
    if isinstance(payload, str):
        payload.encode()  # raises for a lone surrogate, which no text frame can hold
        return payload
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, (bytearray, memoryview)):
        return bytes(payload)
    _check_finite(payload)
    try:
        return _encoder.encode(payload).decode()
    except TypeError as error:
        raise TypeError(
            "a message to the venue must be text, bytes, or what JSON can express: dicts with text "
            f"as keys, lists, text, numbers, booleans and None ({error})"
        ) from None


def encode_made(hook: str, payload: Any) -> str | bytes:
    """Return the payload of a frame, as :func:`encode`, from the result of a dialect's ``hook``.

    Raises TypeError for None, which a hook returns that has forgotten its ``return``.
    """
    if payload is None:
        raise TypeError(f"the dialect's {hook}() returned None instead of a message")
    return encode(payload)


def _check_finite(payload: Any) -> None:
    if isinstance(payload, (float, Decimal)) and not math.isfinite(payload):
        raise ValueError(f"{payload} cannot be sent as JSON")
    if isinstance(payload, dict):
        for value in payload.values():
            _check_finite(value)
    elif isinstance(payload, (list, tuple)):
        for value in payload:
            _check_finite(value)


#: Exact, whatever the program's decimal context is, and never raises: an exponent of more than 18
#: digits gives infinity or zero, as with floats.
_exact = Context(
    prec=MAX_PREC, rounding=ROUND_HALF_EVEN, Emax=MAX_EMAX, Emin=MIN_EMIN, clamp=0, traps=[]
).create_decimal


def decoder(decimal: bool = False) -> Callable[[bytes], Any]:
    """Return a function that decodes a frame's payload to Python objects.

    With ``decimal``, numbers with a fraction or an exponent become :class:`decimal.Decimal` with
    the same digits. The function raises ``msgspec.DecodeError``.
    """
    return msgspec.json.Decoder(float_hook=_exact if decimal else None).decode


def lenient_decoder(decimal: bool = False) -> Callable[[bytes], Any]:
    """Return a decoder for payloads that pass a peek but msgspec refuses (``1e999``).

    It is far slower than :func:`decoder`.
    """
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
    """Return whether the payload may hold an integer of more than MAX_DIGITS digits.

    Only places that are MAX_DIGITS + 1 apart are checked: such an integer covers one of them, and
    from there extends to one side by at least half of its length.
    """
    for i in range(MAX_DIGITS, len(raw), MAX_DIGITS + 1):
        if raw[i : i + _RUN].isdigit() or raw[i + 1 - _RUN : i + 1].isdigit():
            return True
    return False


_TOKEN = re.compile(rb'[\[\]{}]|"(?:[^"\\]|\\.)*"|[^\s\[\]{}:,"]+', re.DOTALL)


def decode_flat(raw: bytes, decode: Callable[[bytes], Any]) -> Any:
    """Decode valid JSON without recursion; ``decode`` decodes strings, numbers and constants."""
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


class Origin(NamedTuple):
    """The dialect of a message, by its name and, if known, the place of its class."""

    venue: str
    module: str = ""
    name: str = ""

    @classmethod
    def of(cls, dialect: Any) -> Origin:
        kind = type(dialect)
        return cls(str(dialect.name), kind.__module__, kind.__qualname__)

    def view(self, message: Message, kind: View) -> Any:
        """Return a plain view of a message, by a dialect made here.

        Raises NotSupported if the dialect cannot be made.
        """
        return _made(self).view(message, kind)


@lru_cache(64)
def _made(origin: Origin) -> Any:
    if not origin.name:
        raise NotSupported(
            f"plain views of a message from an envelope need its dialect, {origin.venue!r}: pass "
            "an object of it to Envelope.message()"
        )
    try:
        return attrgetter(origin.name)(import_module(origin.module))()
    except Exception as error:
        raise NotSupported(
            f"plain views of a message that was pickled or copied need the class of its dialect, "
            f"but {origin.module}.{origin.name} cannot be made in this process ({why(error)})"
        ) from error


class PlainDecoder:
    """Decodes messages as JSON without a dialect or a client; works in another process."""

    def __init__(self, decimal: bool = False, origin: Origin | None = None) -> None:
        self.decimal = decimal
        self._origin = origin
        self.decode = decoder(decimal)
        self._decode_leniently = lenient_decoder(decimal)
        self._typed: dict[Any, Callable[[bytes], Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return plain_decoder, (self.decimal, self._origin)

    def decode_all(self, raw: bytes) -> Any:
        """Decode a payload that passes a peek.

        Raises ValueError for an integer of more than MAX_DIGITS digits, and RecursionError if the
        rest of the stack is too short.
        """
        try:
            return self.decode(raw)
        except (msgspec.ValidationError, ValueError):  # ValueError: sys.set_int_max_str_digits()
            return self._decode_leniently(raw)

    def decode_deep(self, raw: bytes) -> Any:
        """Decode a payload that was decoded or peeked at before, perhaps with more stack left."""
        try:
            return self.decode_all(raw)
        except RecursionError:
            return decode_flat(raw, self.decode_all)

    def data(self, message: Message) -> Any:
        """Return the whole payload as plain data."""
        return self.decode_deep(message.raw)

    def typed(self, message: Message, kind: Any) -> Any:
        """Return the whole payload, decoded to ``kind``.

        Raises ``msgspec.ValidationError``, also for nesting too deep for the rest of the stack.
        """
        try:
            return self.typed_decoder(kind)(message.raw)
        except RecursionError:
            raise msgspec.ValidationError("nested too deeply for the rest of the stack") from None

    def typed_decoder(self, kind: Any) -> Callable[[bytes], Any]:
        """Return the function that decodes a payload to ``kind``."""
        decode = self._typed.get(kind)
        if decode is None:
            decode = self._typed[kind] = msgspec.json.Decoder(kind).decode
        return decode

    def time(self, message: Message) -> None:
        """Return None: the payload alone does not determine where the venue's time is."""

    @property
    def venue(self) -> str | None:
        """The name of the dialect, None if it is not known."""
        return None if self._origin is None else self._origin.venue

    def view(self, message: Message, kind: View) -> Any:
        """Return a plain view of a message; None if its dialect is not known."""
        return None if self._origin is None else self._origin.view(message, kind)

    def portable(self, message: Message) -> PlainDecoder:
        """Return a decoder of the message that can be pickled."""
        return self


@lru_cache
def plain_decoder(decimal: bool, origin: Origin | None = None) -> PlainDecoder:
    """Return the decoder that all messages of a dialect that are sent to a process share."""
    return PlainDecoder(decimal, origin)


class Decoded(msgspec.Struct, frozen=True):
    """A decoder that holds the plain data: the payload alone does not determine them.

    ``is_json``: they came from JSON, whose keys are always text.
    """

    value: Any
    is_json: bool = True
    origin: Origin | None = None

    def data(self, message: Message) -> Any:
        """Return a copy of the data."""
        return copy.deepcopy(self.value)  # each message has its own data

    def typed(self, message: Message, kind: Any) -> Any:
        """Return the data converted to ``kind``."""
        return msgspec.convert(self.value, kind, str_keys=self.is_json)

    def typed_decoder(self, kind: Any) -> None:
        """Return None: the payload alone does not determine the data."""

    def time(self, message: Message) -> None:
        """Return None: the data alone do not determine where the venue's time is."""

    @property
    def venue(self) -> str | None:
        """The name of the dialect, None if it is not known."""
        return None if self.origin is None else self.origin.venue

    def view(self, message: Message, kind: View) -> Any:
        """Return a plain view of a message; None if its dialect is not known."""
        return None if self.origin is None else self.origin.view(message, kind)

    def portable(self, message: Message) -> Decoded:
        """Return a decoder of the message that can be pickled: this one."""
        return self
