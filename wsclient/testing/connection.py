"""The WebSocket on a wire: the handshake, frames, faults, and the end of the connection."""

from __future__ import annotations

import contextlib
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Literal

from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import SEND_EOF
from websockets.server import ServerProtocol

from wsclient.testing.frames import Payload, as_bytes, frames
from wsclient.testing.handshakes import (
    HandshakeFailure,
    HandshakeReply,
    failed,
    page,
    select_subprotocol,
)
from wsclient.testing.rest import RestCall, RestReader, answered
from wsclient.testing.wire import CLOSE_TIMEOUT, Terms, Wire


class _WebSocket(ABC):
    """The venue's end of a WebSocket, for `Peer` to exchange messages on.

    It is made under the venue's lock. The venue then starts its wire.
    """

    def __init__(
        self, terms: Terms, sock: socket.socket, id: int, fault: HandshakeFailure | None
    ) -> None:
        self.id = id
        self.request: Request | None = None
        self.ended_by: str | None = None
        self.close_code: int | None = None
        self.closed = False
        self._lock = terms.lock
        self._fault = fault
        self._discarding = fails_early = fault is not None and fault.is_early
        self._protocol = ServerProtocol(
            subprotocols=terms.subprotocols or None,
            select_subprotocol=select_subprotocol,
            max_size=None,
        )
        self._rest: RestReader | None = RestReader(terms.ssl_context is not None)
        self._opened = False
        self._pongs_muted = False
        self.wire = Wire(
            terms, sock, f"fakevenue-peer-{id}", fails_early, self._received, self._end
        )
        match fault:
            case HandshakeFailure("reset"):
                self.rst()
            case HandshakeFailure("eof"):
                self.fin()

    @property
    def live(self) -> bool:
        """Whether the handshake is complete and neither side has ended the connection."""
        return self._opened and self.ended_by is None

    @property
    def _client_is_done(self) -> bool:
        return self.wire.gone or self.close_code is not None

    @property
    def backlog(self) -> int:
        """Number of bytes that wait for the client to read."""
        return len(self.wire.backlog)

    def call_later(self, delay: float, function: Callable[[], None]) -> None:
        """Call `function` after `delay` (s), on the peer's thread and under the venue's lock."""
        with self._lock:
            self.wire.call_at(time.monotonic() + delay, function)

    # Hooks for Peer

    @abstractmethod
    def _note(self, text: str) -> None:
        """Log what has happened."""

    @abstractmethod
    def _asked(self, request: Request | RestCall) -> bytes | None:
        """Record a request, and return the page that it gets.

        None if it is a handshake, or for a status 404 if it is no GET.
        """

    @abstractmethod
    def _admit(self, request: Request) -> HandshakeFailure | int | None:
        """Return how to refuse a handshake: by an answer or a close code; None to accept it."""

    @abstractmethod
    def _established(self) -> None:
        """Begin the conversation. The answer to the handshake is not transmitted yet."""

    @abstractmethod
    def _frame(self, frame: Frame, now: float) -> None:
        """Handle a frame other than a close frame."""

    # Out

    def send_raw(self, data: bytes) -> None:
        """Send any bytes, outside the WebSocket protocol and the journal."""
        with self._sending():
            self.wire.write(data)

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping frame."""
        with self._sending():
            self.wire.write(Frame(Opcode.PING, payload).serialize(mask=False))

    @contextlib.contextmanager
    def _sending(self) -> Iterator[None]:
        with self._lock:
            if not self.live:
                raise ConnectionError(f"{self} cannot send: the connection has ended")
            yield

    def _transmit(self) -> None:
        """Write the output of the WebSocket protocol."""
        for data in self._protocol.data_to_send():
            if data == SEND_EOF:
                close = self._protocol.close_sent
                self._end("refused" if close is None else f"close {close.code}")
                self.wire.finish()
            elif not (self._pongs_muted and data[0] == 0x80 | Opcode.PONG):
                self.wire.write(data)

    # Faults, and the end of the connection

    def mute_pongs(self, on: bool = True) -> None:
        """Leave the client's pings unanswered."""
        self._pongs_muted = on

    def stop_reading(self) -> None:
        """Stop reading from the socket, so what the client writes piles up, pings included."""
        with self._lock:
            self.wire.read(False)

    def start_reading(self) -> None:
        """Read from the socket again after `stop_reading`."""
        with self._lock:
            self.wire.read(True)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame, and close TCP when the client has answered it or after 1 s."""
        with self._sending():
            self._protocol.send_close(code, reason)
            self._transmit()
            self._end(f"close {code}")
            self.wire.end_within(CLOSE_TIMEOUT)

    def fin(self) -> None:
        """End with a FIN and without a close frame, after everything sent has gone out."""
        with self._lock:
            self._end("fin")
            self.wire.finish()

    def rst(self) -> None:
        """End with a RST at once; what the client has not received may be lost."""
        with self._lock:
            self.wire.abandon("rst", reset=True)

    def half_frame(self, payload: Payload, then: Literal["fin", "rst"] | None = None) -> None:
        """Send the header and half the payload of a frame, then nothing more.

        The connection then stalls, or ends as `then` says. The message is not in the journal.
        """
        frame = frames(payload)
        with self._sending():
            self.wire.write(frame[: len(frame) - max(1, (len(as_bytes(payload)) + 1) // 2)])
            self._end("half frame")
            self.wire.seal()
            if then == "fin":
                self.fin()
            elif then == "rst":
                self.rst()

    def _end(self, cause: str) -> None:
        if self.ended_by is None:
            self.ended_by = cause
            if self._opened:
                self._note(f"gone: {cause}")
        self.closed = self.wire.closed
        self._lock.notify_all()

    # In

    def _received(self, data: bytes, now: float) -> None:
        if self._discarding:
            return
        if self._rest is not None:
            found = self._rest.add(data)
            if found is None:
                return
            self._rest = None
            if isinstance(found, RestCall):
                self._reply(answered(found, self._asked(found)))
                self._lock.notify_all()
                return
            data = found
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._handshake(event)
            elif isinstance(event, Frame):
                if event.opcode is Opcode.CLOSE:
                    self.close_code = Close.parse(bytes(event.data)).code
                    self._end(f"client close {self.close_code}")
                else:
                    self._frame(event, now)
                self._lock.notify_all()
        self._transmit()

    def _handshake(self, request: Request) -> None:
        self.request = request
        body = self._asked(request)
        self._lock.notify_all()
        if body is not None:
            self._reply(page(request.path, body))
            return
        response = self._protocol.accept(request)
        refused = self._fault or self._admit(request)
        if isinstance(refused, HandshakeFailure):
            self._reply(failed(refused, response))
            return
        self._protocol.send_response(response)
        if response.status_code == 101:
            self._opened = True
            if refused is None:
                self._established()
            else:
                self.close(refused, "too many connections")
        self._transmit()

    def _reply(self, reply: HandshakeReply) -> None:
        self._discarding = True
        if reply.note is not None:
            self._note(reply.note)
        self.wire.write(reply.data)
        if reply.more is not None:
            self.wire.pour(reply.more, reply.interval)
        if reply.cause is not None:
            self._end(reply.cause)
            self.wire.finish()
