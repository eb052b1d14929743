"""A WebSocket frame parser: bytes in; messages, control frames and close code out (RFC 6455).

Each rule is enforced in one place:

* ``_frame`` checks a header as soon as it is complete, before its payload: reserved bits, mask,
  opcode, the form of control frames, the order of fragments, the shortest form of a length
  (all 1002), then the limits on a message's size and fragments (1009).
* ``_payload`` takes a data frame's bytes as they arrive, and checks that text is UTF-8 (1007):
  a bad fragment is refused before the message is complete.
* ``parse_close`` checks the payload of a close frame (1002, 1007).
* ``_ordinary`` is the fast path: complete, final, unmasked frames between messages. It refuses
  nothing but bad UTF-8, and leaves anything unusual to ``_frame``.

A violation is reported once. After it, or after a close frame, all bytes are discarded.

Payloads leave the read buffer with each read: only the beginning of a short frame stays there. So
a long frame takes linear time, and memory use follows the bytes that arrived, not the length that
the peer declared.

No I/O, no clock, no threads: the thread that reads the socket owns the parser.
"""

from __future__ import annotations

import codecs
from io import BytesIO
from typing import NamedTuple

CONTINUATION, TEXT, BINARY = 0x0, 0x1, 0x2
CLOSE, PING, PONG = 0x8, 0x9, 0xA
OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})

PROTOCOL_ERROR, NO_STATUS, INVALID_DATA, TOO_BIG = 1002, 1005, 1007, 1009

SHORT = 4096  # a frame up to this length waits in the buffer until it is complete: cheaper
MIN_BUFFER = 2 * SHORT
UNLIMITED = 1 << 63  # greater than any length on the wire

# The first byte of an ordinary frame: FIN and opcode.
WHOLE_TEXT, WHOLE_BINARY = 0x81, 0x82

_Utf8 = codecs.getincrementaldecoder("utf-8")


class Control(NamedTuple):
    """A ping, pong or close frame."""

    opcode: int
    payload: bytes


class Violation(NamedTuple):
    """A protocol violation of the peer: the close code to answer with, and the reason."""

    code: int
    reason: str


class Frames:
    """The messages and control frames of one read, and a violation if there was one.

    The reader of the connection adds its id and the times.
    """

    __slots__ = (
        "binary",
        "connection_id",
        "controls",
        "messages",
        "read_at",
        "received_at",
        "violation",
    )

    connection_id: int
    read_at: float  # monotonic (s)
    received_at: int  # since the epoch (ns)

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.binary: list[int] = []  # the indexes of binary messages
        self.controls: list[Control] = []
        self.violation: Violation | None = None

    def __repr__(self) -> str:
        names = ("binary", "controls", "messages", "violation")
        return f"Frames({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


class _BadFrame(Exception):
    """A violation, on its way to :meth:`FrameParser.received`."""

    def __init__(self, code: int, reason: str) -> None:
        self.violation = Violation(code, reason)


