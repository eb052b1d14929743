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

import socket
import ssl
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TypeVar, get_args

from websockets.http11 import Request
from websockets.typing import Subprotocol

from wsclient.testing import venues
from wsclient.testing.accounts import Account
from wsclient.testing.answering import _Answering
from wsclient.testing.delivery import AT_ONCE
from wsclient.testing.frames import Payload
from wsclient.testing.handshakes import HandshakeFailure, HandshakeFault, refusal
from wsclient.testing.journal import Journal, Traced
from wsclient.testing.limits import ConnectGate, VenueLimits
from wsclient.testing.listener import Listener
from wsclient.testing.peer import Peer, VenueProtocol, VenueTraits
from wsclient.testing.protocols import ScriptedProtocol
from wsclient.testing.rest import RestCall
from wsclient.testing.routes import Route, RouteTable
from wsclient.testing.sockets import netloc
from wsclient.testing.trading import _AnswerFault, _Trading
from wsclient.testing.wire import Terms

__all__ = ["FakeVenue"]

T = TypeVar("T")
#: How much of what has happened is remembered, beside the journals.
TRACE = 200

#: From one account to the next the numbers of orders differ by this much.
ORDERS = 1_000_000


class FakeVenue(_Trading, _Answering):
    """A WebSocket venue on a loopback port of its own; `with` starts and closes it.

    `protocol` says how it answers: `"generic"`, `"kraken"` or another name in `venues.NAMES`, an
    object (see `VenueProtocol`), or None, which answers only pings and close frames. `ack_delay`
    (s) delays the handling of each message by the protocol, and so both its effect and its answer.
    `receive_buffer` (bytes) sets SO_RCVBUF: if it is small, a client soon notices that the peer
    stops reading. With an `ssl_context` the venue speaks TLS.

    `port` 0 takes any free port. `channels` are the channels that exist (None: any); others are
    refused. `tamper(peer, channel, payload)` returns what `peer` is sent instead of a published
    message. `log(peer, text)` is called for whatever happens on a connection; `tell` is its old
    name. Both functions are called under the lock and must not block. Without a `journal` the venue
    keeps no record of messages sent or received, nor of connections that have ended, and `accept`
    does not work: this is for a venue that runs for days.

    `routes` replaces the routes of the protocol: paths that each carry their own channels.
    `limits` says what the venue allows; it can be replaced at any time. `seed` makes all that is
    random in a `Delivery` repeatable.

    `accounts` are those that clients can log in to, by default one. A client with the `credentials`
    of the venue is logged in to the first. Without any accounts logins are left unanswered, and
    private channels are like all others.
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
        log: Callable[[Peer, str], None] | None = None,
        journal: bool = True,
        tell: Callable[[Peer, str], None] | None = None,
        routes: Mapping[str, Route] | None = None,
        limits: VenueLimits = VenueLimits(),  # noqa: B008 - immutable
        seed: int = 0,
        accounts: Sequence[Account] | None = None,
    ) -> None:
        if isinstance(protocol, str):
            protocol = venues.find(protocol)()
        self.protocol: VenueProtocol = ScriptedProtocol() if protocol is None else protocol
        self.traits: VenueTraits = (
            self.protocol if isinstance(self.protocol, ScriptedProtocol) else ScriptedProtocol()
        )
        self.routes = RouteTable(
            self.traits.routes if routes is None else routes, self.traits.default_route
        )
        self.accounts = [Account()] if accounts is None else list(accounts)
        for index, account in enumerate(self.accounts):
            if not account.orders:  # else a venue before this one has numbered them
                account.first = 1 + index * ORDERS
        self.limits = limits
        self.seed = seed
        self.delivery = AT_ONCE
        self.journal = Journal()
        #: The latest that has happened, for people to read.
        self.trace: deque[Traced] = deque(maxlen=TRACE)
        self.ack_delay = ack_delay
        self.host = host
        self.port = 0
        self.channels = channels
        self.tamper = tamper
        if tell is not None:
            warnings.warn("FakeVenue(tell=...) is deprecated: use log", DeprecationWarning, 2)
        self.log = tell if log is None else log
        self.has_journal = journal
        self.attempts = 0
        self.requests: list[Request] = []
        self.calls: list[RestCall] = []
        self.peers: list[Peer] = []
        self._open: list[Peer] = []
        self.lock = threading.Condition(threading.RLock())
        self._terms = Terms(self.lock, ssl_context, [Subprotocol(name) for name in subprotocols])
        self._receive_buffer = receive_buffer
        self._wanted_port = port
        self._faults: deque[HandshakeFailure] = deque()
        self._route_faults: dict[str | None, deque[HandshakeFailure]] = {}
        self._sequences: dict[str, int] = {}
        self._refusals: dict[str, str] = {}
        self._muted: set[str | None] = set()
        self._answer_faults: list[_AnswerFault] = []
        self._gate = ConnectGate()
        self._accepted = 0
        self.connections: list[Peer] = []
        self._listener: Listener | None = None
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
        listener = Listener(self.host, self._wanted_port, self._receive_buffer, self._connected)
        try:
            listener.up()
        except OSError:
            listener.close()
            raise
        self._listener = listener
        self.port = listener.port

    def close(self) -> None:
        """End every connection, thread and socket; idempotent.

        Clients see their connection drop, without a close frame.
        """
        if self.closing.is_set() or self._listener is None:
            return
        self.closing.set()
        self._listener.close()
        with self.lock:
            self.lock.notify_all()
            for peer in self.connections:
                peer.wire.abandon("venue closed")
        for peer in self.connections:
            peer.wire.join()

    def down(self) -> None:
        """Refuse TCP connections from now on. Open ones stay open.

        The fault `down` of `wsclient serve` ends these, too. Raises RuntimeError if the venue was
        not started.
        """
        if self._listener is None:
            raise RuntimeError("the venue was not started: call start()")
        self._listener.down()

    def up(self) -> None:
        """Accept connections again, on the same port as before `down()`.

        Raises RuntimeError if the venue was not started.
        """
        if self._listener is None:
            raise RuntimeError("the venue was not started: call start()")
        self._listener.up()

    def _connected(self, sock: socket.socket) -> None:
        with self.lock:
            self.attempts += 1
            fault = self._faults.popleft() if self._faults else None
            peer = Peer(self, self._terms, sock, self.attempts, fault, _address(sock))
            if not self.has_journal:
                self.peers = [peer for peer in self.peers if not peer.closed]
                self.connections = [peer for peer in self.connections if not peer.closed]
            self.connections.append(peer)
            peer.wire.start()
            self.lock.notify_all()

    def opened(self, peer: Peer) -> None:
        """Take a connection that has completed its handshake."""
        self.peers.append(peer)
        self._open.append(peer)

    def admit(self, peer: Peer, address: str, key: str | None) -> HandshakeFailure | int | None:
        """Return how to refuse a handshake: by an answer or a close code; None to accept it."""
        keys = [other.key for other in self.live]
        refused = self._gate.refusal(self.limits, address, key, keys, time.monotonic())
        faults = self._route_faults.get(peer.route)
        return faults.popleft() if refused is None and faults else refused

    # Connections

    @property
    def url(self) -> str:
        """`ws://host:port/`, or `wss://` with an `ssl_context`."""
        scheme = "ws" if self._terms.ssl_context is None else "wss"
        return f"{scheme}://{netloc(self.host, self.port)}/"

    def route_url(self, route: str) -> str:
        """Return the address of a route. Raises ValueError if the venue has no such route."""
        return self.url.rstrip("/") + self.routes[route].path

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
        route: str | None = None,
    ) -> None:
        """Answer the next `times` handshakes with this HTTP status instead of 101.

        With a `route`, only those of this route, after all other refusals.
        """
        fault = refusal(status, retry_after, body, headers)
        with self.lock:
            faults = (
                self._faults if route is None else self._route_faults.setdefault(route, deque())
            )
            faults.extend([fault] * times)

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
        with self.lock:
            self._faults.extend([HandshakeFailure(kind)] * times)


def _address(sock: socket.socket) -> str:
    try:
        return str(sock.getpeername()[0])
    except OSError:
        return ""  # the client has gone already
