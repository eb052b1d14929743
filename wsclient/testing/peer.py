"""The venue's end of one connection, as tests and protocols use it.

It has four layers: `wire` has the socket and its thread, `connection` the WebSocket on it,
`expecting` what tests wait for, and this module the messages and subscriptions of one client. A
peer knows its venue and the protocol of the venue only by the types here. The rules about locks
and threads are in `venue`.
"""

from __future__ import annotations

import functools
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from wsclient.testing.accounts import Account, OrderChange
from wsclient.testing.delivery import Delivery, Outlet, Update
from wsclient.testing.expecting import _Expecting
from wsclient.testing.frames import Assembler, Payload, as_bytes, encode, frames
from wsclient.testing.handshakes import HandshakeFailure
from wsclient.testing.journal import Traced
from wsclient.testing.limits import ChannelRefusal, Pace, VenueLimits, key_of
from wsclient.testing.rest import RestCall
from wsclient.testing.routes import Route, RouteTable
from wsclient.testing.wire import Terms

__all__ = ["Peer", "Sent", "Venue", "VenueProtocol", "VenueTraits"]


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
    trace: deque[Traced]
    requests: list[Request]
    calls: list[RestCall]
    accounts: Sequence[Account]
    log: Callable[[Peer, str], None] | None
    limits: VenueLimits
    seed: int
    delivery: Delivery

    @property
    def traits(self) -> VenueTraits:
        """What the protocol says of the venue beyond the conversation."""

    @property
    def routes(self) -> RouteTable:
        """The routes of the venue."""

    def refusal(self, channel: str, route: str | None = None) -> str | None:
        """Return why `channel` is refused, or None."""

    def muted(self, channel: str) -> bool:
        """Return whether requests about `channel` are left unanswered."""

    def admit(self, peer: Peer, address: str, key: str | None) -> HandshakeFailure | int | None:
        """Return how to refuse a handshake: by an answer or a close code; None to accept it."""

    def opened(self, peer: Peer) -> None:
        """Take a connection that has completed its handshake."""

    def flush(self, *peers: Peer) -> None:
        """Send the updates that wait for more of them."""

    def withholds(self, peer: Peer) -> bool:
        """Return whether a fault withholds the answer to a request about orders; it strikes now."""

    def report(self) -> None:
        """Send what has happened to orders to those who are subscribed."""


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


class VenueTraits(Protocol):
    """What a protocol says of its venue beyond the conversation. `ScriptedProtocol` has defaults.

    `routes` are the routes by name, `default_route` the route of a path without one; None carries
    all channels. `end` is the code and the reason with which the venue closes a connection at its
    age or for a shutdown, None without a close frame. `too_fast` are those for a client that sends
    too much. `gateway_time` finds the time (ms) that each gateway writes itself, in group 2.
    `answers_whole`: nothing is published to a client amid an answer, such as before the snapshot
    that belongs to it. `credential_fields` says which fields the credentials of a client have, and
    which fields of an `Account` they are.
    """

    @property
    def routes(self) -> Mapping[str, Route]: ...
    @property
    def default_route(self) -> str | None: ...
    @property
    def end(self) -> tuple[int, str] | None: ...
    @property
    def too_fast(self) -> tuple[int, str]: ...
    @property
    def gateway_time(self) -> re.Pattern[str] | None: ...
    @property
    def answers_whole(self) -> bool: ...
    @property
    def credential_fields(self) -> Mapping[str, str]: ...

    def shutdown_notice(self, peer: Peer) -> Payload | None:
        """Return the venue's notice that it will close the connection, None if it has none."""

    def join(self, channel: str, updates: Sequence[Update]) -> Payload | None:
        """Return one message for several updates that follow each other, None if there is none."""

    def personal(self, peer: Peer, channel: str, payload: Payload) -> Payload | None:
        """Return a published message as one connection gets it; None if it does not."""

    def rest(self, call: RestCall, accounts: Sequence[Account]) -> bytes | None:
        """Return the JSON that answers a request by REST that is no GET, None for a status 404."""

    def is_private(self, channel: str) -> bool:
        """Return whether a client must log in to subscribe to a channel."""

    def news(
        self, account: Account, change: OrderChange
    ) -> Iterable[tuple[str, Payload | Mapping[str, Any]]]:
        """Return the private channels that report a change of an order, each with its message.

        Or with the fields of one, which `data` then numbers and writes.
        """

    def pair(self, symbol: str) -> tuple[str, str] | None:
        """Return the currencies that a symbol trades, None if balances do not change with it."""


