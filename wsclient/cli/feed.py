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

#: So far (s) the feed may be behind; what is more is not made up for.
PATIENCE = 0.5
#: So many messages are published at once at most, and so long (s) others may have the lock then.
BATCH = 100
PAUSE = 0.0005
JOIN_TIMEOUT = 5.0


class Feed:
    """Publishes on a thread of its own, whoever listens; the same for the same seed.

    ``channels`` says how many messages a second there are of each; all must be listed by the
    venue's protocol. ``published(channel, number)`` is called with each number that the venue gave
    out, on the feed's thread. ``is_late``: it could not keep up with so many.
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
            if isinstance(event, Depth):  # number 1 is the book as it begins, before all changes
                fields = self._protocol.fields(channel, event, is_snapshot=True)
                self._venue.publish(channel, **fields)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Publish no more, once it returns."""
        self._stopped.set()
        self._thread.join(JOIN_TIMEOUT)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopped.wait(max(PAUSE, due - time.monotonic())):
            now = time.monotonic()
            if due < now - PATIENCE:
                due, self.is_late = now, True
            # One write for all that is due by now, under the lock, so that a snapshot fits what
            # follows on it.
            with self._venue.batch():
                for _ in range(BATCH):
                    self._publish()
                    due += self._random.expovariate(self._weights[-1])
                    if due > now:
                        break

    def _publish(self) -> None:
        (channel,) = self._random.choices(self._channels, cum_weights=self._weights)
        fields = self._protocol.fields(channel, self.listings[channel].next())
        number = self._venue.publish(channel, **fields)
        if self._published is not None:
            self._published(channel, number)

    def _snapshot(self, channel: str) -> Payload:
        event = self.listings[channel].snapshot()
        assert event is not None
        fields = self._protocol.fields(channel, event, is_snapshot=True)
        return self._protocol.data(channel, self._venue.sequence(channel), fields)
