"""OrderBook: kept from a channel's messages. Reading raises rather than return a wrong book."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from typing import Any

from wsclient import dialects
from wsclient.messages import Message
from wsclient.options import check_timeout
from wsclient.runtime.keeper import LiveBook
from wsclient.sansio.book import Level, Side
from wsclient.sansio.dialect import Dialect

__all__ = ["OrderBook"]


class OrderBook:
    """An order book in exact Decimals, made by ``client.order_book()``, or fed by hand.

    By hand: ``OrderBook("kraken", "book:BTC/USD")``, then :meth:`apply` with each message, of a
    client or of a recording. ``options`` are those that the channel is subscribed with.

    It is *in sync* from a snapshot on, until anything casts doubt on it: a gap, a wrong checksum,
    a crossed book, a payload that makes no sense, the end of the subscription; and, with a client,
    the end of the connection that it came over, a message that may be missing (until the next one
    tells), or one that has been waiting to be applied for more than 0.25 s. Then reading raises
    OrderBookOutOfSync until the next snapshot, unless ``stale_ok`` is set, or passed: what is there
    may be wrong then. With a client, a read first waits for the messages that have come by then,
    for at most 10 ms.

    Any number of threads may read it, and feed it. A client's book keeps its client alive. In a
    signal handler that has interrupted a call of this package, all but :meth:`close` may raise
    ReentrantCall.
    """

    def __init__(
        self, dialect: str | Dialect, channel: str, verify_checksum: bool = True, **options: Any
    ) -> None:
        kept = LiveBook(dialects.find(dialect), channel, verify_checksum, options)
        self._begin(kept, kept.close)

    def _begin(self, kept: LiveBook, close: Callable[[], None]) -> None:
        self._kept = kept
        #: Of a client's book, it is the client's own method: that holds the client.
        self._close = close
        self.stale_ok = False

    @classmethod
    def _of(cls, kept: LiveBook, close: Callable[[], None]) -> OrderBook:
        """A client's: ``close`` is to end what keeps it."""
        book = cls.__new__(cls)
        book._begin(kept, close)
        return book

    @property
    def channel(self) -> str:
        """The channel whose messages it takes."""
        return self._kept.channel

    def close(self) -> None:
        """Keep it no longer: a client unsubscribes from its channel, unless somebody else reads
        that. Then reading raises OrderBookOutOfSync. Idempotent, and waits for nothing."""
        self._close()

    def __enter__(self) -> OrderBook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Its messages.

    def apply(self, message: Message) -> bool:
        """Take in the channel's next message; those of other channels are ignored.

        Returns whether the book is in sync after it. A KeyboardInterrupt leaves the book as it was
        before the message, or as it is after it, or out of sync.
        """
        self._kept.locks.check()
        return self._kept.apply(message)

    def take_snapshot(self, answer: Any) -> bool:
        """Take the venue's answer to ``dialect.book_request()``, decoded with Decimals.

        False where the changes that have come do not follow on it: a newer one is needed. Raises
        for what makes no sense.
        """
        self._kept.locks.check()
        return self._kept.take_snapshot(answer)

    # What is in it. What raises lets go of ``self``: a notebook keeps the frames of the last
    # traceback, and they must not keep the client.

    @property
    def best_bid(self) -> Level | None:
        """The highest bid, None where there is none."""
        kept, stale_ok = self._kept, self.stale_ok
        del self
        kept.catch_up()
        with kept.lock:
            kept.check(stale_ok)
            return kept.book.bids.best

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask, None where there is none."""
        kept, stale_ok = self._kept, self.stale_ok
        del self
        kept.catch_up()
        with kept.lock:
            kept.check(stale_ok)
            return kept.book.asks.best

    @property
    def mid(self) -> Decimal | None:
        """Half way between the best two; None where a side is empty."""
        kept, stale_ok = self._kept, self.stale_ok
        del self
        kept.catch_up()
        with kept.lock:
            kept.check(stale_ok)
            return kept.book.mid

    @property
    def spread(self) -> Decimal | None:
        """From the best bid up to the best ask; None where a side is empty."""
        kept, stale_ok = self._kept, self.stale_ok
        del self
        kept.catch_up()
        with kept.lock:
            kept.check(stale_ok)
            return kept.book.spread

    def bids(self, depth: int | None = None, *, stale_ok: bool = False) -> list[Level]:
        """The ``depth`` best bids, best first; None for all."""
        kept, stale_ok = self._kept, stale_ok or self.stale_ok
        del self
        kept.catch_up()
        with kept.lock:
            kept.check(stale_ok)
            return _levels(kept.book.bids, depth)

    def asks(self, depth: int | None = None, *, stale_ok: bool = False) -> list[Level]:
        """The ``depth`` best asks, best first; None for all."""
        kept, stale_ok = self._kept, stale_ok or self.stale_ok
        del self
        kept.catch_up()
        with kept.lock:
            kept.check(stale_ok)
            return _levels(kept.book.asks, depth)

    # How it stands.

    @property
    def is_synced(self) -> bool:
        """Is it what the venue's messages say, as far as they have come?"""
        kept = self._kept
        kept.catch_up()
        with kept.lock:
            return kept.doubt() is None

    @property
    def is_lost(self) -> bool:
        """Has the venue ended the subscription, or refused the snapshot, or was the book closed?
        No snapshot will come of itself then."""
        return self._kept.is_lost

    @property
    def sequence(self) -> int | None:
        """The number of the last message applied, where the venue numbers them."""
        return self._kept.sequence

    @property
    def received_at(self) -> int | None:
        """When the last message applied was received (ns since the epoch)."""
        return self._kept.received_at

    def wait_synced(self, timeout: float | None = None) -> None:
        """Block until the book is in sync.

        Raises TimeoutError after ``timeout`` seconds, OrderBookOutOfSync when the subscription has
        ended, and what a closed or failed client raises.
        """
        check_timeout(timeout)
        kept = self._kept
        del self
        kept.locks.check()
        kept.wait_synced(timeout)

    def __repr__(self) -> str:
        kept = self._kept
        kept.catch_up()
        with kept.lock:
            why = kept.doubt()
            sides = f"{len(kept.book.bids)} bids, {len(kept.book.asks)} asks"
        return f"<OrderBook {kept.channel!r} {f'out of sync: {why}' if why else sides}>"


def _levels(side: Side, depth: int | None) -> list[Level]:
    return [Level(*level) for level in islice(side, depth)]
