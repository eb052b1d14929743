"""Messages as WebSocket frames of a venue, and the frames of a client as messages."""

from __future__ import annotations

from typing import Any

import msgspec
from websockets.frames import Frame, Opcode

__all__ = ["Assembler", "Payload", "as_bytes", "encode", "frames"]

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
