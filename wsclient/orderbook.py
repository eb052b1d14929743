"""OrderBook: an order book kept up to date from a channel's messages; and those of one client.

Reading raises rather than return a book that may be wrong.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from wsclient import dialects, html
from wsclient.books.book import Book, Level, Side
from wsclient.books.keeper import LiveBook
from wsclient.books.status import BookState, BookStatus
from wsclient.checks import check_timeout
from wsclient.dialect.base import Dialect
from wsclient.errors import ConfigurationError
from wsclient.messages import Message
from wsclient.runtime.checks import check_venue_options, forbid_worker_threads
from wsclient.runtime.core import Core
from wsclient.threads.waiting import Deadline

if TYPE_CHECKING:
    from wsclient.books.feeds import BookFeed
    from wsclient.books.registry import BookRegistry

__all__ = ["ClientBooks", "OrderBook", "check_book", "check_same"]

#: How many levels of each side a notebook shows.
SHOWN_LEVELS = 5


class OrderBook:
    """An order book with exact Decimals, made by ``client.order_book()`` or fed by hand.

    By hand: ``OrderBook("kraken", "book:BTC/USD")``, then :meth:`apply` with each message from a
    client or from a recording. ``options`` are those that the channel is subscribed with.

    The book is *in sync* from a snapshot until something makes it doubtful: a gap, a wrong
    checksum, a crossed book, a payload that makes no sense, or the end of the subscription. With a
    client, also: the end of the connection that brought it, a message that may be missing (until
    the next message shows whether it is), or a message that has been waiting to be applied for
    more than 0.25 s. Reading then raises OrderBookOutOfSync until the next snapshot. With
    ``stale_ok``, as an attribute or an argument, reading returns the book as it is, which may be
    wrong. With a client, a read first waits, for at most 10 ms, until the messages received so far
    are applied.

    Any number of threads may read the book and feed it. A client's book keeps its client alive. In
    a signal handler that has interrupted a call of this package, every method except :meth:`close`
    may raise ReentrantCall.
    """

    def __init__(
        self, dialect: str | Dialect, channel: str, verify_checksum: bool = True, **options: Any
    ) -> None:
        live = LiveBook(dialects.find(dialect), channel, verify_checksum, options)
        self._begin(live, live.close, None)

    def _begin(self, live: LiveBook, close: Callable[[], None], client: object) -> None:
        self._live = live
        self._close = close
        #: Keeps the client alive.
        self._client = client
        self.stale_ok = False

    @classmethod
    def _of(cls, live: LiveBook, close: Callable[[], None], client: object = None) -> OrderBook:
        """Return a book of ``client``; ``close`` ends its feed."""
        book = cls.__new__(cls)
        book._begin(live, close, client)
        return book

    @property
    def channel(self) -> str:
        """The channel whose messages the book applies."""
        return self._live.channel

    def close(self) -> None:
        """Stop updating the book. From then on, reading raises OrderBookOutOfSync.

        A client unsubscribes from the channel, unless something else reads it. Idempotent; does
        not wait.
        """
        self._close()

    def __enter__(self) -> OrderBook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Messages and snapshots.

    def apply(self, message: Message) -> bool:
        """Apply the channel's next message; messages of other channels are ignored.

        Returns whether the book is in sync afterwards. A KeyboardInterrupt leaves the book as it
        was before the message, as it is after the message, or out of sync.
        """
        self._live.locks.check()
        return self._live.apply(message)

    def take_snapshot(self, answer: Any) -> bool:
        """Apply a snapshot: the venue's answer to ``dialect.book.request()``, with Decimals.

        Returns False if the updates received so far do not follow it: a newer one is needed.
        Raises for an answer that makes no sense.
        """
        self._live.locks.check()
        return self._live.take_snapshot(answer)

    # The contents. A method that may raise deletes its ``self`` first: a notebook keeps the frames
    # of the last traceback, which must not keep the client alive.

    @property
    def best_bid(self) -> Level | None:
        """The highest bid; None if there is no bid."""
        live, stale_ok = self._live, self.stale_ok
        del self
        return live.read(_best_bid, stale_ok)

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask; None if there is no ask."""
        live, stale_ok = self._live, self.stale_ok
        del self
        return live.read(_best_ask, stale_ok)

    @property
    def mid(self) -> Decimal | None:
        """The mean of the best bid and the best ask; None if a side is empty."""
        live, stale_ok = self._live, self.stale_ok
        del self
        return live.read(_mid, stale_ok)

    @property
    def spread(self) -> Decimal | None:
        """The best ask minus the best bid; None if a side is empty."""
        live, stale_ok = self._live, self.stale_ok
        del self
        return live.read(_spread, stale_ok)

    def best(
        self, *, max_age: float | None = None, stale_ok: bool = False
    ) -> tuple[Level | None, Level | None]:
        """Return the highest bid and the lowest ask, of the same moment; None for an empty side.

        With ``max_age`` (s), raises OrderBookOutOfSync if the book's last update was received
        longer ago, though the book may be in sync: the market is quiet, or the venue's feed has
        stopped. The age is by the monotonic clock; ``stale_ok`` does not change it.
        """
        check_timeout(max_age, "max_age")
        live, stale_ok = self._live, stale_ok or self.stale_ok
        del self
        if max_age is None:
            return live.read(_best, stale_ok)
        # Both at once: an update that comes in between makes no older book young.
        found, updated_at = live.read(lambda book: (_best(book), live.updated_at), stale_ok)
        live.check_age(updated_at, max_age)
        return found

    def bids(self, depth: int | None = None, *, stale_ok: bool = False) -> list[Level]:
        """Return the ``depth`` best bids, best first; None for all."""
        live, stale_ok = self._live, stale_ok or self.stale_ok
        del self
        return live.read(lambda book: _levels(book.bids, depth), stale_ok)

    def asks(self, depth: int | None = None, *, stale_ok: bool = False) -> list[Level]:
        """Return the ``depth`` best asks, best first; None for all."""
        live, stale_ok = self._live, stale_ok or self.stale_ok
        del self
        return live.read(lambda book: _levels(book.asks, depth), stale_ok)

    # The state.

    @property
    def state(self) -> BookState:
        """The state of the book, as of the messages that have come so far."""
        return self._status().state

    @property
    def reason(self) -> str:
        """Why the book is not in sync: a text for people, empty if it is."""
        return self._status().why

    def _status(self) -> BookStatus:
        live = self._live
        del self
        live.catch_up()
        with live.lock:
            return live.status()

    @property
    def is_synced(self) -> bool:
        """True when the book matches the messages that have come so far."""
        return self._status().is_synced

    @property
    def is_lost(self) -> bool:
        """True when no further snapshot will come by itself.

        The venue has ended the subscription or refused the snapshot, or the book was closed.
        """
        return self._live.is_lost

    @property
    def sequence(self) -> int | None:
        """The sequence number of the last message applied; None if the venue gives none."""
        return self._live.sequence

    @property
    def received_at(self) -> int | None:
        """When the last message applied was received (ns since the epoch), or None."""
        return self._live.received_at

    def wait_synced(self, timeout: float | None = None) -> None:
        """Block until the book is in sync.

        Raises TimeoutError after ``timeout`` seconds, OrderBookOutOfSync when the subscription has
        ended, ClientClosed when the client is closed, and the client's failure when it has failed.
        """
        check_timeout(timeout)
        live = self._live
        del self
        live.locks.check()
        live.wait_synced(timeout)

    def __repr__(self) -> str:
        live = self._live
        live.catch_up()
        with live.lock:
            why = live.status().why
            sides = f"{len(live.book.bids)} bids, {len(live.book.asks)} asks"
        return f"<OrderBook {live.channel!r} {f'out of sync: {why}' if why else sides}>"

    def _repr_html_(self) -> str:
        from wsclient.books.ladder import ladder  # only notebooks need it

        live: LiveBook | None = vars(self).get("_live")
        if live is None:
            return html.page(html.lines(["OrderBook, not made"]))
        try:
            return ladder(live, SHOWN_LEVELS).as_html()
        except Exception:  # noqa: BLE001 - ReentrantCall: this thread holds a lock of the client
            return html.page(html.lines([f"OrderBook {live.channel}"]))

    def show(self, *, depth: int = 10, interval: float = 0.25) -> None:
        """Show the best levels of the book, and go on until the book or its client is closed.

        ``depth`` levels of each side are shown, and the mid of the last seconds. See
        :meth:`WebSocketClient.show`.
        """
        # From a layer above.
        from wsclient.notebook.showing import show_book

        show_book(self, getattr(self._client, "_core", None), depth, interval)


