"""Messages as WebSocket frames of a venue, and the frames of a client as messages."""

from __future__ import annotations

from typing import Any

import msgspec
from websockets.frames import Frame, Opcode

__all__ = [
    "Assembler",
    "Payload",
    "as_bytes",
    "close_reason",
    "encode",
    "frames",
    "is_close_code",
]

#: Close codes that no close frame has (RFC 6455, 7.4).
_NOT_SENT = frozenset({1004, 1005, 1006, 1015})
#: The most bytes of a reason: a close frame has room for 123.
_REASON = 120

Payload = str | bytes
"""A message: str in a text frame, bytes in a binary one."""


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)  # msgspec takes no subclasses, such as `ChannelRefusal`
    raise NotImplementedError(f"cannot encode {value!r}")


_encoder = msgspec.json.Encoder(enc_hook=_plain, decimal_format="number")


def encode(message: Any) -> str:
    """Return compact JSON.

    Decimals become numbers; `msgspec.Raw(b"1.10")` keeps the text of a number.
    """
    return _encoder.encode(message).decode()


def as_bytes(payload: Payload) -> bytes:
    """Return what a frame carries for a message."""
    return payload.encode() if isinstance(payload, str) else payload


def frames(payload: Payload, count: int = 1) -> bytes:
    """Return a message as `count` frames."""
    data = as_bytes(payload)
    first = Opcode.TEXT if isinstance(payload, str) else Opcode.BINARY
    size = -(-len(data) // count)
    return b"".join(
        Frame(
            Opcode.CONT if n else first, data[n * size : (n + 1) * size], fin=n == count - 1
        ).serialize(mask=False)
        for n in range(count)
    )


def is_close_code(code: object) -> bool:
    """Return whether a close frame may have this code."""
    return isinstance(code, int) and 1000 <= code < 5000 and code not in _NOT_SENT


def close_reason(text: str) -> str:
    """Return the beginning of a text, as much as fits into a close frame."""
    return text.encode()[:_REASON].decode(errors="ignore")


class Assembler:
    """Joins the data frames of a client to messages."""

    def __init__(self) -> None:
        self._is_text = True
        self._fragments: list[bytes] = []

    def add(self, frame: Frame) -> Payload | None:
        """Return the message that ends with this frame, or None if it goes on.

        Raises UnicodeDecodeError for a text that is not UTF-8.
        """
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._fragments.append(bytes(frame.data))
        if not frame.fin:
            return None
        message = b"".join(self._fragments)
        self._fragments.clear()
        return message.decode() if self._is_text else message
