"""A made-up market, published by a fake venue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate
from random import Random
from typing import Any

from wsclient.testing.market import Depth, Instrument, Listing, MarketEvent
from wsclient.testing.protocols import MarketProtocol, Payload
from wsclient.testing.venue import FakeVenue

__all__ = ["KINDS", "Feed"]

#: How venues number their messages, with a protocol and a channel that do it so: by one each, as
#: ranges, by a pointer to the message before, per connection, not at all but with a checksum, and
#: not at all.
KINDS: Mapping[str, tuple[str, str]] = {
    "counted": ("generic", "BTC-USD"),
    "range": ("binance", "btcusdt@depth@100ms"),
    "pointer": ("okx", "books:BTC-USDT"),
    "connection": ("bitfinex", "book:tBTCUSD"),
    "checksum": ("kraken", "book:BTC/USD"),
    "none": ("kraken", "trade:BTC/USD"),
}

#: How far (s) the feed may fall behind and still catch up; beyond this it skips messages.
PATIENCE = 0.5
#: The most messages that are published at once, and how long (s) the lock is then free for others.
BATCH = 100
PAUSE = 0.0005
JOIN_TIMEOUT = 5.0


class Feed:
    """A thread that publishes made-up market data, the same for the same seed.

    It publishes whether or not a client is connected. ``channels`` gives the events per second of
    each channel, which may name a route; the venue's protocol must list all of them.
    ``published(channel, number)`` is called on the feed's thread with each sequence number that the
    venue assigned. ``count`` is the number of messages so far. ``is_late`` is True once the feed
    could not keep up with these rates.

    Raises ValueError for a channel that the protocol does not list, TypeError for a protocol that
    cannot write market data.
    """

    def __init__(
        self,
        venue: FakeVenue,
        channels: Mapping[str, float],
        *,
        seed: int = 0,
        published: Callable[[str, int], None] | None = None,
    ) -> None:
        protocol = venue.protocol
        if not isinstance(protocol, MarketProtocol):
            raise TypeError(f"{protocol!r} cannot write market data: it is no MarketProtocol")
        self._venue = venue
        self._protocol = protocol
        self._channels = list(channels)
        self._weights = list(accumulate(channels.values()))
        self._random = Random(seed)
        self._published = published
        self.listings: dict[str, Listing] = {}
        self.is_late = False
        self.count = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wsclient-feed", daemon=True)
        instruments: dict[str, Instrument] = {}
        for channel in channels:
            listed = protocol.listing(venue.routes.split(channel)[1])
            if listed is None:
                raise ValueError(f"no channel {channel!r}")
            symbol, kind = listed
            if symbol not in instruments:
                instruments[symbol] = Instrument(symbol, seed)
            listing = self.listings[channel] = Listing(instruments[symbol], kind)
            if listing.snapshot() is not None:
                with venue.lock:  # not amid an answer: what is subscribed gets the initial book
                    protocol.snapshots[channel] = partial(self._snapshot, channel)

    def __enter__(self) -> Feed:
        for channel, listing in self.listings.items():
            event = listing.snapshot()
            # Number 1 is the initial book, before all updates.
            if isinstance(event, Depth) and self._protocol.rest_path is None:
                self._venue.publish(channel, **self._fields(channel, event))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop publishing, wait for the thread to end, and send what waits for more updates."""
        self._stopped.set()
        self._thread.join(JOIN_TIMEOUT)
        self._venue.flush()

    def wait(self, count: int, timeout: float = 30.0) -> None:
        """Wait until ``count`` more messages have been published.

        Raises TimeoutError if they are not within ``timeout`` (s).
        """
        end = self.count + count
        self._venue.wait_for(lambda _: self.count >= end, timeout)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopped.wait(max(PAUSE, due - time.monotonic())):
            now = time.monotonic()
            if due < now - PATIENCE:
                due, self.is_late = now, True
            # All that is due now goes out in one write, under the lock: so a snapshot matches the
            # updates that follow it.
            with self._venue.batch():
                for _ in range(BATCH):
                    self.publish()
                    due += self._random.expovariate(self._weights[-1])
                    if due > now:
                        break

    def publish(self) -> None:
        """Publish the next event."""
        (channel,) = self._random.choices(self._channels, cum_weights=self._weights)
        with self._venue.lock:
            event = self.listings[channel].next()
            for fields in self._protocol.messages(self._venue.routes.split(channel)[1], event):
                number = self._venue.publish(channel, **fields)
                self.count += 1
                if self._published is not None:
                    self._published(channel, number)
            self._venue.lock.notify_all()

    def _snapshot(self, channel: str) -> Payload:
        event = self.listings[channel].snapshot()
        if event is None:
            raise ValueError(f"{channel} has no snapshot")
        sequence = self._venue.sequence(channel)
        name = self._venue.routes.split(channel)[1]
        return self._protocol.data(name, sequence, self._fields(channel, event))

    def _fields(self, channel: str, event: MarketEvent) -> dict[str, Any]:
        name = self._venue.routes.split(channel)[1]
        return self._protocol.fields(name, event, is_snapshot=True)
