"""A real venue on loopback whose faults are scripted.

Two rules hold this module together:

- `FakeVenue.lock` is the only lock. It is re-entrant, and every change of the venue or of a peer is
  made under it and notified. It is held only for work that cannot block: all sockets are
  non-blocking, and bytes that a client does not take wait in its peer's backlog. So a client that
  never reads holds up nobody, and the journal of a peer is in the order of its wire.
- A socket is read and closed by its own thread alone. Other threads only write to it, or mark the
  peer as ended and wake its thread.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import http
import itertools
import json
import os
import selectors
import socket
import ssl
import struct
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, TypeVar, get_args

from websockets.exceptions import NegotiationError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import SEND_EOF
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from .protocols import PROTOCOLS, Payload, VenueProtocol, encode

T = TypeVar("T")
HandshakeFault = Literal["deaf", "reset", "eof", "drip", "headers", "garbage"]

FLUSH_TIMEOUT = 5.0  # for a client to take what was sent before a FIN
CLOSE_TIMEOUT = 1.0  # for a client to answer a close frame, or a FIN with its own
JOIN_TIMEOUT = 5.0
DRIP_INTERVAL = 0.05

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# Unlike epoll's, this selector holds no file descriptor; select() alone stops at 1,024 of them.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


@dataclass(frozen=True)
class Sent:
    """A data message that the venue handed to a connection: what should arrive, if nothing fails.

    `number` counts from 1 on each connection, `connection` is `Peer.id`, `time` is in nanoseconds
    since the epoch, read before the message went out.
    """

    number: int
    connection: int
    payload: bytes
    time: int


@dataclass(frozen=True)
class _Fault:
    kind: HandshakeFault | Literal["refuse"]
    reply: bytes = b""


class FakeVenue:
    """A WebSocket venue on a loopback port of its own; `with` starts and closes it.

    `protocol` says how it answers: `"generic"`, `"kraken"`, an object (see `VenueProtocol`), or
    None, which answers nothing but pings and close frames. `ack_delay` is the time in seconds
    between the arrival of a message and its handling by the protocol: its effect comes as late as
    its answer. `receive_buffer` sets SO_RCVBUF, in bytes: small, a peer that stops reading is
    felt soon. With an `ssl_context` the venue speaks TLS.
    """

    def __init__(
        self,
        protocol: str | VenueProtocol | None = "generic",
        *,
        ssl_context: ssl.SSLContext | None = None,
        ack_delay: float = 0.0,
        host: str = "127.0.0.1",
        subprotocols: Sequence[str] = (),
        receive_buffer: int | None = None,
    ) -> None:
        if protocol is None or isinstance(protocol, str):
            protocol = PROTOCOLS[protocol]()
        self.protocol: VenueProtocol = protocol
        self.ack_delay = ack_delay
        self.host = host
        self.port = 0
        self.attempts = 0
        self.requests: list[Request] = []
        self.peers: list[Peer] = []
        self.lock = threading.Condition(threading.RLock())
        self._ssl_context = ssl_context
        self._subprotocols = [Subprotocol(name) for name in subprotocols]
        self._receive_buffer = receive_buffer
        self._faults: deque[_Fault] = deque()
        self._sequences: dict[str, int] = {}
        self._refusals: dict[str, str] = {}
        self._muted: set[str | None] = set()
        self._accepted = 0
        self._connections: list[Peer] = []
        self._listener: socket.socket | None = None
        self._acceptor: _Acceptor | None = None
        self.closing = threading.Event()

    def __repr__(self) -> str:
        return f"<FakeVenue {self.host}:{self.port}, {self.attempts} attempts, {self.peers}>"

    def __enter__(self) -> FakeVenue:
        if not self.port:
            self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Life

    def start(self) -> None:
        """Bind a free port and accept connections. RuntimeError when that was done before."""
        if self.port:
            raise RuntimeError("a FakeVenue starts once")
        self._listener = self._bind(0)
        self.port = self._listener.getsockname()[1]
        self.up()

    def close(self) -> None:
        """End every connection, thread and socket; idempotent. Clients see their link drop."""
        if self.closing.is_set() or self._listener is None:
            return
        self.closing.set()
        self._stop_accepting()
        self._listener.close()
        with self.lock:
            self.lock.notify_all()
            for peer in self._connections:
                peer._abandon("venue closed")
        for peer in self._connections:
            _join(peer._thread)

    def down(self) -> None:
        """Refuse TCP connections from now on. Those that are open stay open."""
        assert self._listener is not None, "the venue was not started"
        if self._acceptor is not None:
            self._stop_accepting()
            self._listener.close()
            # Bound but not listening: connections are refused, and nobody else gets the port.
            self._listener = self._bind(self.port)

    def up(self) -> None:
        """Accept connections, on the same port as before `down()`."""
        assert self._listener is not None, "the venue was not started"
        if self._acceptor is None:
            self._listener.listen(128)
            self._acceptor = _Acceptor(self._listener, self._connected)

    def _bind(self, port: int) -> socket.socket:
        listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer is not None:  # inherited by each connection
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        listener.setblocking(False)
        listener.bind((self.host, port))
        return listener

    def _stop_accepting(self) -> None:
        if self._acceptor is not None:
            self._acceptor.stop()
            self._acceptor = None

    def _connected(self, sock: socket.socket) -> None:
        with self.lock:
            self.attempts += 1
            fault = self._faults.popleft() if self._faults else None
            peer = Peer(self, sock, self.attempts, fault)
            self._connections.append(peer)
            peer._thread.start()
            self.lock.notify_all()

    # What the venue has seen

    @property
    def url(self) -> str:
        """`ws://host:port/`, or `wss://` with an `ssl_context`."""
        scheme = "ws" if self._ssl_context is None else "wss"
        return f"{scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    @property
    def live(self) -> list[Peer]:
        """The peers that are connected and have neither closed nor been broken."""
        return [peer for peer in self.peers if peer.live]

    def subscribers(self, channel: str | None = None) -> list[Peer]:
        """The live peers that are subscribed to `channel`, or to anything."""
        return [
            peer
            for peer in self.live
            if (peer._subscriptions if channel is None else channel in peer._subscriptions)
        ]

    def accept(self, timeout: float = 5.0) -> Peer:
        """The next connection that completed its handshake, each once, in order. TimeoutError."""
        with self.lock:
            if not self.lock.wait_for(lambda: len(self.peers) > self._accepted, timeout):
                raise TimeoutError(f"no new connection within {timeout} s to {self}")
            self._accepted += 1
            return self.peers[self._accepted - 1]

    def wait_for(self, predicate: Callable[[FakeVenue], T], timeout: float = 5.0) -> T:
        """Block until `predicate(venue)` is true, and return it. TimeoutError.

        It is tried at every change of the venue, under its lock: it must not block.
        """
        with self.lock:
            result = self.lock.wait_for(lambda: predicate(self), timeout)
            if not result:
                raise TimeoutError(f"{predicate!r} not true within {timeout} s of {self}")
            return result

    # Handshake faults, each for one of the next attempts, in order

    def refuse(
        self,
        status: int,
        *,
        retry_after: int | str | None = None,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        times: int = 1,
    ) -> None:
        """Answer the next `times` handshakes with this HTTP status instead of 101."""
        try:
            phrase = http.HTTPStatus(status).phrase
        except ValueError:
            phrase = "Refused"
        lines = [f"HTTP/1.1 {status} {phrase}", "Connection: close", f"Content-Length: {len(body)}"]
        if retry_after is not None:
            lines.append(f"Retry-After: {retry_after}")
        lines += [f"{name}: {value}" for name, value in headers]
        reply = "\r\n".join([*lines, "", ""]).encode() + body
        self._queue_faults(_Fault("refuse", reply), times)

    def fail_handshake(self, kind: HandshakeFault, times: int = 1) -> None:
        """Break the next `times` handshakes:

        - `"deaf"`: TCP is accepted, nothing is ever answered, also no TLS;
        - `"reset"`, `"eof"`: RST or FIN at once;
        - `"drip"`: the reply comes at one byte every 50 ms and never ends;
        - `"headers"`: the reply's headers never end, as fast as the client takes them;
        - `"garbage"`: the reply is not HTTP, and the link stays open.
        """
        if kind not in get_args(HandshakeFault):
            raise ValueError(f"unknown handshake fault {kind!r}")
        self._queue_faults(_Fault(kind), times)

    def _queue_faults(self, fault: _Fault, times: int) -> None:
        with self.lock:
            self._faults.extend([fault] * times)

    # Market data

    def publish(self, channel: str, **fields: Any) -> int:
        """Send `fields` as the next message of `channel` to every live peer that subscribed to it.

        Returns its sequence number, which counts from 1 whether anyone listens or not.
        """
        with self.lock:
            sequence = self._sequences.get(channel, 0) + 1
            self._sequences[channel] = sequence
            self.broadcast(self.protocol.data(channel, sequence, fields), channel)
            return sequence

    def broadcast(self, payload: Payload, channel: str | None = None) -> int:
        """Send `payload` as it is to every live peer that subscribed to `channel`, or to anything.

        Returns how many these were.
        """
        with self.lock:
            peers = self.subscribers(channel)
            for peer in peers:
                peer.send(payload)
            return len(peers)

    def refuse_channel(self, channel: str, reason: str) -> None:
        """Answer each subscribe to `channel` with an error, until `allow_channel`."""
        with self.lock:
            self._refusals[channel] = reason

    def allow_channel(self, channel: str) -> None:
        """Undo `refuse_channel`."""
        with self.lock:
            self._refusals.pop(channel, None)

    def refusal(self, channel: str) -> str | None:
        """For protocols: why `channel` is refused, or None."""
        return self._refusals.get(channel)

    def mute_acks(self, on: bool = True, channel: str | None = None) -> None:
        """Leave requests about `channel` (None: all) unanswered, though they take effect.

        `mute_acks(False)` undoes all muting.
        """
        with self.lock:
            if on:
                self._muted.add(channel)
            elif channel is None:
                self._muted.clear()
            else:
                self._muted.discard(channel)

    def muted(self, channel: str) -> bool:
        """For protocols: whether requests about `channel` go unanswered."""
        return None in self._muted or channel in self._muted


class Peer:
    """The venue's end of one connection: what to expect from the client, send to it, do to it.

    `id` is the number of the TCP attempt, from 1. `journal` holds every data message sent,
    `received` every one received, `pings` and `pongs` the payloads of control frames. `ended_by` is
    None until one side ends the connection, then the first cause: `"fin"`, `"rst"`, `"close 1001"`,
    `"half frame"`, `"client close 1000"`, `"client eof"`, `"client reset"`, `"venue closed"`.
    Waiting calls raise AssertionError; sending ones ConnectionError once the connection ended.
    """

    def __init__(
        self, venue: FakeVenue, sock: socket.socket, id: int, fault: _Fault | None
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
        self._waker = _Waker()
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
        # What the thread is to do; `_sealed`: nothing more may be written, `_gone`: close at once.
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
        """Whether the handshake is complete and neither side has ended or broken the connection."""
        return self._opened and self.ended_by is None

    @property
    def backlog(self) -> int:
        """How many bytes wait for the client to read."""
        return len(self._backlog)

    # Subscriptions, kept by the protocol

    @property
    def subscriptions(self) -> set[str]:
        """The channels the client is subscribed to."""
        return set(self._subscriptions)

    def subscribe(self, channel: str, **options: Any) -> str | None:
        """Subscribe the client, unless the venue refuses `channel`: then returns the reason."""
        with self._lock:
            reason = self.venue.refusal(channel)
            if reason is None:
                self._subscriptions[channel] = options
                self._lock.notify_all()
            return reason

    def unsubscribe(self, channel: str) -> bool:
        """Returns False when the client is not subscribed."""
        with self._lock:
            known = self._subscriptions.pop(channel, None) is not None
            self._lock.notify_all()
            return known

    def options(self, channel: str) -> dict[str, Any]:
        """What `subscribe` was given for `channel`. KeyError."""
        return self._subscriptions[channel]

    def call_later(self, delay: float, function: Callable[[], None]) -> None:
        """Call `function` on the peer's thread in `delay` seconds, under the venue's lock."""
        self._call_at(time.monotonic() + delay, function)

    def _call_at(self, due: float, function: Callable[[], None]) -> None:
        with self._lock:
            heapq.heappush(self._timers, (due, next(self._timer_numbers), function))
            self._wake()

    # What the client sends

    def expect(self, timeout: float = 5.0) -> Payload:
        """The next message of the client, each once, in order."""
        return self._next("message", self.received, timeout)

    def expect_json(self, expected: Any = None, timeout: float = 5.0) -> Any:
        """The next message decoded; it must equal `expected`, when that is given."""
        payload = self.expect(timeout)
        try:
            message = json.loads(payload)
        except ValueError:
            raise AssertionError(f"{self} received {payload!r}, which is not JSON") from None
        if expected is not None and message != expected:
            raise AssertionError(f"{self} expected\n  {expected!r}, received\n  {message!r}")
        return message

    def expect_ping(self, timeout: float = 5.0) -> bytes:
        """The payload of the next ping frame."""
        return self._next("ping", self.pings, timeout)

    def expect_pong(self, timeout: float = 5.0) -> bytes:
        """The payload of the next pong frame."""
        return self._next("pong", self.pongs, timeout)

    def expect_close(self, timeout: float = 5.0) -> int | None:
        """Wait until the client closes: the code of its close frame (1005: none), or None."""
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

    # What the venue sends

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
        """Put any bytes on the wire; they are not journaled."""
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
                raise ConnectionError(f"{self} can send no more")
            yield

    def _send_message(self, payload: Payload, frames: bytes) -> Sent:
        sent = Sent(len(self.journal) + 1, self.id, _bytes(payload), time.time_ns())
        self.journal.append(sent)
        self._write(frames)
        self._lock.notify_all()
        return sent

    # Faults and endings

    def mute_pongs(self, on: bool = True) -> None:
        """Leave the client's pings unanswered."""
        self._pongs_muted = on

    def stop_reading(self) -> None:
        """Take nothing more from the socket: what the client writes piles up, pings included."""
        with self._lock:
            self._reading = False
            self._wake()

    def start_reading(self) -> None:
        """Undo `stop_reading`."""
        with self._lock:
            self._reading = True
            self._wake()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame; TCP is closed when the client has answered it, or after 1 s."""
        with self._sending():
            self._protocol.send_close(code, reason)
            self._transmit()
            self._end(f"close {code}")
            self._set_deadline(CLOSE_TIMEOUT)

    def fin(self) -> None:
        """End with a bare FIN, after everything sent has gone out; no close frame."""
        with self._lock:
            self._end("fin")
            self._finish()

    def rst(self) -> None:
        """End with a RST at once; what the client has not received may be lost."""
        with self._lock:
            self._reset = True
            self._abandon("rst")

    def half_frame(self, payload: Payload, then: Literal["fin", "rst"] | None = None) -> None:
        """Send the header and half the payload of a frame, then nothing more: a stall, or `then`.

        The message is not journaled.
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
        self._lock.notify_all()

    def _abandon(self, cause: str) -> None:
        """Have the socket closed as soon as its thread comes to it."""
        self._end(cause)
        self._sealed = self._gone = True
        self._wake()

    def _finish(self) -> None:
        """Have a FIN sent behind what was written; the client's is awaited before closing."""
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
        except _WOULD_BLOCK:
            self._wake()  # its thread goes on once the socket is writable
        except OSError:
            self._abandon("client reset")

    def _transmit(self) -> None:
        """Write what the WebSocket protocol has to say."""
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
                _select(reads, writes, timeout)
        finally:
            with self._lock:
                self._gone = self.closed = True
                self._end("venue failed")
                if self._reset:
                    _reset_on_close(self._sock)
                self._sock.close()
                self._waker.close()

    def _begin(self) -> None:
        with self._lock:
            match self._fault:
                case _Fault("reset"):
                    self.rst()
                case _Fault("eof"):
                    self._discarding = True
                    self.fin()
                case _Fault("deaf"):
                    self._discarding = True
                case _ if self.venue._ssl_context is not None:
                    try:
                        self._sock = self.venue._ssl_context.wrap_socket(
                            self._sock, server_side=True, do_handshake_on_connect=False
                        )
                    except OSError:
                        self._abandon("client reset")

    def _advance(self) -> None:
        """Do what is due: timers, input, output, deadline."""
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
            except _WOULD_BLOCK:
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
        self.venue.requests.append(request)
        self._lock.notify_all()
        response = self._protocol.accept(request)
        if self._fault is None:
            self._protocol.send_response(response)
            if response.status_code == 101:
                # Before the client can know: a test looks for its peer as soon as it is connected.
                self._opened = True
                self.venue.peers.append(self)
            self._transmit()
            if self._opened:
                self._say(self.venue.protocol.greeting(self))
            return
        self._discarding = True
        head = response.serialize().removesuffix(b"\r\n")
        match self._fault.kind:
            case "refuse":
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

    def _pour(self, chunks: Iterator[bytes], interval: float) -> None:
        if not self._backlog:
            self._write(next(chunks))
        self.call_later(interval, functools.partial(self._pour, chunks, interval))

    def _frame(self, frame: Frame, now: float) -> None:
        data = bytes(frame.data)
        match frame.opcode:
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
                    self._message(message.decode() if self._is_text else message, now)
        self._lock.notify_all()

    def _message(self, payload: Payload, now: float) -> None:
        self.received.append(payload)
        # A message never overtakes an earlier one, also when the delay has become shorter.
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


