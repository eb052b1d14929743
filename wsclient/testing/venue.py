"""A real WebSocket venue on loopback whose faults are scripted.

Two rules hold for this module:

- `FakeVenue.lock` is the only lock. It is re-entrant; every change of the venue or of a peer is
  made under it and notified. It is held only for work that cannot block: all sockets are
  non-blocking, and bytes that a client does not read wait in its peer's backlog. So a client that
  never reads delays nobody, and the journal of a peer has the order in which messages were sent.
- Only its own thread reads and closes a socket. Other threads only write to it, or mark the peer as
  ended and wake its thread.
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

from . import venues
from .peer import HandshakeFailure, HandshakeFault, Peer
from .protocols import Payload, ScriptedProtocol, VenueProtocol
from .sockets import Waker, bind, join, netloc, select

T = TypeVar("T")


class FakeVenue:
    """A WebSocket venue on a loopback port of its own; `with` starts and closes it.

    `protocol` says how it answers: `"generic"`, `"kraken"` or another name in `venues.NAMES`, an
    object (see `VenueProtocol`), or None, which answers only pings and close frames. `ack_delay`
    (s) delays the handling of each message by the protocol, and so both its effect and its answer.
    `receive_buffer` (bytes) sets SO_RCVBUF: if it is small, a client soon notices that the peer
    stops reading. With an `ssl_context` the venue speaks TLS.

    `port` 0 takes any free port. `channels` are the channels that exist (None: any); others are
    refused. `tamper(peer, channel, payload)` returns what `peer` is sent instead of a published
    message. `tell(peer, text)` is called for each event of a connection. Both are called under the
    lock and must not block. Without a `journal` the venue keeps no record of messages sent or
    received, nor of connections that have ended, and `accept` does not work: this is for a venue
    that runs for days.
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
        if isinstance(protocol, str):
            protocol = venues.find(protocol)()
        self.protocol: VenueProtocol = ScriptedProtocol() if protocol is None else protocol
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
        self.connections: list[Peer] = []
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
        """Bind the port and accept connections.

        Raises RuntimeError if the venue was started before, OSError if the port is in use.
        """
        if self.port:
            raise RuntimeError("a FakeVenue can be started only once: make a new one")
        self._listener = self._bind(self._wanted_port)
        try:
            self.up()
        except OSError:
            self._listener.close()
            raise
        self.port = self._listener.getsockname()[1]

    def close(self) -> None:
        """End every connection, thread and socket; idempotent.

        Clients see their connection drop, without a close frame.
        """
        if self.closing.is_set() or self._listener is None:
            return
        self.closing.set()
        self._stop_accepting()
        self._listener.close()
        with self.lock:
            self.lock.notify_all()
            for peer in self.connections:
                peer._abandon("venue closed")
        for peer in self.connections:
            join(peer._thread)

    def down(self) -> None:
        """Refuse TCP connections from now on. Open ones stay open.

        Raises RuntimeError if the venue was not started.
        """
        if self._listener is None:
            raise RuntimeError("the venue was not started: call start()")
        if self._acceptor is not None:
            self._stop_accepting()
            self._listener.close()
            self._listener = self._bind(self.port)

    def up(self) -> None:
        """Accept connections again, on the same port as before `down()`.

        Raises RuntimeError if the venue was not started.
        """
        if self._listener is None:
            raise RuntimeError("the venue was not started: call start()")
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
                self.connections = [peer for peer in self.connections if not peer.closed]
            self.connections.append(peer)
            peer._thread.start()
            self.lock.notify_all()

    # Connections

    @property
    def url(self) -> str:
        """`ws://host:port/`, or `wss://` with an `ssl_context`."""
        scheme = "ws" if self._ssl_context is None else "wss"
        return f"{scheme}://{netloc(self.host, self.port)}/"

    @property
    def live(self) -> list[Peer]:
        """The peers whose connection is open and not broken by a fault."""
        return [peer for peer in self.peers if peer.live]

    def subscribers(self, *channels: str) -> list[Peer]:
        """Return the live peers subscribed to one of `channels`, or to anything without any."""
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
        """Return the next connection that completed its handshake, each once, in order.

        Raises TimeoutError if there is none within `timeout` (s).
        """
        with self.lock:
            if not self.lock.wait_for(lambda: len(self.peers) > self._accepted, timeout):
                raise TimeoutError(f"no new connection within {timeout} s to {self}")
            self._accepted += 1
            return self.peers[self._accepted - 1]

    def wait_for(self, predicate: Callable[[FakeVenue], T], timeout: float = 5.0) -> T:
        """Block until `predicate(venue)` is true, and return its result.

        It is called at every change of the venue, under its lock, and must not block. Raises
        TimeoutError if it is not true within `timeout` (s).
        """
        with self.lock:
            result = self.lock.wait_for(lambda: predicate(self), timeout)
            if not result:
                raise TimeoutError(f"{predicate!r} was not true within {timeout} s for {self}")
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
        """Break the next `times` handshakes.

        - `"deaf"`: TCP is accepted, but nothing is ever answered, not even TLS;
        - `"reset"`, `"eof"`: a RST or FIN at once;
        - `"drip"`: the reply comes at one byte every 50 ms and never ends;
        - `"headers"`: the reply's headers never end, and come as fast as the client reads;
        - `"garbage"`: the reply is not HTTP, and the connection stays open.

        Raises ValueError for any other `kind`.
        """
        if kind not in get_args(HandshakeFault):
            raise ValueError(f"unknown handshake fault {kind!r}")
        self._queue_faults(HandshakeFailure(kind), times)

    def _queue_faults(self, fault: HandshakeFailure, times: int) -> None:
        with self.lock:
            self._faults.extend([fault] * times)

    # Market data

    def publish(self, channel: str, **fields: Any) -> int:
        """Send `fields` as the next message of `channel` to every live peer subscribed to it.

        Return its sequence number, which counts from 1 whether or not anyone is subscribed.
        """
        with self.lock:
            sequence = self.sequence(channel) + 1
            self._sequences[channel] = sequence
            self.broadcast(self.protocol.data(channel, sequence, fields), channel)
            return sequence

    def broadcast(self, payload: Payload, *channels: str) -> int:
        """Send `payload` unchanged to every live peer subscribed to one of `channels`.

        Without `channels`, send it to every live peer with a subscription. Return the number of
        peers.
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
        """Hold the venue's lock, and send all messages of the context at its end.

        They go out in as few writes as possible.
        """
        with self.lock:
            self._is_batching = True
            try:
                yield
            finally:
                self._is_batching = False
                for peer in self.live:
                    peer._flush()

    def sequence(self, channel: str) -> int:
        """Return the number of the latest message published on `channel`, 0 for none."""
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
        """Return why `channel` is refused, or None. For protocols."""
        reason = self._refusals.get(channel)
        if reason is None and self.channels is not None and channel not in self.channels:
            return f"there is no channel {channel!r} here, only {', '.join(self.channels)}"
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
        """Return whether requests about `channel` are left unanswered. For protocols."""
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