_best_bid: Callable[[Book], Level | None] = attrgetter("bids.best")
_best_ask: Callable[[Book], Level | None] = attrgetter("asks.best")
_best: Callable[[Book], tuple[Level | None, Level | None]] = attrgetter("bids.best", "asks.best")
_mid: Callable[[Book], Decimal | None] = attrgetter("mid")
_spread: Callable[[Book], Decimal | None] = attrgetter("spread")


def _levels(side: Side, depth: int | None) -> list[Level]:
    return [Level(*level) for level in islice(side, depth)]


def check_book(
    symbol: str, verify_checksum: bool, timeout: float | None, options: Mapping[str, Any]
) -> None:
    """Raise ConfigurationError for arguments of ``order_book()`` that cannot work."""
    check_timeout(timeout)
    if not isinstance(symbol, str) or not isinstance(verify_checksum, bool):
        raise ConfigurationError(
            "an order book's symbol must be text, and verify_checksum True or False"
        )
    check_venue_options(options)


def check_same(book: LiveBook, symbol: str, verify_checksum: bool) -> None:
    """Raise ConfigurationError if a symbol's book does not verify what a caller asks for."""
    if book.verify_checksum != verify_checksum:
        raise ConfigurationError(
            f"the order book of {symbol!r} already exists with verify_checksum="
            f"{book.verify_checksum}; close it first, or pass the same value"
        )


