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
import http
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar, get_args

from websockets.http11 import Request
from websockets.typing import Subprotocol

from .exchanges import PROTOCOLS
from .peer import HandshakeFailure, HandshakeFault, Peer
from .protocols import Payload, VenueProtocol
from .sockets import Waker, bind, join, netloc, select

T = TypeVar("T")


class FakeVenue:
    """A WebSocket venue on a loopback port of its own; `with` starts and closes it.

    `protocol` says how it answers: `"generic"`, `"kraken"` or another of `exchanges.PROTOCOLS`, an
    object (see `VenueProtocol`), or None, which answers nothing but pings and close frames.
    `ack_delay` is the time in seconds between the arrival of a message and its handling by the
    protocol: its effect comes as late as its answer. `receive_buffer` sets SO_RCVBUF, in bytes:
    small, a peer that stops reading is felt soon. With an `ssl_context` the venue speaks TLS.

    `port` 0 is a free one. `channels` are those that there are (None: any): others are refused.
    `tamper(peer, channel, payload)` returns what `peer` is sent instead of a published message.
    `tell(peer, text)` is called for what becomes of a connection. Both are called under the lock,
    and must not block. Without a `journal` nothing is remembered of what has been sent or received,
    nor of a connection that has ended, and `accept` is of no use: for a venue that runs for days.
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
        port: int = 0,
        channels: Collection[str] | None = None,
        tamper: Callable[[Peer, str, Payload], Iterable[Payload]] | None = None,
        tell: Callable[[Peer, str], None] | None = None,
        journal: bool = True,
    ) -> None:
        if protocol is None or isinstance(protocol, str):
            protocol = PROTOCOLS[protocol]()
        self.protocol: VenueProtocol = protocol
        self.ack_delay = ack_delay
        self.host = host
        self.port = 0
        self.channels = channels
        self.tamper = tamper
        self.tell = tell
        self.has_journal = journal
        self._is_batching = False
        self.attempts = 0
        self.requests: list[Request] = []
        self.peers: list[Peer] = []
        self.lock = threading.Condition(threading.RLock())
        self._ssl_context = ssl_context
        self._subprotocols = [Subprotocol(name) for name in subprotocols]
        self._receive_buffer = receive_buffer
        self._wanted_port = port
        self._faults: deque[HandshakeFailure] = deque()
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
        """Bind the port and accept connections. RuntimeError when that was done before; OSError
        where the port is taken."""
        if self.port:
            raise RuntimeError("a FakeVenue starts once")
        self._listener = self._bind(self._wanted_port)
        try:
            self.up()
        except OSError:
            self._listener.close()
            raise
        self.port = self._listener.getsockname()[1]

    def close(self) -> None:
        """End every connection, thread and socket; idempotent. Clients see their connection
        drop."""
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
            join(peer._thread)

    def down(self) -> None:
        """Refuse TCP connections from now on. Those that are open stay open."""
        if self._listener is None:
            raise RuntimeError("the venue was not started")
        if self._acceptor is not None:
            self._stop_accepting()
            self._listener.close()
            self._listener = self._bind(self.port)

    def up(self) -> None:
        """Accept connections, on the same port as before `down()`."""
        if self._listener is None:
            raise RuntimeError("the venue was not started")
        if self._acceptor is None:
            self._listener.listen(128)
            self._acceptor = _Acceptor(self._listener, self._connected)

    def _bind(self, port: int) -> socket.socket:
        return bind(self.host, port, self._receive_buffer)

    def _stop_accepting(self) -> None:
        if self._acceptor is not None:
            self._acceptor.stop()
            self._acceptor = None

    def _connected(self, sock: socket.socket) -> None:
        with self.lock:
            self.attempts += 1
            fault = self._faults.popleft() if self._faults else None
            peer = Peer(self, sock, self.attempts, fault)
            if not self.has_journal:
                self.peers = [peer for peer in self.peers if not peer.closed]
                self._connections = [peer for peer in self._connections if not peer.closed]
            self._connections.append(peer)
            peer._thread.start()
            self.lock.notify_all()

    # What the venue has seen

    @property
    def url(self) -> str:
        """`ws://host:port/`, or `wss://` with an `ssl_context`."""
        scheme = "ws" if self._ssl_context is None else "wss"
        return f"{scheme}://{netloc(self.host, self.port)}/"

    @property
    def live(self) -> list[Peer]:
        """The peers that are connected and have neither closed nor been broken."""
        return [peer for peer in self.peers if peer.live]

    def subscribers(self, *channels: str) -> list[Peer]:
        """The live peers that are subscribed to one of `channels`, or, without any, to anything."""
        return [
            peer
            for peer in self.live
            if (
                any(map(peer._subscriptions.__contains__, channels))
                if channels
                else peer._subscriptions
            )
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
        self._queue_faults(HandshakeFailure("refuse", reply), times)

    def fail_handshake(self, kind: HandshakeFault, times: int = 1) -> None:
        """Break the next `times` handshakes:

        - `"deaf"`: TCP is accepted, nothing is ever answered, also no TLS;
        - `"reset"`, `"eof"`: RST or FIN at once;
        - `"drip"`: the reply comes at one byte every 50 ms and never ends;
        - `"headers"`: the reply's headers never end, as fast as the client takes them;
        - `"garbage"`: the reply is not HTTP, and the connection stays open.
        """
        if kind not in get_args(HandshakeFault):
            raise ValueError(f"unknown handshake fault {kind!r}")
        self._queue_faults(HandshakeFailure(kind), times)

    def _queue_faults(self, fault: HandshakeFailure, times: int) -> None:
        with self.lock:
            self._faults.extend([fault] * times)

    # Market data

    def publish(self, channel: str, **fields: Any) -> int:
        """Send `fields` as the next message of `channel` to every live peer that subscribed to it.

        Returns its sequence number, which counts from 1 whether anyone listens or not.
        """
        with self.lock:
            sequence = self.sequence(channel) + 1
            self._sequences[channel] = sequence
            self.broadcast(self.protocol.data(channel, sequence, fields), channel)
            return sequence

    def broadcast(self, payload: Payload, *channels: str) -> int:
        """Send `payload` as it is to every live peer that subscribed to one of `channels`, or,
        without any, to anything. Returns how many these were.
        """
        with self.lock:
            peers = self.subscribers(*channels)
            for peer in peers:
                if self.tamper is None or not channels:
                    peer.send(payload)
                else:
                    for replacement in self.tamper(peer, channels[0], payload):
                        peer.send(replacement)
            return len(peers)

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """What is sent meanwhile goes out at the end, in as few writes as can be."""
        with self.lock:
            self._is_batching = True
            try:
                yield
            finally:
                self._is_batching = False
                for peer in self.live:
                    peer._flush()

    def sequence(self, channel: str) -> int:
        """The number of the latest message that was published on `channel`, 0 for none."""
        return self._sequences.get(channel, 0)

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
        reason = self._refusals.get(channel)
        if reason is None and self.channels is not None and channel not in self.channels:
            return f"there is no {channel!r} here, but {', '.join(self.channels)}"
        return reason

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


class _Acceptor:
    """The thread that accepts connections, until stopped."""

    def __init__(self, listener: socket.socket, connected: Callable[[socket.socket], None]) -> None:
        self._listener = listener
        self._connected = connected
        self._waker = Waker()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fakevenue-accept", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._waker.wake()
        join(self._thread)
        self._waker.close()

    def _run(self) -> None:
        while True:
            select([self._listener, self._waker.receiver], [], None)
            if self._stopping:
                return
            try:
                sock, _ = self._listener.accept()
            except OSError:
                continue  # the client has gone again
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connected(sock)
