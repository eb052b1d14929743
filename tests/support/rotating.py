"""A client under full load at a fake venue, whose connections are replaced again and again.

Everything is compared with the venue's journal at the end. Order books are sampled all the time, on
a thread of their own, and compared with those of the venue.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import wsclient
from support.helpers import Call, until
from wsclient import dialects
from wsclient.dialect.base import Dialect
from wsclient.testing import KINDS, Comparison, FakeVenue, Feed, Peer, VenueLimits
from wsclient.testing.market import Depth

__all__ = ["BOOKS", "PATIENCE", "PROVABLE", "Rig", "Watch", "dialect_of", "rig_of"]

#: The kinds of channels on which a rotation is always proven: their numbers say what is missing.
PROVABLE = ("counted", "range", "pointer")
#: The symbol of each kind's order book.
BOOKS = {"range": "BTCUSDT", "pointer": "BTC-USDT", "connection": "tBTCUSD", "checksum": "BTC/USD"}
#: How long (s) anything may take that is waited for, on a machine under load.
PATIENCE = 20.0
#: How many of the venue's last messages a book may be behind where it has no number.
MEMORY = 2000
#: The last message of each channel is looked for among so many.
LAST = 200

Best = tuple[Any, Any]


def dialect_of(kind: str, rest: str = "", **limits: Any) -> Dialect:
    """Return the dialect of a kind, with other limits: no budget of connects by default."""
    protocol, _ = KINDS[kind]
    base: type[Dialect] = type(dialects.find(protocol))
    changed = dataclasses.replace(dialects.find(protocol).limits, **{"connects": None, **limits})

    class Changed(base):  # type: ignore[misc, valid-type]
        limits = changed

    return Changed(rest=rest) if protocol == "binance" else Changed()


class Rig:
    """A venue, its feed, and a client whose messages are collected on a thread."""

    def __init__(
        self,
        kind: str,
        venue: FakeVenue,
        feed: Feed,
        client: wsclient.WebSocketClient,
        bests: dict[int, Best],
        book: wsclient.OrderBook | None,
    ) -> None:
        self.kind, self.venue, self.feed, self.client = kind, venue, feed, client
        #: The best prices of the venue's book as of each of its messages.
        self.bests = bests
        #: The order book, of a kind that has one. It was there first: there is no refresh.
        self.book = book
        self.channels = list(feed.listings)
        self.channel, self.count = self.channels[0], len(self.channels)
        self.delivered: list[wsclient.Message] = []
        self.reading = Call(self._read)

    def _read(self) -> None:
        with contextlib.suppress(wsclient.ClientClosed):
            for message in self.client:
                self.delivered.append(message)

    @property
    def carriers(self) -> list[Peer]:
        """The venue's ends of the connections that carry all channels, oldest first."""
        wanted = set(self.channels)
        return [peer for peer in self.venue.live if peer.subscriptions == wanted]

    @property
    def is_whole(self) -> bool:
        """Whether one connection is left, which carries all channels."""
        found = self.client.subscriptions
        is_active = all(c in found and found[c].is_active for c in self.channels)
        return is_active and len(self.venue.live) == 1 == len(self.carriers)

    @property
    def rotations(self) -> int:
        return self.client.stats().rotations

    def rotate(self) -> None:
        """Replace the connection, and let messages come after that."""
        self.client.rotate(timeout=PATIENCE)
        self.feed.wait(20, PATIENCE)

    def wait_rotations(self, count: int) -> None:
        until(lambda: self.rotations >= count, count * PATIENCE)

    def finish(self) -> Comparison:
        """End the feed, wait for its last message, and compare what was delivered with it."""
        self.feed.stop()
        until(self._has_end, PATIENCE)
        return self.venue.journal.compare(self.delivered)

    def _has_end(self) -> bool:
        last = {message.channel: message for message in self.delivered[-LAST:]}
        found = self.venue.journal.compare(last.values())
        return last.keys() == set(self.channels) and not found.of("lost")


class Watch:
    """Samples the client's order book on a thread, and compares it with that of the venue."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        #: How often the book was read, and equal to the venue's at the same number.
        self.reads = self.compared = 0
        #: Why the book was not in sync, or wrong.
        self.faults: list[str] = []
        self._is_over = threading.Event()
        self._sampling = Call(self._sample)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._sampling.result(PATIENCE)

    def _sample(self) -> None:
        book, bests = self._rig.book, self._rig.bests
        while book is not None and not self._is_over.wait(0.001):
            number = book.sequence
            try:
                bid, ask = book.best()
            except wsclient.OrderBookOutOfSync as error:
                # On a busy machine messages may wait; reading says so, and the book is not wrong.
                if "waited" not in str(error) and "waiting" not in str(error):
                    self.faults.append(str(error))
                continue
            self.reads += 1
            if self._rig.kind == "connection":  # a message of it is one level of several
                is_right = bid is None or ask is None or bid.price < ask.price
            elif number is None:
                is_right = (bid, ask) in list(bests.values())[-MEMORY:]
            elif book.sequence != number:
                continue  # between the two, a message was applied
            else:
                is_right = (bid, ask) == bests.get(number)
            self.compared += 1
            if not is_right:
                self.faults.append(f"{bid} and {ask} at {number}: {bests.get(number or 0)}")


@contextlib.contextmanager
def rig_of(
    kind: str,
    rate: float,
    seed: int,
    *,
    limits: VenueLimits | None = None,
    max_age: float | None = None,
    most: int | None = None,
    each: int | None = None,
    count: int = 1,
    log: Callable[[Peer, str], None] | None = None,
    **options: Any,
) -> Iterator[Rig]:
    """Run a venue of a kind with ``rate`` events per second, and a client that is subscribed.

    ``count`` is the number of channels, at most three, ``most`` that of connections, ``each`` that
    of channels per connection.
    """
    protocol, channel = KINDS[kind]
    with FakeVenue(protocol, seed=seed, limits=limits or VenueLimits(), log=log) as venue:
        rest = venue.url.replace("ws:", "http:") + "depth"
        dialect = dialect_of(
            kind, rest, max_age=max_age, connections=most, channels_per_connection=each
        )
        options = {"retry_delay": 0.01, "max_retry_delay": 0.1, "queue_size": 10**6, **options}
        bests: dict[int, Best] = {}
        symbols = venue.protocol.symbols
        channels = [channel.replace(symbols[0], symbol) for symbol in symbols[:count]]

        def note(name: str, number: int) -> None:
            found = feed.listings[channel].snapshot()
            if name == channel and isinstance(found, Depth):
                bests[number] = found.bids[0], found.asks[0]

        feed = Feed(venue, dict.fromkeys(channels, rate / count), seed=seed, published=note)
        note(channel, 0)
        note(channel, 1)
        with (
            feed,
            wsclient.connect(venue.url, dialect=dialect, **options) as client,
        ):
            book = client.order_book(BOOKS[kind], timeout=PATIENCE) if kind in BOOKS else None
            client.subscribe(*channels)
            yield Rig(kind, venue, feed, client, bests, book)
