"""The venue's end of one connection, as tests and protocols use it.

It has three layers: `wire` has the socket and its thread, `connection` the WebSocket on it, and
this module the messages and subscriptions of one client. A peer knows its venue and the protocol
of the venue only by the two types here. The rules about locks and threads are in `venue`.
"""

from __future__ import annotations

import functools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from wsclient.testing.connection import _WebSocket
from wsclient.testing.frames import Assembler, Payload, as_bytes, encode, frames
from wsclient.testing.handshakes import HandshakeFailure
from wsclient.testing.wire import Terms

__all__ = ["Peer", "Sent", "Venue", "VenueProtocol"]

T = TypeVar("T")


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


class Venue(Protocol):
    """What peers and protocols use of a venue. `FakeVenue` is one."""

    lock: threading.Condition
    protocol: VenueProtocol
    ack_delay: float
    has_journal: bool
    requests: list[Request]
    peers: list[Peer]
    log: Callable[[Peer, str], None] | None

    def refusal(self, channel: str) -> str | None:
        """Return why `channel` is refused, or None."""

    def muted(self, channel: str) -> bool:
        """Return whether requests about `channel` are left unanswered."""


class VenueProtocol(Protocol):
    """The venue's side of a conversation.

    All methods are called under the venue's lock and must not block. They record subscriptions
    with `peer.subscribe()` and `peer.unsubscribe()`, and ask `peer.venue` for refusals and muted
    answers.
    """

    def greeting(self, peer: Peer) -> Iterable[Payload]:
        """Return the first messages on a new connection."""

    def received(self, peer: Peer, payload: Payload) -> Iterable[Payload]:
        """Return the answers to a message of the client.

        Subscriptions change while the answers are generated.
        """

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        """Return the message that `publish(channel, **fields)` sends."""

    def http(self, path: str) -> bytes | None:
        """Return the JSON that answers a GET of `path`, or None if there is nothing there."""


class Peer(_WebSocket):
    """The venue's end of one connection: it sends, injects faults, and checks what arrives.

    `id` is the number of the TCP attempt, from 1. `journal` has every data message sent, `received`
    every one received, `pings` and `pongs` the payloads of control frames. `ended_by` is None until
    one side ends the connection, then the first cause: `"fin"`, `"rst"`, `"close 1001"`,
    `"half frame"`, `"client close 1000"`, `"client eof"`, `"client reset"`, `"venue closed"`.

    Methods that wait raise AssertionError if nothing comes within `timeout` (s) or before the end
    of the connection. Methods that send raise ConnectionError once the connection has ended.
    """

    def __init__(
        self,
        venue: Venue,
        terms: Terms,
        sock: socket.socket,
        id: int,
        fault: HandshakeFailure | None,
    ) -> None:
        super().__init__(terms, sock, id, fault)
        self.venue = venue
        self.journal: list[Sent] = []
        self.received: list[Payload] = []
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self._subscriptions: dict[str, dict[str, Any]] = {}
        self._expected = {"message": 0, "ping": 0, "pong": 0}
        self._assembler = Assembler()
        self._handled_until = 0.0
        self._is_muted = False
        self._sent = 0

    def __repr__(self) -> str:
        state = "live" if self.live else f"ended by {self.ended_by}" if self.ended_by else "opening"
        return f"<Peer {self.id} {state}, {len(self.journal)} sent, {len(self.received)} received>"

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
                self._note(f"subscribed to {channel}")
            else:
                self._note(f"refused {channel}: {reason}")
            return reason

    def unsubscribe(self, channel: str) -> bool:
        """Unsubscribe the client, or return False if it is not subscribed."""
        with self._lock:
            known = self._subscriptions.pop(channel, None) is not None
            self._lock.notify_all()
            if known:
                self._note(f"unsubscribed from {channel}")
            return known

    def options(self, channel: str) -> dict[str, Any]:
        """Return the options of the subscription to `channel`. Raises KeyError without one."""
        return self._subscriptions[channel]

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
        return self.send_fragments(payload, 1)

    def send_json(self, message: Any) -> Sent:
        """Send `message` as JSON without spaces, in a text frame."""
        return self.send(encode(message))

    def send_fragments(self, payload: Payload, count: int) -> Sent:
        """Send one message in `count` frames."""
        data = frames(payload, count)
        with self._sending():
            sent = Sent(self._sent + 1, self.id, as_bytes(payload), time.time_ns())
            if not self._is_muted:
                self._sent += 1
                if self.venue.has_journal:
                    self.journal.append(sent)
                self.wire.write(data)
                self._lock.notify_all()
            return sent

    def mute(self, on: bool = True) -> None:
        """Stop sending messages, both data and answers. Pings are still answered."""
        with self._lock:
            self._is_muted = on

    # What happens on the connection

    def _note(self, text: str) -> None:
        if self.venue.log is not None:
            self.venue.log(self, text)

    def _asked(self, request: Request) -> bytes | None:
        if self.venue.has_journal:
            self.venue.requests.append(request)
        if self._fault is not None or "Upgrade" in request.headers:
            return None
        return self.venue.protocol.http(request.path)

    def _established(self) -> None:
        # Before the client gets the answer: a test looks for its peer once it is connected.
        self.venue.peers.append(self)
        self._note("connected")
        self._transmit()
        self._say(self.venue.protocol.greeting(self))

    def _frame(self, frame: Frame, now: float) -> None:
        match frame.opcode:
            case Opcode.PING | Opcode.PONG if not self.venue.has_journal:
                pass
            case Opcode.PING:
                self.pings.append(bytes(frame.data))
            case Opcode.PONG:
                self.pongs.append(bytes(frame.data))
            case _:
                try:
                    payload = self._assembler.add(frame)
                except UnicodeDecodeError:
                    if self.live:
                        self.close(1007, "not UTF-8")
                else:
                    if payload is not None:
                        self._message(payload, now)

    def _message(self, payload: Payload, now: float) -> None:
        if self.venue.has_journal:
            self.received.append(payload)
        # A message never overtakes an earlier one, even if `ack_delay` has become shorter.
        self._handled_until = max(self._handled_until, now + self.venue.ack_delay)
        if self._handled_until <= now:
            self._answer(payload)
        else:
            self.wire.call_at(self._handled_until, functools.partial(self._answer, payload))

    def _answer(self, payload: Payload) -> None:
        if self.live:
            self._say(self.venue.protocol.received(self, payload))

    def _say(self, payloads: Iterable[Payload]) -> None:
        for payload in payloads:
            if self.live:
                self.send(payload)
