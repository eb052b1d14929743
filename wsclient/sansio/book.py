"""Order books, without a clock or a thread: two sorted sides, and how a snapshot joins a stream."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from typing import NamedTuple

from wsclient.messages import LinkedMessage, Message
from wsclient.sansio.dialect import BookUpdate, Dialect, Levels, Snapshot

__all__ = ["Book", "BookError", "DialectBug", "Joiner", "Level", "Side"]

#: Messages that wait for a snapshot; beyond this many the oldest are dropped.
MAX_BUFFER = 10_000
#: For our own arithmetic. The program's context may have fewer digits, another rounding, or traps.
_CONTEXT = Context(200, ROUND_HALF_EVEN, MIN_EMIN, MAX_EMAX, 1, 0, [], [])
_TWO = Decimal(2)


class Level(NamedTuple):
    """A price, and how much is offered there."""

    price: Decimal
    size: Decimal


class BookError(ValueError):
    """An update makes no sense, or does not fit; the book is not to be trusted any more."""


class DialectBug(TypeError):
    """What a dialect has made of a message is no book, such as a level that is not two Decimals.
    The venue's next message repeats it."""


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
        """Set levels in their order: one price may occur twice. Size 0 removes a level, also one
        that is not there."""
        try:
            self._apply(levels)
        except (TypeError, ValueError) as error:
            if isinstance(error, (DialectBug, BookError)):
                raise
            raise DialectBug(f"a level is a price and a size as Decimals: {error}") from error

    def _apply(self, levels: Levels) -> None:
        held, prices = self._levels, self._prices
        for level in levels:
            price, size = level
            if not (isinstance(price, Decimal) and isinstance(size, Decimal)):
                raise DialectBug(f"a level is a price and a size as Decimals, not {level!r}")
            if not price.is_finite():
                raise BookError(f"a price of {price}")
            if not size:
                if held.pop(price, None) is not None:
                    del prices[bisect_left(prices, price)]
                continue
            if not size.is_finite() or size.is_signed():
                raise BookError(f"a size of {size}")
            if price not in held:
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

    def copy(self) -> Side:
        """Return a side with the same levels."""
        twin = Side(is_bids=self._is_bids)
        twin._levels, twin._prices = self._levels.copy(), self._prices.copy()
        return twin

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

    def copy(self) -> Book:
        """Return a book with the same levels."""
        twin = Book(self._depth, self._dialect)
        twin.bids, twin.asks = self.bids.copy(), self.asks.copy()
        return twin

    def apply(self, update: BookUpdate) -> None:
        """Change the levels, or replace them by a snapshot, and verify the result."""
        self.change(update)
        bids, asks = self.bids, self.asks
        bid, ask = bids.best_price, asks.best_price
        if bid is not None and ask is not None and bid >= ask:
            raise BookError(f"it is crossed: {bid} is bid, {ask} asked")
        if self._dialect is not None and update.checksum is not None:
            checksum = self._dialect.book_checksum(bids, asks)
            if checksum is not None and checksum != update.checksum:
                raise BookError(f"its checksum is {checksum}, the venue's {update.checksum}")

    def change(self, update: BookUpdate) -> None:
        """Change the levels, or replace them by a snapshot, without verifying the result."""
        if update.is_snapshot:
            self.bids = Side(is_bids=True)
            self.asks = Side(is_bids=False)
        self.bids.apply(update.bids)
        self.asks.apply(update.asks)
        if self._depth is not None:
            self.bids.truncate(self._depth)
            self.asks.truncate(self._depth)

    @property
    def mid(self) -> Decimal | None:
        bid, ask = self.bids.best_price, self.asks.best_price
        if bid is None or ask is None:
            return None
        return _CONTEXT.divide(_CONTEXT.add(bid, ask), _TWO)

    @property
    def spread(self) -> Decimal | None:
        bid, ask = self.bids.best_price, self.asks.best_price
        return None if bid is None or ask is None else _CONTEXT.subtract(ask, bid)


class Joiner:
    """Joins a snapshot that came another way (by REST) to the stream of numbered changes.

    * Changes wait until a snapshot is there; it must hold all that is before the first of them.
    * Those that are in the snapshot already are dropped; the first one that is not must follow on
      it, as each must on the one before.
    * Where one does not, all that was before it is void, and another snapshot is wanted.

    ``wants_snapshot``: there is none yet, or none that fits.

    What is not in the book yet does not count as taken: :meth:`add` and :meth:`join` say what to
    apply, then :meth:`took` and :meth:`joined` are to be called. Each of these changes the joiner
    in one step, after its last call, so that no interrupt finds it half changed.
    """

    def __init__(self, limit: int = MAX_BUFFER) -> None:
        #: What has come and is in no book yet, oldest first.
        self.waiting: deque[Message] = deque(maxlen=limit)
        #: The number that the next change must follow, when none is waiting.
        self._last: int | None = None
        #: A change of this number is taken though it is the snapshot's own.
        self._again: int | None = None
        self.wants_snapshot = True

    def add(self, message: Message) -> bool:
        """Take in the next change of the stream. True: apply it now, then call :meth:`took`."""
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
        last = self._last if self._last is not None else follows
        if sequence <= last != follows and sequence != self._again:
            return False
        if follows > last:
            self.restart([message])
            return False
        return True

    def took(self, message: Message) -> None:
        """The change is in the book."""
        number = _numbers(message)[0]
        self._last, self._again = number, None

    def join(self, snapshot: Snapshot, after: Message | None = None) -> list[Message] | None:
        """Return the waiting changes to apply to ``snapshot``, or those that came since ``after``,
        the last one applied to it. None where it is too old, and another is wanted."""
        changes = list(self.waiting)
        if after is not None:
            return changes[changes.index(after) + 1 :] if after in changes else None
        known = snapshot.sequence if snapshot.has_last else snapshot.sequence - 1
        while changes and _numbers(changes[0])[0] <= known:
            del changes[0]
        if changes and _numbers(changes[0])[1] > snapshot.sequence:
            return None
        return changes

    def joined(self, snapshot: Snapshot, last: Message | None) -> None:
        """The snapshot is in the book, with all changes up to ``last``; None: there were none."""
        number = snapshot.sequence if last is None else _numbers(last)[0]
        again = number if last is None and not snapshot.has_last else None
        waiting: deque[Message] = deque(maxlen=self.waiting.maxlen)
        self.waiting, self._last, self._again, self.wants_snapshot = waiting, number, again, False

    def restart(self, waiting: Iterable[Message] = ()) -> None:
        """Begin again, with these: the stream has a gap, or the book proved wrong."""
        begun = deque(waiting, self.waiting.maxlen)
        self.waiting, self._last, self._again, self.wants_snapshot = begun, None, None, True


def _numbers(message: Message) -> tuple[int, int]:
    """A change's own number, and the one that it follows."""
    sequence = message.sequence
    if sequence is None:
        raise BookError("a change without a number cannot be joined to a snapshot")
    follows = message.follows if isinstance(message, LinkedMessage) else None
    return sequence, sequence - 1 if follows is None else follows
