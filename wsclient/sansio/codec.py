"""JSON in and out, in one place."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

__all__ = ["decoder", "encode"]

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(payload: Any) -> str | bytes:
    """What goes into a frame: text and bytes as they are, anything else as JSON text.

    Raises TypeError for an object that JSON cannot express.
    """
    if isinstance(payload, (str, bytes)):
        return payload
    if isinstance(payload, (bytearray, memoryview)):
        return bytes(payload)
    return _encoder.encode(payload).decode()


def decoder(decimal: bool = False) -> Callable[[bytes], Any]:
    """A function from a frame's payload to Python objects.

    With ``decimal``, numbers with a fraction or an exponent become :class:`decimal.Decimal`,
    digit for digit. The standard library's reader is the fallback for what msgspec refuses and a
    peek lets pass (``1e999``), so that reading ``message.data`` does not raise.
    """
    decode = msgspec.json.Decoder(float_hook=Decimal if decimal else None).decode
    parse_float = Decimal if decimal else None

    def decode_json(raw: bytes) -> Any:
        try:
            return decode(raw)
        except msgspec.DecodeError:
            return json.loads(raw, parse_float=parse_float)

    return decode_json