class Peer(_Expecting):
    """The venue's end of one connection: it sends, injects faults, and checks what arrives.

    `id` is the number of the TCP attempt, from 1. `journal` has every data message sent, `received`
    every one received, `pings` and `pongs` the payloads of control frames. `ended_by` is None until
    one side ends the connection, then the first cause: `"fin"`, `"rst"`, `"close 1001"`,
    `"half frame"`, `"client close 1000"`, `"client eof"`, `"client reset"`, `"venue closed"`.
    `route` is the route of the connection, `key` the API key of its handshake, and `lost` has the
    published messages that its `Delivery` has lost. `account` is the one that the client has logged
    in to, or None.

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
        address: str,
    ) -> None:
        super().__init__(terms, sock, id, fault)
        self.venue = venue
        self.route: str | None = None
        self.key: str | None = None
        self.account: Account | None = None
        self.outlet = Outlet(
            f"{venue.seed}/{id}",
            lambda payload: self._say([payload]),
            self.wire.call_at,
            time.monotonic,
        )
        self.outlet.delivery = venue.delivery
        self.lost = self.outlet.lost
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
        self._address = address
        self._pace = Pace()
        self._is_too_fast = False

    def __repr__(self) -> str:
        state = "live" if self.live else f"ended by {self.ended_by}" if self.ended_by else "opening"
        return f"<Peer {self.id} {state}, {len(self.journal)} sent, {len(self.received)} received>"

    # Subscriptions, which the protocol changes

    @property
    def subscriptions(self) -> set[str]:
        """The channels that the client is subscribed to."""
        return set(self._subscriptions)

    def subscribe(self, channel: str, **options: Any) -> ChannelRefusal | None:
        """Subscribe the client, or return the reason if the venue refuses `channel`."""
        with self._lock:
            reason = self.refusal(channel)
            if reason is None:
                self.venue.flush(self)  # what waits is older than the snapshot that may follow
                self._subscriptions[channel] = options
                self._lock.notify_all()
                self._note(f"subscribed to {channel}")
            return reason

    def login(self, account: Account, *channels: str) -> None:
        """Log the client in, and subscribe it to channels that it need not ask for."""
        with self._lock:
            self.account = account
            self._subscriptions |= {channel: {} for channel in channels}
            self._lock.notify_all()
            self._note(f"logged in with the key {account.api_key[:4]}...")

    def refusal(self, *channels: str) -> ChannelRefusal | None:
        """Return why the venue refuses a request for these channels together, or None."""
        reason = _refusal(self, channels)
        if reason is not None:
            self._note(f"refused {', '.join(channels)}: {reason}")
        return reason

    def unsubscribe(self, channel: str) -> bool:
        """Unsubscribe the client, or return False if it is not subscribed."""
        with self._lock:
            known = self._subscriptions.pop(channel, None) is not None
            for name in (channel, f"{self.route}:{channel}"):
                self.outlet.take(name)
            self._lock.notify_all()
            if known:
                self._note(f"unsubscribed from {channel}")
            return known

    def options(self, channel: str) -> dict[str, Any]:
        """Return the options of the subscription to `channel`. Raises KeyError without one."""
        return self._subscriptions[channel]

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
                    self.venue.trace.append(Traced(sent.time, self.id, "received", payload))
                self.wire.write(data)
                self._lock.notify_all()
            return sent

    def deliver(self, delivery: Delivery) -> None:
        """Deliver published messages in this way from now on."""
        with self._lock:
            self.outlet.delivery = delivery

    def lose(self, count: int = 1) -> None:
        """Lose the next `count` published messages."""
        with self._lock:
            self.outlet.lose(count)

    def stall(self, on: bool = True) -> None:
        """Hold published messages back, but no answers, or send all that were held, in order."""
        with self._lock:
            self.outlet.stall(on)

    def mute(self, on: bool = True) -> None:
        """Stop sending messages, both data and answers. Pings are still answered."""
        with self._lock:
            self._is_muted = on

    # What happens on the connection

    def expire(self) -> None:
        """Close the connection as the venue does at its age, or for a shutdown."""
        with self._lock:
            end = self.venue.traits.end
            if not self.live:
                return
            if end is None:
                self.fin()
            else:
                self.close(*end)

    def _note(self, text: str) -> None:
        if self.venue.has_journal:
            self.venue.trace.append(Traced(time.time_ns(), self.id, "event", text))
        if self.venue.log is not None:
            self.venue.log(self, text)

    def _asked(self, request: Request | RestCall) -> bytes | None:
        venue, is_answered = self.venue, self._fault is None
        if isinstance(request, RestCall):
            if venue.has_journal:
                venue.calls.append(request)
            return venue.traits.rest(request, venue.accounts) if is_answered else None
        if venue.has_journal:
            venue.requests.append(request)
        is_answered = is_answered and "Upgrade" not in request.headers
        return venue.protocol.http(request.path) if is_answered else None

    def _admit(self, request: Request) -> HandshakeFailure | int | None:
        self.route = self.venue.routes.of(request.path)
        self.key = key_of(request, self.venue.limits.key)
        return self.venue.admit(self, self._address, self.key)

    def _established(self) -> None:
        # Before the client gets the answer: a test looks for its peer once it is connected.
        self.venue.opened(self)
        self._note("connected")
        self._transmit()
        if self.venue.limits.max_age is not None:
            self.call_later(self.venue.limits.max_age, self.expire)
        self._say(self.venue.protocol.greeting(self))

    def _frame(self, frame: Frame, now: float) -> None:
        if frame.opcode in (Opcode.PING, Opcode.PONG) and self.venue.limits.counts_control_frames:
            self._exceeds(now)
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

    def _exceeds(self, now: float) -> bool:
        """Count a message of the client. Return whether it is refused."""
        limits = self.venue.limits
        is_too_fast = self._pace.exceeds(limits.messages, now) > 0
        if is_too_fast and limits.excess == "close" and self.live:
            self.close(*self.venue.traits.too_fast)
        return is_too_fast

    def _message(self, payload: Payload, now: float) -> None:
        if self.venue.has_journal:
            self.received.append(payload)
            self.venue.trace.append(Traced(time.time_ns(), self.id, "sent", payload))
        is_too_fast = self._exceeds(now)
        # A message never overtakes an earlier one, even if `ack_delay` has become shorter.
        self._handled_until = max(self._handled_until, now + self.venue.ack_delay)
        if self._handled_until <= now:
            self._answer(payload, is_too_fast)
        else:
            answer = functools.partial(self._answer, payload, is_too_fast)
            self.wire.call_at(self._handled_until, answer)

    def _answer(self, payload: Payload, is_too_fast: bool) -> None:
        if self.live:
            self._is_too_fast = is_too_fast
            whole = self.venue.lock if self.venue.traits.answers_whole else nullcontext()
            with whole:
                self._say(self.venue.protocol.received(self, payload))
            self._is_too_fast = False

    def _say(self, payloads: Iterable[Payload]) -> None:
        for payload in payloads:
            if self.live:
                self.send(payload)


def _refusal(peer: Peer, channels: Sequence[str]) -> ChannelRefusal | None:
    if peer._is_too_fast:
        return ChannelRefusal("too many messages", "rate")
    venue = peer.venue
    for channel in channels:
        reason = venue.refusal(channel, peer.route)
        if reason is not None:
            return ChannelRefusal(reason, "channel")
        reason = venue.routes.refusal(peer.route, channel)
        if reason is not None:
            return ChannelRefusal(reason, "route")
        if peer.account is None and venue.accounts and venue.traits.is_private(channel):
            return ChannelRefusal(f"{channel} needs a login", "login")
    most = venue.limits.channels
    if most is not None and len(peer.subscriptions | set(channels)) > most:
        return ChannelRefusal(f"a connection has at most {most} channels", "limit")
    return None