class ClientBooks:
    """The order books of one client. It does not hold the client: each book in use does."""

    def __init__(self, core: Core) -> None:
        self._core = core
        #: The registry of the order books, made for the first one, under the key None.
        self._registries: dict[None, BookRegistry] = {}
        #: The books that callers hold. Weak references, since each book holds the client.
        self._books: weakref.WeakValueDictionary[str, OrderBook] = weakref.WeakValueDictionary()

    def open(
        self,
        client: object,
        symbol: str,
        verify_checksum: bool,
        timeout: float | None,
        options: Mapping[str, Any],
    ) -> OrderBook:
        """Return the order book of ``symbol``: see :meth:`WebSocketClient.order_book`."""
        check_book(symbol, verify_checksum, timeout, options)
        core = self._core
        if core.options.overflow == "conflate":
            raise ConfigurationError(
                'an order book needs every message, but overflow="conflate" keeps only the newest; '
                "choose another overflow policy"
            )
        core.check_call()  # before the dialect is called
        forbid_worker_threads()
        registry, deadline = self.registry, Deadline(timeout)
        channel = registry.channel(symbol, options)
        core.supervisor.life.check_begun()
        feed, live = registry.new(channel, verify_checksum, options)
        call = object()
        try:
            feed = core.call(partial(registry.find, feed, live, call))
            check_same(feed.book, symbol, verify_checksum)
            feed.check()
            left = None if timeout is None else deadline.remaining()
            core.calls.subscribe_and_wait((channel,), feed.queue, left, options)
            core.call(feed.start)
            left = core.options.ack_timeout if timeout is None else deadline.remaining()
            feed.book.wait_synced(left)
            book: OrderBook = core.call(partial(self._book_of, feed, call, client))
            return book
        except BaseException:
            core.post(partial(registry.give_up, channel, call))
            raise

    @property
    def registry(self) -> BookRegistry:
        """The registry of the order books: the first call makes it, as most clients have none."""
        made = self._registries.get(None)
        if made is None:
            from wsclient.books.registry import BookRegistry  # lazily, for the same reason

            made = self._registries.setdefault(None, BookRegistry(self._core))
        return made

    def _book_of(self, feed: BookFeed, call: object, client: object) -> OrderBook:
        """Return the OrderBook for the caller ``call``. Runs on the watchdog thread."""
        feed.calls.discard(call)
        feed.is_given = True
        book = self._books.get(feed.channel)
        if book is None or book._live is not feed.book:
            book = OrderBook._of(feed.book, partial(self.registry.close, feed), client)
            self._books[feed.channel] = book
        return book
