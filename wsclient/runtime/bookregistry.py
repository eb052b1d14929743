"""The table of a client's order books: the feed of each channel, and the calls that wait for it."""

from __future__ import annotations

from functools import partial

from wsclient.runtime.books import BookFeed, LiveBook
from wsclient.runtime.core import Core

__all__ = ["BookRegistry"]


class BookRegistry:
    """The feeds of one client's order books, by channel. Changed on the watchdog thread only."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._feeds: dict[str, BookFeed] = {}

    def find(self, new: BookFeed, live: LiveBook, call: object) -> BookFeed:
        """Return the feed of the channel's book: ``new``, unless there is one already.

        ``call`` identifies the call that waits for the book. Runs on the watchdog thread.
        """
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
        """Close the book of ``feed``. May be called on any thread."""
        if not self._core.is_forked:
            feed.book.close()
            self._core.post(partial(self._drop, feed))
