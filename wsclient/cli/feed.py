"""A made-up market, published by a fake venue: for ``wsclient demo`` and ``wsclient serve``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate
from random import Random

from wsclient.testing import FakeVenue, Payload
from wsclient.testing.market import Depth, Instrument, Listing
from wsclient.testing.protocols import MarketProtocol

__all__ = ["Feed"]

#: How far (s) the feed may fall behind and still catch up; beyond this it skips messages.
PATIENCE = 0.5
#: The most messages that are published at once, and how long (s) the lock is then free for others.
BATCH = 100
PAUSE = 0.0005
JOIN_TIMEOUT = 5.0


class Feed:
    """A thread that publishes made-up market data, the same for the same seed.

    It publishes whether or not a client is connected. ``channels`` gives the messages per second
    of each channel; the venue's protocol must list all of them. ``published(channel, number)`` is
    called on the feed's thread with each sequence number that the venue assigned. ``is_late`` is
    True once the feed could not keep up with these rates.

    Raises ValueError for a channel that the protocol does not list.
    """

    def __init__(
        self,
        venue: FakeVenue,
        protocol: MarketProtocol,
        channels: Mapping[str, float],
        seed: int,
        published: Callable[[str, int], None] | None = None,
    ) -> None:
        self._venue = venue
        self._protocol = protocol
        self._channels = list(channels)
        self._weights = list(accumulate(channels.values()))
        self._random = Random(seed)
        self._published = published
        self.listings: dict[str, Listing] = {}
        self.is_late = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wsclient-feed", daemon=True)
        instruments: dict[str, Instrument] = {}
        for channel in channels:
            listed = protocol.listing(channel)
            if listed is None:
                raise ValueError(f"no channel {channel!r}")
            symbol, kind = listed
            if symbol not in instruments:
                instruments[symbol] = Instrument(symbol, seed)
            listing = self.listings[channel] = Listing(instruments[symbol], kind)
            if listing.snapshot() is not None:
                protocol.snapshots[channel] = partial(self._snapshot, channel)

    def __enter__(self) -> Feed:
        for channel, listing in self.listings.items():
            event = listing.snapshot()
            if isinstance(event, Depth):  # number 1 is the initial book, before all updates
                fields = self._protocol.fields(channel, event, is_snapshot=True)
                self._venue.publish(channel, **fields)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop publishing, and wait for the thread to end."""
        self._stopped.set()
        self._thread.join(JOIN_TIMEOUT)

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
        (channel,) = self._random.choices(self._channels, cum_weights=self._weights)
        fields = self._protocol.fields(channel, self.listings[channel].next())
        number = self._venue.publish(channel, **fields)
        if self._published is not None:
            self._published(channel, number)

    def _snapshot(self, channel: str) -> Payload:
        event = self.listings[channel].snapshot()
        if event is None:
            raise ValueError(f"{channel} has no snapshot")
        fields = self._protocol.fields(channel, event, is_snapshot=True)
        return self._protocol.data(channel, self._venue.sequence(channel), fields)
