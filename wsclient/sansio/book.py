"""Order books, without a clock or a thread: two sorted sides, and how a snapshot joins a stream."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import NamedTuple

from wsclient.messages import LinkedMessage, Message
from wsclient.sansio.dialect import BookUpdate, Dialect, Levels, Snapshot

__all__ = ["Book", "BookError", "Joiner", "Level", "Side"]

_INFINITY = Decimal("Infinity")
#: Exact for any price that there is, whatever the decimal context of the program.
_EXACT = Context(prec=100, Emax=MAX_EMAX, Emin=MIN_EMIN, clamp=0, traps=[])
#: So many messages wait for a snapshot; of more, the oldest are dropped.
MAX_BUFFER = 10_000


class Level(NamedTuple):
    """A price, and how much is offered there."""

    price: Decimal
    size: Decimal


class BookError(ValueError):
    """An update makes no sense, or does not fit; the book is not to be trusted any more."""


class Side:
    """The levels of one side: a dict for them, a list for their order (lowest price first).

    A level is kept as it was given: a checksum is over the digits of its last update.
    """

    __slots__ = ("_is_bids", "_levels", "_prices")

    def __init__(self, *, is_bids: bool) -> None:
        self._is_bids = is_bids
        self._levels: dict[Decimal, tuple[Decimal, Decimal]] = {}
        self._prices: list[Decimal] = []

    def apply(self, levels: Levels) -> None:
        """In their order, as one price may occur twice. Size 0 removes, what is not there too."""
        held, prices = self._levels, self._prices
        for level in levels:
            price, size = level
            if not size:
                if held.pop(price, None) is not None:
                    del prices[bisect_left(prices, price)]
            elif not 0 < size < _INFINITY:
                raise BookError(f"a size of {size}")
            else:
                if price not in held:
                    if not price.is_finite():
                        raise BookError(f"a price of {price}")
                    insort(prices, price)
                held[price] = level

    def truncate(self, depth: int) -> None:
        """Drop all but the ``depth`` best."""
        prices = self._prices
        if len(prices) > depth:
            out = slice(None, len(prices) - depth) if self._is_bids else slice(depth, None)
            for price in prices[out]:
                del self._levels[price]
            del prices[out]

    @property
    def best(self) -> Level | None:
        prices = self._prices
        return Level(*self._levels[prices[-self._is_bids]]) if prices else None

    @property
    def best_price(self) -> Decimal | None:
        return self._prices[-self._is_bids] if self._prices else None

    def __len__(self) -> int:
        return len(self._prices)

    def __iter__(self) -> Iterator[tuple[Decimal, Decimal]]:
        """(price, size), best first."""
        prices = reversed(self._prices) if self._is_bids else iter(self._prices)
        return map(self._levels.__getitem__, prices)


class Book:
    """Both sides. ``depth`` is how many levels of each the venue keeps up to date, None for all.

    A :class:`BookError`, or what else an update raises, leaves it half changed: only a snapshot
    helps. A checksum is verified where ``dialect`` is given and the update has one.
    """

    __slots__ = ("_depth", "_dialect", "asks", "bids")

    def __init__(self, depth: int | None = None, dialect: Dialect | None = None) -> None:
        self._depth = depth
        self._dialect = dialect
        self.bids = Side(is_bids=True)
        self.asks = Side(is_bids=False)

    def apply(self, update: BookUpdate) -> None:
        """A snapshot replaces what was there; anything else changes it."""
        if update.is_snapshot:
            self.bids = Side(is_bids=True)
            self.asks = Side(is_bids=False)
        bids, asks = self.bids, self.asks
        bids.apply(update.bids)
        asks.apply(update.asks)
        if self._depth is not None:
            bids.truncate(self._depth)
            asks.truncate(self._depth)
        bid, ask = bids.best_price, asks.best_price
        if bid is not None and ask is not None and bid >= ask:
            raise BookError(f"it is crossed: {bid} is bid, {ask} asked")
        if self._dialect is not None and update.checksum is not None:
            checksum = self._dialect.book_checksum(bids, asks)
            if checksum is not None and checksum != update.checksum:
                raise BookError(f"its checksum is {checksum}, the venue's {update.checksum}")

    @property
    def mid(self) -> Decimal | None:
        bid, ask = self.bids.best_price, self.asks.best_price
        return None if bid is None or ask is None else _EXACT.divide(_EXACT.add(bid, ask), 2)

    @property
    def spread(self) -> Decimal | None:
        bid, ask = self.bids.best_price, self.asks.best_price
        return None if bid is None or ask is None else _EXACT.subtract(ask, bid)


class Joiner:
    """Joins a snapshot that came another way (by REST) to the stream of numbered changes.

    * Changes wait until a snapshot is there; it must hold all that is before the first of them.
    * Those that are in the snapshot already are dropped; the first one that is not must follow on
      it, as each must on the one before.
    * Where one does not, all that was before it is void, and another snapshot is wanted.

    ``wants_snapshot``: there is none yet, or none that fits.
    """

    def __init__(self, limit: int = MAX_BUFFER) -> None:
        #: What has come and is in no book yet, oldest first.
        self.waiting: deque[Message] = deque(maxlen=limit)
        #: The number that the next change must follow, when none is waiting.
        self._last: int | None = None
        self.wants_snapshot = True

    def add(self, message: Message) -> bool:
        """The next change of the stream. True: apply it now."""
        sequence, follows = _numbers(message)
        if self.wants_snapshot:
            if self.waiting:
                last = _numbers(self.waiting[-1])[0]
                if sequence <= last:
                    return False
                if follows > last:
                    self.waiting.clear()
            self.waiting.append(message)
            return False
        assert self._last is not None
        if sequence <= self._last != follows:
            return False
        if follows > self._last:
            self.restart([message])
            return False
        self._last = sequence
        return True

    def join(self, snapshot: Snapshot) -> list[Message] | None:
        """The changes to apply to ``snapshot``; None where it is too old, and another is wanted."""
        while self.waiting and _numbers(self.waiting[0])[0] <= snapshot.sequence:
            self.waiting.popleft()
        changes = list(self.waiting)
        if changes and _numbers(changes[0])[1] > snapshot.sequence:
            return None
        self.waiting.clear()
        self._last = _numbers(changes[-1])[0] if changes else snapshot.sequence
        self.wants_snapshot = False
        return changes

    def restart(self, waiting: Iterable[Message] = ()) -> None:
        """Begin anew, with these: the stream has a hole, or the book proved wrong."""
        self.waiting.clear()
        self.waiting.extend(waiting)
        self._last = None
        self.wants_snapshot = True


def _numbers(message: Message) -> tuple[int, int]:
    """A change's own number, and the one that it follows."""
    sequence = message.sequence
    if sequence is None:
        raise BookError("a change without a number cannot be joined to a snapshot")
    follows = message.follows if isinstance(message, LinkedMessage) else None
    return sequence, sequence - 1 if follows is None else follows
