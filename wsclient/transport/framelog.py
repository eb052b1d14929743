"""The log of frames, for whoever wants to see what is sent and received: level DEBUG.

Its records have the logger ``wsclient.frames``. Nothing is computed unless that level is on
(:func:`wsclient.threads.logs.debugs_frames`). Texts are masked and cut when a record is made, which
the log's thread does.
"""

from __future__ import annotations

from collections.abc import Callable
from logging import DEBUG
from typing import Any

from wsclient.stream.frames import CLOSE, PING, PONG, Control, Frames
from wsclient.threads.logs import ClientLog
from wsclient.transport.masking import FrameMask

__all__ = ["EXCERPT", "FrameLog"]

#: The most of a frame (characters) that is shown, and the most (bytes) that is kept to be masked:
#: a secret may begin in the one and end in the other.
EXCERPT = 500
KEPT = 2000
_NAMES = {PING: "a ping", PONG: "a pong", CLOSE: "a close frame"}


class _Excerpt:
    """The text of a frame: its beginning, without secrets. Made when it is needed."""

    __slots__ = ("_beginning", "_hide", "_is_binary", "_size", "_what")

    def __init__(
        self, what: str, payload: bytes, hide: Callable[[str], str], *, is_binary: bool
    ) -> None:
        self._what = what
        self._beginning = payload[:KEPT]
        self._size = len(payload)
        self._is_binary = is_binary
        self._hide = hide

    def __str__(self) -> str:
        raw = self._beginning
        text = repr(raw) if self._is_binary else raw.decode(errors="replace")
        text = self._hide(text)
        is_cut = len(text) > EXCERPT or self._size > len(raw)
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:EXCERPT])
        if not self._size:
            return self._what
        kind = "binary " if self._is_binary else ""
        return f"{self._what}: {kind}{text}{f'... ({self._size} bytes)' if is_cut else ''}"


class FrameLog:
    """The log of the frames of one connection. ``mask`` hides the client's secrets in a text."""

    __slots__ = ("_connection_id", "_log", "_mask")

    def __init__(self, connection_id: int, log: ClientLog, mask: Callable[[str], str]) -> None:
        self._connection_id = connection_id
        self._log = log
        self._mask = FrameMask(mask, is_cut=True)

    def hide(self, login: Any) -> None:
        """Hide the signature, and whatever else in the login message may be secret."""
        self._mask.hide(login)

    def sent(self, payload: str | bytes) -> None:
        """Log a message that is about to be sent."""
        is_binary = isinstance(payload, bytes)
        raw = payload if isinstance(payload, bytes) else payload.encode(errors="replace")
        self._write(self._excerpt("sent", raw, is_binary=is_binary))

    def sent_control(self, what: str) -> None:
        """Log a control frame that is about to be sent."""
        self._write(f"connection {self._connection_id} sent {what}")

    def received(self, frames: Frames) -> None:
        """Log the messages of one read. Those of its control frames come after them."""
        binary = set(frames.binary)
        for number, payload in enumerate(frames.messages):
            self._write(self._excerpt("received", payload, is_binary=number in binary))

    def received_control(self, control: Control) -> None:
        """Log a control frame."""
        what, payload = _NAMES[control.opcode], control.payload
        if control.opcode == CLOSE:
            code, payload = payload[:2], payload[2:]
            what += f" ({int.from_bytes(code, 'big')})" if code else ""
        self._write(self._excerpt(f"received {what}", payload, is_binary=control.opcode != CLOSE))

    def _excerpt(self, what: str, payload: bytes, *, is_binary: bool) -> _Excerpt:
        what = f"connection {self._connection_id} {what}"
        return _Excerpt(what, payload, self._mask, is_binary=is_binary)

    def _write(self, text: object) -> None:
        self._log(DEBUG, text, connection_id=self._connection_id, logger="wsclient.frames", depth=2)
