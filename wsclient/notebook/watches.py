"""What a live table watches: a client or an order book, held weakly, and the prices so far."""

from __future__ import annotations

import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Context, Decimal
from typing import Protocol

from wsclient.books.keeper import LiveBook
from wsclient.books.ladder import ladder
from wsclient.books.status import BookState
from wsclient.errors import WSClientError
from wsclient.messages import Message
from wsclient.picture import Picture, Trend
from wsclient.runtime.core import Core
from wsclient.telemetry.overview import Latest, chosen, overview
from wsclient.telemetry.stats import Stats
from wsclient.text import number_text, one_line
from wsclient.threads.forking import forked_error
from wsclient.views import Quote

__all__ = ["BookWatch", "ClientWatch", "ShownBook", "ShownClient", "Watch"]

#: Looks at a client with very many channels are this many times their own duration apart, so that
#: they take no more of a core and of the client's lock.
SHARE = 20
#: How many prices a trend has.
TREND = 60
#: The program's own context may have fewer digits, or traps.
_CONTEXT = Context(50)


class ShownClient(Protocol):
    """A client, as a live table uses it."""

    _core: Core

    def stats(self) -> Stats: ...
    def latest(self, channel: str) -> Message | None: ...


class ShownBook(Protocol):
    """An order book, as a live table uses it."""

    _live: LiveBook


class Watch(ABC):
    """Something that a live table shows.

    ``core`` is that of the client, None for a book that is fed by hand. It is a thread's only hold
    on the client, and does not keep it alive.
    """

    #: True once the last picture was one of something that has ended.
    is_over = False

    def __init__(self, core: Core | None, interval: float) -> None:
        self._core = core
        self._interval = interval
        #: How long (s) to wait until the next look.
        self.pause = interval

    def look(self) -> Picture | None:
        """Return a picture as of now; None if the thing has been garbage-collected.

        Raises ClientForked in a child process.
        """
        if self._core is not None and self._core.is_forked:
            raise forked_error()
        begin = time.perf_counter()
        picture = self._look()
        self.pause = max(self._interval, SHARE * (time.perf_counter() - begin))
        return picture

    @abstractmethod
    def _look(self) -> Picture | None: ...

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Call ``wake`` when the client is closed or fails within the context."""
        hooks = [] if self._core is None else self._core.at_end
        hooks.append(wake)
        try:
            yield
        finally:
            with suppress(ValueError):
                hooks.remove(wake)

    def last(self, before: Picture) -> Picture:
        """Return the picture of the end; ``before`` was the last one."""
        picture = self.look()
        if picture is None:
            return replace(before, state="closed", mood="quiet").noting("ended: nothing holds it")
        failure = self._failure()
        if failure is not None:
            return picture.noting(f"ended: {one_line(str(failure))}")
        if picture.state == "closing":
            picture = replace(picture, state="closed", mood="quiet")
        return picture.noting("ended")

    def _failure(self) -> WSClientError | None:
        return None if self._core is None else self._core.supervisor.life.failure

    def _client_is_over(self) -> bool:
        if self._core is None:
            return False
        life = self._core.supervisor.life
        return life.is_over or life.failure is not None


class ClientWatch(Watch):
    """A client, its channels, and the prices of those that have one."""

    def __init__(
        self, client: ShownClient, channels: tuple[str, ...], limit: int, interval: float
    ) -> None:
        super().__init__(client._core, interval)
        self._client = weakref.ref(client)
        self._channels = channels
        self._limit = limit
        self._shown: list[str] = []
        self._trends: dict[str, deque[float]] = {}

    def _look(self) -> Picture | None:
        client = self._client()
        if client is None:
            return None
        self.is_over = self._client_is_over()
        stats = client.stats()
        shown = chosen(stats, self._channels, self._limit, self._shown)
        self._shown = shown
        prices = {}
        for name in shown:
            price = _price_of(client, name)
            if price is not None:
                trend = self._trends.setdefault(name, deque(maxlen=TREND))
                trend.append(float(price))
                prices[name] = Latest(number_text(price), Trend(tuple(trend)))
        for name in self._trends.keys() - set(shown):
            del self._trends[name]
        return overview(f"{type(client).__name__} {stats.name}", stats, shown, prices)


class BookWatch(Watch):
    """An order book, and its mids."""

    def __init__(self, book: ShownBook, core: Core | None, depth: int, interval: float) -> None:
        super().__init__(core, interval)
        self._book = weakref.ref(book)
        self._depth = depth
        self._mids: deque[float] = deque(maxlen=TREND)

    def _look(self) -> Picture | None:
        book = self._book()
        if book is None:
            return None
        live = book._live
        with suppress(WSClientError):  # out of sync
            mid = live.read_now(lambda book: book.mid, stale_ok=False)
            if mid is not None:
                self._mids.append(float(mid))
        picture = ladder(live, self._depth, tuple(self._mids))
        self.is_over = picture.state == BookState.CLOSED.value or self._client_is_over()
        return picture


def _price_of(client: ShownClient, channel: str) -> Decimal | None:
    """Return the mid, or else the last price, in the newest message of a channel."""
    try:
        message = client.latest(channel)
        return None if message is None else _price_in(message)
    except Exception:  # noqa: BLE001 - a payload, or a function of the user, that cannot be read
        return None


def _price_in(message: Message) -> Decimal | None:
    quote = message.quote()
    if quote is not None:
        return _mid(quote)
    trades = message.trades()
    return trades[-1].price if trades else None


def _mid(quote: Quote) -> Decimal | None:
    bid, ask = quote.bid_price, quote.ask_price
    return (
        bid if ask is None else ask if bid is None else _CONTEXT.divide(_CONTEXT.add(bid, ask), 2)
    )
