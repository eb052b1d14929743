"""JSON in and out, in one place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec

__all__ = ["decoder", "encode", "lenient_decoder", "one_line"]

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


def decoder(decimal: bool = False) -> Callable[[bytes], Any]:
    """A function from a frame's payload to Python objects.

    With ``decimal``, numbers with a fraction or an exponent become :class:`decimal.Decimal`,
    digit for digit. Raises ``msgspec.DecodeError``.
    """
    return msgspec.json.Decoder(float_hook=Decimal if decimal else None).decode


def lenient_decoder(decimal: bool = False) -> Callable[[bytes], Any]:
    """The same for what msgspec refuses and a peek lets pass, as ``1e999``; far slower."""
    parse_float = Decimal if decimal else None
    return partial(json.loads, parse_float=parse_float, parse_constant=_refuse)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
