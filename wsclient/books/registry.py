"""The order books that a client has: which feed belongs to a channel, and who waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from wsclient.books.feeds import BookFeed, LiveBook, RestBookFeed
from wsclient.books.keeper import format_of
from wsclient.books.service import BookService
from wsclient.runtime.core import Core

__all__ = ["BookRegistry"]


class BookRegistry:
    """The feeds of one client's order books, by channel. Changed on the watchdog thread only."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.service = BookService(core)
        self._feeds: dict[str, BookFeed] = {}

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        """Return the channel of a symbol's book.

        Raises NotSupported if the dialect has no order books.
        """
        return format_of(self._core.dialect).channel(symbol, options)

    def new(
        self, channel: str, verify_checksum: bool, options: Mapping[str, Any]
    ) -> tuple[BookFeed, LiveBook]:
        """Return a book and its feed, which :meth:`find` may put into the table.

        On the caller's thread, since it calls the dialect.
        """
        core = self._core
        request = format_of(core.dialect).request(channel, options)
        feed = (
            BookFeed(self.service, channel)
            if request is None
            else RestBookFeed(self.service, channel, request)
        )
        return feed, LiveBook(
            core.dialect, channel, verify_checksum, options, feed, core.locks, core.mask
        )

    def find(self, new: BookFeed, live: LiveBook, call: object) -> BookFeed:
        """Return the feed of the channel's book: ``new``, unless there is one already.

        ``call`` identifies the call that waits for the book. Runs on the watchdog thread.
        """
        self.service.attach()
        feed = self._feeds.get(new.channel)
        if feed is not None and feed.book.is_lost:
            self._drop(feed)
            feed = None
        if feed is None:
            new.keep(live)
            feed = self._feeds[new.channel] = new
        feed.calls.add(call)
        return feed

    def give_up(self, channel: str, call: object) -> None:
        """Drop the book of a call that has failed, unless another call waits for it or has got it.

        Runs on the watchdog thread.
        """
        feed = self._feeds.get(channel)
        if feed is not None and call in feed.calls:
            feed.calls.discard(call)
            if not feed.calls and not feed.is_given:
                self._drop(feed)

    def _drop(self, feed: BookFeed) -> None:
        """Stop feeding the book of ``feed``. Runs on the watchdog thread."""
        if self._feeds.get(feed.channel) is feed:
            del self._feeds[feed.channel]
            feed.end()

    def close(self, feed: BookFeed) -> None:
        if not self._core.is_forked:
            feed.book.close()
            self._core.post(partial(self._drop, feed))