class FrameParser:
    """The parser of one connection: ``recv_into(parser.buffer())``, then ``received(count)``."""

    def __init__(
        self,
        max_message_size: int | None = 16 * 1024 * 1024,
        *,
        max_fragments: int = 131072,
        initial_buffer: int = MIN_BUFFER,
        max_buffer: int = 128 * 1024,
    ) -> None:
        if not MIN_BUFFER <= initial_buffer <= max_buffer:
            raise ValueError(f"need {MIN_BUFFER} <= initial_buffer <= max_buffer")
        self._max_size = UNLIMITED if max_message_size is None else max_message_size
        self._max_ordinary = min(self._max_size, 0xFFFF)
        self._max_fragments = max_fragments
        self._max_buffer = max_buffer
        self._view = memoryview(bytearray(initial_buffer))
        self._held = 0  # bytes at the start of the buffer: a short, incomplete frame
        self._finished = False
        self._utf8 = _Utf8()
        self._reset_message()
        self.close_code: int | None = None
        self.close_reason: str | None = None

    def _reset_message(self) -> None:
        # The current message: its complete frames, and what has arrived of the current frame.
        self._opcode = 0  # TEXT or BINARY; 0 between messages
        self._message = BytesIO()
        self._size = 0  # as declared by the headers so far
        self._fragments = 0
        self._fin = False  # of the current frame
        self._missing = 0  # bytes of the current frame that have not arrived

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return bool(self._held or self._missing)

    def buffer(self) -> memoryview:
        """Return space for the next read. Call it before each: a read that fills it enlarges it."""
        return self._view[self._held :]

    def received(self, count: int) -> Frames:
        """Parse the ``count`` bytes that were read into :meth:`buffer`."""
        out = Frames()
        if self._finished:
            return out
        view = self._view
        end = self._held + count
        self._held = start = 0
        try:
            if self._missing:
                start = min(self._missing, end)
                self._payload(view[:start], out)
            rest = self._frames(view[start:end].tobytes(), out)
        except _BadFrame as refused:
            out.violation = refused.violation
        except UnicodeDecodeError as error:
            out.violation = _not_utf8("text message", error)
        else:
            if end == len(view) < self._max_buffer:
                self._view = view = memoryview(bytearray(min(2 * end, self._max_buffer)))
            self._held = len(rest)
            view[: len(rest)] = rest
        if out.violation:
            self._finish()
        return out

    def feed(self, data: bytes) -> Frames:
        """Parse ``data`` as if it had been read from the socket."""
        out = Frames()
        source = memoryview(data)
        while source and not self._finished:
            space = self.buffer()
            count = min(len(space), len(source))
            space[:count] = source[:count]
            source = source[count:]
            part = self.received(count)
            out.binary += [len(out.messages) + index for index in part.binary]
            out.messages += part.messages
            out.controls += part.controls
            out.violation = part.violation
        return out

    def _frames(self, data: bytes, out: Frames) -> bytes:
        """Parse all frames of ``data``; return the rest, which needs more bytes."""
        position = 0
        while position < len(data):
            if not self._opcode:
                position = _ordinary(data, position, self._max_ordinary, out.messages, out.binary)
            before = position
            position = self._frame(data, position, out)
            if self._finished:
                return b""
            if position == before:
                break
        return data[position:]

    def _frame(self, data: bytes, position: int, out: Frames) -> int:
        """Parse one frame, or its part that is here, and return the new position.

        Returns ``position`` if too little has arrived to decide.
        """
        available = len(data) - position
        if available < 2:
            return position
        first, second = data[position], data[position + 1]
        fin, opcode, length = first >= 0x80, first & 0x0F, second & 0x7F
        start = position + 2

        if first & 0x70:
            raise _BadFrame(PROTOCOL_ERROR, f"reserved bits 0x{first & 0x70:02x} are set")
        if second & 0x80:
            raise _BadFrame(PROTOCOL_ERROR, "a frame is masked")
        if opcode not in OPCODES:
            raise _BadFrame(PROTOCOL_ERROR, f"unknown opcode 0x{opcode:x}")

        if opcode >= CLOSE:
            if not fin:
                raise _BadFrame(PROTOCOL_ERROR, f"control frame 0x{opcode:x} is fragmented")
            if length > 125:
                raise _BadFrame(PROTOCOL_ERROR, f"control frame 0x{opcode:x} exceeds 125 bytes")
            if available < 2 + length:
                return position
            payload = data[start : start + length]
            if opcode == CLOSE:
                close = parse_close(payload)
                if isinstance(close, Violation):
                    raise _BadFrame(*close)
                self.close_code, self.close_reason = close
                self._finish()
            out.controls.append(Control(opcode, payload))
            return start + length

        if opcode == CONTINUATION and not self._opcode:
            raise _BadFrame(PROTOCOL_ERROR, "continuation frame without a message to continue")
        if opcode != CONTINUATION and self._opcode:
            raise _BadFrame(PROTOCOL_ERROR, f"new data frame 0x{opcode:x} in a fragmented message")

        if length >= 126:
            width, shortest = (2, 126) if length == 126 else (8, 1 << 16)
            if available < 2 + width:
                return position
            start += width
            length = int.from_bytes(data[position + 2 : start], "big")
            if length < shortest:
                raise _BadFrame(PROTOCOL_ERROR, f"length {length} is not in its shortest form")
            if length >= 1 << 63:
                raise _BadFrame(PROTOCOL_ERROR, "length has its highest bit set")

        size, fragments = self._size + length, self._fragments + 1
        if size > self._max_size:
            raise _BadFrame(TOO_BIG, f"message of {size} bytes, limit {self._max_size}")
        if fragments > self._max_fragments:
            raise _BadFrame(TOO_BIG, f"message of more than {self._max_fragments} fragments")
        stop = start + length
        if stop > len(data):
            if length <= SHORT:
                return position
            stop = len(data)

        self._opcode = self._opcode or opcode
        self._size, self._fragments = size, fragments
        self._fin, self._missing = fin, length
        self._payload(memoryview(data)[start:stop], out)
        return stop

    def _payload(self, part: memoryview, out: Frames) -> None:
        """Add ``part`` to the current message; it is within the current frame."""
        self._missing -= len(part)
        complete = self._fin and not self._missing
        if self._opcode == TEXT:
            self._utf8.decode(part, complete)
        self._message.write(part)
        if complete:
            if self._opcode == BINARY:
                out.binary.append(len(out.messages))
            out.messages.append(self._message.getvalue())  # hands over its memory: no copy
            self._reset_message()

    def _finish(self) -> None:
        self._finished = True
        self._reset_message()


def _ordinary(
    data: bytes, position: int, max_size: int, messages: list[bytes], binary: list[int]
) -> int:
    """Parse complete unfragmented messages, up to the first frame that is anything else.

    Returns its position. ``max_size`` is at most that of a length in two bytes.
    """
    size = len(data)
    last = size - 4
    while position <= last:
        kind = data[position]
        length = data[position + 1]
        if kind != WHOLE_TEXT and kind != WHOLE_BINARY:
            break
        if length < 126:
            start = position + 2
        elif length == 126:
            start = position + 4
            length = data[position + 2] << 8 | data[position + 3]
            if length < 126:
                break
        else:  # longer, or masked
            break
        stop = start + length
        if stop > size or length > max_size:
            break
        payload = data[start:stop]
        if kind == WHOLE_BINARY:
            binary.append(len(messages))
        elif not payload.isascii():
            str(payload, "utf-8")
        messages.append(payload)
        position = stop
    return position


def parse_close(payload: bytes) -> tuple[int, str] | Violation:
    """Return code and reason of a close frame; an empty one has code 1005 (RFC 6455, 7.1.5)."""
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        return Violation(PROTOCOL_ERROR, "close frame of 1 byte")
    code = int.from_bytes(payload[:2], "big")
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        return Violation(PROTOCOL_ERROR, f"close code {code} is not permitted on the wire")
    try:
        return code, str(payload[2:], "utf-8")
    except UnicodeDecodeError as error:
        return _not_utf8("close reason", error)


def _not_utf8(what: str, error: UnicodeDecodeError) -> Violation:
    byte = error.object[error.start]
    return Violation(INVALID_DATA, f"{what} is not UTF-8: byte 0x{byte:02x}, {error.reason}")
