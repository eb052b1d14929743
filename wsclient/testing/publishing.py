"""What a venue sends by itself: the messages of channels, and notices."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from wsclient.testing.delivery import Delivery, Update
from wsclient.testing.frames import Payload
from wsclient.testing.journal import Journal, Published, Traced
from wsclient.testing.peer import Peer, VenueProtocol, VenueTraits
from wsclient.testing.routes import RouteTable
from wsclient.testing.wire import Terms


class _Publishing:
    """The part of a `FakeVenue` that sends messages to all who are subscribed."""

    lock: threading.Condition
    peers: list[Peer]
    _open: list[Peer]
    protocol: VenueProtocol
    traits: VenueTraits
    routes: RouteTable
    delivery: Delivery
    journal: Journal
    trace: deque[Traced]
    has_journal: bool
    tamper: Callable[[Peer, str, Payload], Iterable[Payload]] | None
    _terms: Terms
    _sequences: dict[str, int]

    @property
    def live(self) -> list[Peer]:
        """The peers whose connection is open and not broken by a fault."""
        with self.lock:
            # Not from `peers`, in which those that have ended pile up.
            self._open = [peer for peer in self._open if peer.live]
            return self._open.copy()

    def subscribers(self, *channels: str) -> list[Peer]:
        """Return the live peers subscribed to one of `channels`, or to anything without any.

        A channel may name a route: `linear:tickers.BTCUSDT`.
        """
        if not channels:
            return [peer for peer in self.live if peer._subscriptions]
        wanted = [self.routes.split(channel) for channel in channels]
        return [peer for peer in self.live if any(_is_subscribed(peer, *each) for each in wanted)]

    def publish(self, channel: str, **fields: Any) -> int:
        """Send `fields` as the next message of `channel` to every live peer subscribed to it.

        A channel that names a route, such as `linear:tickers.BTCUSDT`, is a channel of its own: its
        messages go to the connections of this route. Return the sequence number, which counts from
        1 whether or not anyone is subscribed.
        """
        with self.lock:
            sequence = self.sequence(channel) + 1
            self._sequences[channel] = sequence
            route, name = self.routes.split(channel)
            payload = self.protocol.data(name, sequence, fields)
            peers = self.subscribers(channel)
            if self.has_journal:
                ids = tuple(peer.id for peer in peers)
                self.journal.add(Published(channel, sequence, payload, route, ids))
                plural = "s" if len(ids) > 1 else ""
                to = f"to {len(ids)} connection{plural}" if ids else "without a subscriber"
                text = f"published {channel} {sequence} {to}"
                self.trace.append(Traced(time.time_ns(), 0, "event", text))
            update = Update(sequence, fields, payload)
            for peer in peers:
                self._send(peer, channel, name, self._gather(peer, channel, name, update))
            return sequence

    def _gather(self, peer: Peer, channel: str, name: str, update: Update) -> list[Update]:
        """Return the updates that go out now: none if this one waits for more."""
        if peer.outlet.delivery.cut > 1 and self.traits.join(name, [update]) is None:
            waiting = [each for _, updates in peer.outlet.take(channel) for each in updates]
            return [*waiting, update]
        return peer.outlet.gather(channel, update)

    def _send(self, peer: Peer, channel: str, name: str, updates: list[Update]) -> None:
        """Send updates of a channel, as one message if the venue has such messages.

        `name` is the channel without a route.
        """
        joined = self.traits.join(name, updates) if len(updates) > 1 else None
        if joined is not None:
            span = updates[0].sequence, updates[-1].sequence
            if self.has_journal:
                self.journal.wrote(channel, joined, *span)
            self._post(peer, channel, name, joined, *span)
            return
        for update in updates:
            self._post(peer, channel, name, update.payload, update.sequence, update.sequence)

    def _post(
        self, peer: Peer, channel: str, name: str, written: Payload, first: int = 0, last: int = 0
    ) -> None:
        """Send what carries the messages `first` to `last` of a channel, or none of them."""
        personal = self.traits.personal(peer, name, written)
        if personal is None:
            return
        payload = peer.outlet.stamp(personal, self.traits.gateway_time)
        if first and payload is not written and self.has_journal:
            self.journal.wrote(channel, payload, first, last)
        if self.tamper is None:
            peer.outlet.put(payload)
            return
        for replacement in self.tamper(peer, channel, payload):
            peer.outlet.put(replacement)

    def broadcast(self, payload: Payload, *channels: str) -> int:
        """Send `payload` unchanged to every live peer subscribed to one of `channels`.

        Without `channels`, send it to every live peer with a subscription. Return the number of
        peers.
        """
        with self.lock:
            peers = self.subscribers(*channels)
            for peer in peers:
                if channels:
                    self._post(peer, channels[0], channels[0], payload)
                else:
                    peer.send(payload)
            return len(peers)

    def flush(self, *peers: Peer) -> None:
        """Send all updates that wait for more of them, or those for some peers."""
        with self.lock:
            for peer in peers or self.live:
                for channel, updates in peer.outlet.take():
                    self._send(peer, channel, self.routes.split(channel)[1], updates)

    def deliver(self, delivery: Delivery, on: Literal["all", "present", "new"] = "all") -> None:
        """Deliver published messages in this way on the connections of now, those to come, or all.

        A peer's own `deliver`, `lose` and `stall` are for one connection.
        """
        with self.lock:
            if on != "present":
                self.delivery = delivery
            for peer in self.peers if on != "new" else ():
                peer.deliver(delivery)

    def announce_shutdown(self, *peers: Peer, close_after: float | None = None) -> list[Peer]:
        """Send the venue's notice of a shutdown to `peers`, or to all that are live.

        With `close_after` (s) the connections are closed then, as the venue closes them. Return the
        peers that got it. Raises ValueError if the venue has no such notice.
        """
        with self.lock:
            told = [peer for peer in peers or self.live if peer.live]
            for peer in told:
                notice = self.traits.shutdown_notice(peer)
                if notice is None:
                    raise ValueError(f"{self.protocol} has no notice of a shutdown")
                peer.send(notice)
                if close_after is not None:
                    peer.call_later(close_after, peer.expire)
            return told

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Hold the venue's lock, and send all messages of the context at its end.

        They go out in as few writes as possible.
        """
        with self.lock:
            self._terms.is_batching = True
            try:
                yield
            finally:
                self._terms.is_batching = False
                for peer in self.live:
                    peer.wire.flush()

    def sequence(self, channel: str) -> int:
        """Return the number of the latest message published on `channel`, 0 for none."""
        return self._sequences.get(channel, 0)


def _is_subscribed(peer: Peer, route: str | None, name: str) -> bool:
    return name in peer._subscriptions and (route is None or route == peer.route)
