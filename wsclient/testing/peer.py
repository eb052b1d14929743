"""The venue's end of one connection. The rules about locks and threads stand in `venue`."""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from websockets.exceptions import NegotiationError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import SEND_EOF
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from .protocols import Payload, encode
from .sockets import WOULD_BLOCK, Waker, reset_on_close, select

if TYPE_CHECKING:
    from .venue import FakeVenue

T = TypeVar("T")
HandshakeFault = Literal["deaf", "reset", "eof", "drip", "headers", "garbage"]

FLUSH_TIMEOUT = 5.0  # for a client to read what was sent before a FIN
CLOSE_TIMEOUT = 1.0  # for a client to answer a close frame or a FIN with its own
DRIP_INTERVAL = 0.05


@dataclass(frozen=True)
class Sent:
    """A data message that was sent on a connection; it arrives unless the connection fails.

    `number` counts from 1 on each connection, `connection` is `Peer.id`. `time` is in nanoseconds
    since the epoch, taken before the message was sent.
    """

    number: int
    connection: int
    payload: bytes
    time: int


@dataclass(frozen=True)
class HandshakeFailure:
    kind: HandshakeFault | Literal["refuse"]
    reply: bytes = b""


class Peer:
    """The venue's end of one connection: it sends, injects faults, and checks what arrives.

    `id` is the number of the TCP attempt, from 1. `journal` has every data message sent, `received`
    every one received, `pings` and `pongs` the payloads of control frames. `ended_by` is None until
    one side ends the connection, then the first cause: `"fin"`, `"rst"`, `"close 1001"`,
    `"half frame"`, `"client close 1000"`, `"client eof"`, `"client reset"`, `"venue closed"`.

    Methods that wait raise AssertionError if nothing comes within `timeout` (s) or before the end
    of the connection. Methods that send raise ConnectionError once the connection has ended.
    """

    def __init__(
        self, venue: FakeVenue, sock: socket.socket, id: int, fault: HandshakeFailure | None
    ) -> None:
        self.venue = venue
        self.id = id
        self.request: Request | None = None
        self.journal: list[Sent] = []
        self.received: list[Payload] = []
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.ended_by: str | None = None
        self.close_code: int | None = None
        self.closed = False
        self._lock = venue.lock
        self._sock = sock
        self._fault = fault
        self._waker = Waker()
        self._thread = threading.Thread(target=self._run, name=f"fakevenue-peer-{id}", daemon=True)
        self._protocol = ServerProtocol(
            subprotocols=venue._subprotocols or None,
            select_subprotocol=_select_subprotocol,
            max_size=None,
        )
        self._subscriptions: dict[str, dict[str, Any]] = {}
        self._opened = False
        self._expected = {"message": 0, "ping": 0, "pong": 0}
        self._fragments: list[bytes] = []
        self._is_text = True
        self._pongs_muted = False
        self._is_muted = False
        self._sent = 0
        # Orders to the thread. `_sealed`: nothing more may be written. `_gone`: close at once.
        self._backlog = bytearray()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_numbers = itertools.count()
        self._handled_until = 0.0
        self._deadline: float | None = None
        self._reading = True
        self._discarding = False
        self._sealed = False
        self._fin_wanted = False
        self._reset = False
        self._gone = False

    def __repr__(self) -> str:
        state = "live" if self.live else f"ended by {self.ended_by}" if self.ended_by else "opening"
        return f"<Peer {self.id} {state}, {len(self.journal)} sent, {len(self.received)} received>"

    @property
    def live(self) -> bool:
        """Whether the handshake is complete and neither side has ended the connection."""
        return self._opened and self.ended_by is None

    @property
    def backlog(self) -> int:
        """Number of bytes that wait for the client to read."""
        return len(self._backlog)

    # Subscriptions, which the protocol changes

    @property
    def subscriptions(self) -> set[str]:
        """The channels that the client is subscribed to."""
        return set(self._subscriptions)

    def subscribe(self, channel: str, **options: Any) -> str | None:
        """Subscribe the client, or return the reason if the venue refuses `channel`."""
        with self._lock:
            reason = self.venue.refusal(channel)
            if reason is None:
                self._subscriptions[channel] = options
                self._lock.notify_all()
                self._tell(f"subscribed to {channel}")
            else:
                self._tell(f"refused {channel}: {reason}")
            return reason

    def unsubscribe(self, channel: str) -> bool:
        """Unsubscribe the client, or return False if it is not subscribed."""
        with self._lock:
            known = self._subscriptions.pop(channel, None) is not None
            self._lock.notify_all()
            if known:
                self._tell(f"unsubscribed from {channel}")
            return known

    def options(self, channel: str) -> dict[str, Any]:
        """Return the options of the subscription to `channel`. Raises KeyError without one."""
        return self._subscriptions[channel]

    def call_later(self, delay: float, function: Callable[[], None]) -> None:
        """Call `function` after `delay` (s), on the peer's thread and under the venue's lock."""
        self._call_at(time.monotonic() + delay, function)

    def _call_at(self, due: float, function: Callable[[], None]) -> None:
        with self._lock:
            heapq.heappush(self._timers, (due, next(self._timer_numbers), function))
            self._wake()

    # From the client

    def expect(self, timeout: float = 5.0) -> Payload:
        """Return the client's next message, each once, in order."""
        return self._next("message", self.received, timeout)

    def expect_json(self, expected: Any = None, timeout: float = 5.0) -> Any:
        """Return the next message, decoded. It must equal `expected` unless that is None."""
        payload = self.expect(timeout)
        try:
            message = json.loads(payload)
        except ValueError:
            raise AssertionError(f"{self} received {payload!r}, which is not JSON") from None
        if expected is not None and message != expected:
            raise AssertionError(f"{self} expected\n  {expected!r}, received\n  {message!r}")
        return message

    def expect_ping(self, timeout: float = 5.0) -> bytes:
        """Return the payload of the next ping frame."""
        return self._next("ping", self.pings, timeout)

    def expect_pong(self, timeout: float = 5.0) -> bytes:
        """Return the payload of the next pong frame."""
        return self._next("pong", self.pongs, timeout)

    def expect_close(self, timeout: float = 5.0) -> int | None:
        """Wait until the client closes, and return the code of its close frame.

        The code is 1005 for a frame without one, and None without a close frame.
        """
        self._wait(lambda: self._client_is_done, "close frame", timeout)
        return self.close_code

    def wait_closed(self, timeout: float = 5.0) -> None:
        """Wait until the socket is closed."""
        self._wait(lambda: self.closed, "end of the connection", timeout)

    @property
    def _client_is_done(self) -> bool:
        return self._gone or self.closed or self.close_code is not None

    def _next(self, what: str, items: list[T], timeout: float) -> T:
        with self._lock:
            position = self._expected[what]
            self._wait(lambda: len(items) > position or self._client_is_done, what, timeout)
            if len(items) <= position:
                raise AssertionError(f"{self} ended before the next {what}")
            self._expected[what] += 1
            return items[position]

    def _wait(self, ready: Callable[[], bool], what: str, timeout: float) -> None:
        with self._lock:
            if not self._lock.wait_for(ready, timeout):
                raise AssertionError(f"no {what} within {timeout} s from {self}")

    # To the client

    def send(self, payload: Payload) -> Sent:
        """Send one message, str as a text frame and bytes as a binary one."""
        frame = Frame(_opcode(payload), _bytes(payload)).serialize(mask=False)
        with self._sending():
            return self._send_message(payload, frame)

    def send_json(self, message: Any) -> Sent:
        """Send `message` as JSON without spaces, in a text frame."""
        return self.send(encode(message))

    def send_fragments(self, payload: Payload, count: int) -> Sent:
        """Send one message in `count` frames."""
        data = _bytes(payload)
        size = -(-len(data) // count)
        frames = b"".join(
            Frame(
                _opcode(payload) if n == 0 else Opcode.CONT,
                data[n * size : (n + 1) * size],
                fin=n == count - 1,
            ).serialize(mask=False)
            for n in range(count)
        )
        with self._sending():
            return self._send_message(payload, frames)

    def send_raw(self, data: bytes) -> None:
        """Send any bytes, outside the WebSocket protocol and the journal."""
        with self._sending():
            self._write(data)

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping frame."""
        with self._sending():
            self._write(Frame(Opcode.PING, payload).serialize(mask=False))

    @contextlib.contextmanager
    def _sending(self) -> Iterator[None]:
        with self._lock:
            if not self.live:
                raise ConnectionError(f"{self} cannot send: the connection has ended")
            yield

    def _send_message(self, payload: Payload, frames: bytes) -> Sent:
        sent = Sent(self._sent + 1, self.id, _bytes(payload), time.time_ns())
        if self._is_muted:
            return sent
        self._sent += 1
        if self.venue.has_journal:
            self.journal.append(sent)
        self._write(frames)
        self._lock.notify_all()
        return sent

    # Faults, and the end of the connection

    def mute(self, on: bool = True) -> None:
        """Stop sending messages, both data and answers. Pings are still answered."""
        with self._lock:
            self._is_muted = on

    def mute_pongs(self, on: bool = True) -> None:
        """Leave the client's pings unanswered."""
        self._pongs_muted = on

    def stop_reading(self) -> None:
        """Stop reading from the socket, so what the client writes piles up, pings included."""
        with self._lock:
            self._reading = False
            self._wake()

    def start_reading(self) -> None:
        """Read from the socket again after `stop_reading`."""
        with self._lock:
            self._reading = True
            self._wake()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame, and close TCP when the client has answered it or after 1 s."""
        with self._sending():
            self._protocol.send_close(code, reason)
            self._transmit()
            self._end(f"close {code}")
            self._set_deadline(CLOSE_TIMEOUT)

    def fin(self) -> None:
        """End with a FIN and without a close frame, after everything sent has gone out."""
        with self._lock:
            self._end("fin")
            self._finish()

    def rst(self) -> None:
        """End with a RST at once; what the client has not received may be lost."""
        with self._lock:
            self._reset = True
            self._abandon("rst")

    def half_frame(self, payload: Payload, then: Literal["fin", "rst"] | None = None) -> None:
        """Send the header and half the payload of a frame, then nothing more.

        The connection then stalls, or ends as `then` says. The message is not in the journal.
        """
        data = _bytes(payload)
        frame = Frame(_opcode(payload), data).serialize(mask=False)
        with self._sending():
            self._write(frame[: len(frame) - max(1, (len(data) + 1) // 2)])
            self._end("half frame")
            self._sealed = True
            if then == "fin":
                self.fin()
            elif then == "rst":
                self.rst()

    def _end(self, cause: str) -> None:
        if self.ended_by is None:
            self.ended_by = cause
            if self._opened:
                self._tell(f"gone: {cause}")
        self._lock.notify_all()

    def _tell(self, text: str) -> None:
        if self.venue.tell is not None:
            self.venue.tell(self, text)

    def _abandon(self, cause: str) -> None:
        """Make the thread close the socket as soon as it can."""
        self._end(cause)
        self._sealed = self._gone = True
        self._wake()

    def _finish(self) -> None:
        """Make the thread send a FIN behind what was written, and close after the client's FIN."""
        self._sealed = self._fin_wanted = True
        self._set_deadline(FLUSH_TIMEOUT)
        self._flush()

    def _set_deadline(self, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._wake()

    def _wake(self) -> None:
        if threading.current_thread() is not self._thread:
            self._waker.wake()

    # The wire

    def _write(self, data: bytes) -> None:
        if not self._sealed:
            self._backlog += data
            if not self.venue._is_batching:
                self._flush()

    def _flush(self) -> None:
        if self._gone:
            return
        try:
            while self._backlog:
                # TLS must be offered the same bytes again after it would have blocked.
                sent = self._sock.send(bytes(self._backlog[:65536]))
                del self._backlog[:sent]
            if self._fin_wanted:
                self._fin_wanted = False
                self._sock.shutdown(socket.SHUT_WR)
                self._set_deadline(CLOSE_TIMEOUT)
        except WOULD_BLOCK:
            self._wake()  # its thread goes on once the socket is writable
        except OSError:
            self._abandon("client reset")

    def _transmit(self) -> None:
        """Write the output of the WebSocket protocol."""
        for data in self._protocol.data_to_send():
            if data == SEND_EOF:
                close = self._protocol.close_sent
                self._end("refused" if close is None else f"close {close.code}")
                self._finish()
            elif not (self._pongs_muted and data[0] == 0x80 | Opcode.PONG):
                self._write(data)

    def _run(self) -> None:
        try:
            self._begin()
            while True:
                with self._lock:
                    self._waker.clear()
                    self._advance()
                    if self._gone:
                        return
                    reads = [self._waker.receiver, *([self._sock] if self._reading else [])]
                    writes = [self._sock] if self._backlog else []
                    timeout = self._time_left()
                select(reads, writes, timeout)
        finally:
            with self._lock:
                self._gone = self.closed = True
                self._end("venue failed")
                if self._reset:
                    reset_on_close(self._sock)
                self._sock.close()
                self._waker.close()

    def _begin(self) -> None:
        with self._lock:
            match self._fault:
                case HandshakeFailure("reset"):
                    self.rst()
                case HandshakeFailure("eof"):
                    self._discarding = True
                    self.fin()
                case HandshakeFailure("deaf"):
                    self._discarding = True
                case _ if self.venue._ssl_context is not None:
                    try:
                        # Raises if the client has gone already: wrap_socket would lose the socket.
                        self._sock.getpeername()
                        self._sock = self.venue._ssl_context.wrap_socket(
                            self._sock, server_side=True, do_handshake_on_connect=False
                        )
                    except OSError:
                        self._abandon("client reset")

    def _advance(self) -> None:
        """Handle what is due: timers, input, output, the deadline."""
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        if self._reading:
            self._read(now)
        self._flush()
        if self._deadline is not None and self._deadline <= now:
            self._abandon("fin")

    def _time_left(self) -> float | None:
        dues = [due for due, _, _ in self._timers[:1]]
        if self._deadline is not None:
            dues.append(self._deadline)
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _read(self, now: float) -> None:
        pending = 1
        while pending and not self._gone:
            try:
                data = self._sock.recv(65536)
            except WOULD_BLOCK:
                return
            except OSError:
                self._abandon("client reset")
                return
            if not data:
                self._abandon("client eof")
            elif not self._discarding:
                self._protocol.receive_data(data)
                for event in self._protocol.events_received():
                    if isinstance(event, Request):
                        self._handshake(event)
                    else:
                        assert isinstance(event, Frame)
                        self._frame(event, now)
                self._transmit()
            # What TLS has decrypted already does not make the socket readable again.
            pending = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0

    def _handshake(self, request: Request) -> None:
        self.request = request
        if self.venue.has_journal:
            self.venue.requests.append(request)
        self._lock.notify_all()
        if self._fault is None and "Upgrade" not in request.headers:
            body = self.venue.protocol.http(request.path)
            if body is not None:
                self._serve(request.path, body)
                return
        response = self._protocol.accept(request)
        if self._fault is None:
            self._protocol.send_response(response)
            if response.status_code == 101:
                # Before the client gets the answer: a test looks for its peer once it is connected.
                self._opened = True
                self.venue.peers.append(self)
                self._tell("connected")
            self._transmit()
            if self._opened:
                self._say(self.venue.protocol.greeting(self))
            return
        self._discarding = True
        head = response.serialize().removesuffix(b"\r\n")
        match self._fault.kind:
            case "refuse":
                self._tell(f"refused: {self._fault.reply.splitlines()[0].decode()}")
                self._write(self._fault.reply)
                self._end("refused")
                self._finish()
            case "garbage":
                self._write(b"SSH-2.0-FakeVenue\r\n\x00\xff\xfe\r\n\r\n")
            case "drip":
                drops = (bytes([byte]) for byte in head + b"X-Drip: ")
                self._pour(itertools.chain(drops, itertools.repeat(b"~")), DRIP_INTERVAL)
            case "headers":
                lines = (b"X-Header-%d: %s\r\n" % (n, b"~" * 4096) for n in itertools.count())
                self._pour(itertools.chain([head], lines), 0.0005)

    def _serve(self, path: str, body: bytes) -> None:
        """Answer a GET that is not a WebSocket handshake."""
        self._discarding = True
        head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n"
        self._tell(f"GET {path}")
        self._write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self._end("http")
        self._finish()

    def _pour(self, chunks: Iterator[bytes], interval: float) -> None:
        if not self._backlog:
            self._write(next(chunks))
        self.call_later(interval, functools.partial(self._pour, chunks, interval))

    def _frame(self, frame: Frame, now: float) -> None:
        data = bytes(frame.data)
        match frame.opcode:
            case Opcode.PING | Opcode.PONG if not self.venue.has_journal:
                pass
            case Opcode.PING:
                self.pings.append(data)
            case Opcode.PONG:
                self.pongs.append(data)
            case Opcode.CLOSE:
                assert self._protocol.close_rcvd is not None
                self.close_code = self._protocol.close_rcvd.code
                self._end(f"client close {self.close_code}")
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                if frame.opcode is not Opcode.CONT:
                    self._is_text = frame.opcode is Opcode.TEXT
                self._fragments.append(data)
                if frame.fin:
                    message = b"".join(self._fragments)
                    self._fragments.clear()
                    try:
                        payload = message.decode() if self._is_text else message
                    except UnicodeDecodeError:
                        if self.live:
                            self.close(1007, "not UTF-8")
                    else:
                        self._message(payload, now)
        self._lock.notify_all()

    def _message(self, payload: Payload, now: float) -> None:
        if self.venue.has_journal:
            self.received.append(payload)
        # A message never overtakes an earlier one, even if `ack_delay` has become shorter.
        self._handled_until = max(self._handled_until, now + self.venue.ack_delay)
        if self._handled_until <= now:
            self._answer(payload)
        else:
            self._call_at(self._handled_until, functools.partial(self._answer, payload))

    def _answer(self, payload: Payload) -> None:
        if self.live:
            self._say(self.venue.protocol.received(self, payload))

    def _say(self, payloads: Iterable[Payload]) -> None:
        for payload in payloads:
            if self.live:
                self.send(payload)


def _select_subprotocol(
    protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    if not offered:
        return None
    for name in protocol.available_subprotocols or ():
        if name in offered:
            return name
    raise NegotiationError(f"none of the subprotocols {offered} is supported")


def _bytes(payload: Payload) -> bytes:
    return payload.encode() if isinstance(payload, str) else payload


def _opcode(payload: Payload) -> Opcode:
    return Opcode.TEXT if isinstance(payload, str) else Opcode.BINARY