class _Acceptor:
    """The thread that accepts connections, until stopped."""

    def __init__(self, listener: socket.socket, connected: Callable[[socket.socket], None]) -> None:
        self._listener = listener
        self._connected = connected
        self._waker = _Waker()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fakevenue-accept", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._waker.wake()
        _join(self._thread)
        self._waker.close()

    def _run(self) -> None:
        while True:
            _select([self._listener, self._waker.receiver], [], None)
            if self._stopping:
                return
            try:
                sock, _ = self._listener.accept()
            except OSError:
                continue  # the client has gone again
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connected(sock)


class _Waker:
    """Ends another thread's wait in `_select`."""

    def __init__(self) -> None:
        self.receiver, self._sender = socket.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)

    def wake(self) -> None:
        try:
            self._sender.send(b"\0")
        except OSError:
            pass  # full: the thread is about to wake anyway; closed: it has ended

    def clear(self) -> None:
        try:
            while self.receiver.recv(4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        self.receiver.close()
        self._sender.close()


def _select(
    reads: Iterable[socket.socket], writes: Iterable[socket.socket], timeout: float | None
) -> None:
    """Wait until one of the sockets is ready, or for `timeout` seconds."""
    events: dict[socket.socket, int] = dict.fromkeys(reads, selectors.EVENT_READ)
    for sock in writes:
        events[sock] = events.get(sock, 0) | selectors.EVENT_WRITE
    with _Selector() as selector:
        for sock, wanted in events.items():
            selector.register(sock, wanted)
        selector.select(timeout)


def _reset_on_close(sock: socket.socket) -> None:
    linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    except OSError:
        pass  # the client was first


def _join(thread: threading.Thread) -> None:
    thread.join(JOIN_TIMEOUT)
    if thread.is_alive():
        warnings.warn(f"thread {thread.name} did not stop", ResourceWarning, stacklevel=3)


def _select_subprotocol(
    protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    if not offered:
        return None
    for name in protocol.available_subprotocols or ():
        if name in offered:
            return name
    raise NegotiationError(f"none of {offered} is spoken here")


def _bytes(payload: Payload) -> bytes:
    return payload.encode() if isinstance(payload, str) else payload


def _opcode(payload: Payload) -> Opcode:
    return Opcode.TEXT if isinstance(payload, str) else Opcode.BINARY
