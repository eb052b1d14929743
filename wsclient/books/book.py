"""Order books: two sorted sides. Pure logic."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from typing import NamedTuple

from wsclient.dialect.books import BookFormat, BookUpdate, Levels

__all__ = ["Book", "BookError", "DialectBug", "Level", "Side"]

#: For our own arithmetic. The program's context may have fewer digits, another rounding or traps.
_CONTEXT = Context(200, ROUND_HALF_EVEN, MIN_EMIN, MAX_EMAX, 1, 0, [], [])
_TWO = Decimal(2)


class Level(NamedTuple):
    """A price, and the size (amount) there."""

    price: Decimal
    size: Decimal


class BookError(ValueError):
    """An update is invalid or does not fit the book; the book can no longer be trusted."""


class DialectBug(TypeError):
    """A dialect returned something that is not a book update, such as a level without Decimals.

    The dialect would do the same with the venue's next message, so a new snapshot does not help.
    """


class Side:
    """The levels of one side: a dict of levels, and a list of prices (lowest first).

    A level is stored as it was given, as checksums are computed over the digits of its last update.
    """

    __slots__ = ("_is_bids", "_levels", "_prices")

    def __init__(self, *, is_bids: bool) -> None:
        self._is_bids = is_bids
        self._levels: dict[Decimal, tuple[Decimal, Decimal]] = {}
        self._prices: list[Decimal] = []

    def apply(self, levels: Levels) -> None:
        """Set levels in the given order, as a price may occur twice.

        Size 0 removes a level, or does nothing if the level does not exist. Raises BookError for an
        invalid price or size, DialectBug for anything that is not two Decimals.
        """
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
                raise BookError(f"invalid price {price}")
            if not size:
                if held.pop(price, None) is not None:
                    del prices[bisect_left(prices, price)]
                continue
            if not size.is_finite() or size.is_signed():
                raise BookError(f"invalid size {size}")
            if price not in held:
                insort(prices, price)
            held[price] = level

    def truncate(self, depth: int) -> None:
        """Remove all but the best ``depth`` levels."""
        prices = self._prices
        if len(prices) > depth:
            out = slice(None, len(prices) - depth) if self._is_bids else slice(depth, None)
            for price in prices[out]:
                del self._levels[price]
            del prices[out]

    @property
    def best(self) -> Level | None:
        """The best level; None if the side is empty."""
        prices = self._prices
        return Level(*self._levels[prices[-self._is_bids]]) if prices else None

    @property
    def best_price(self) -> Decimal | None:
        """The best price; None if the side is empty."""
        return self._prices[-self._is_bids] if self._prices else None

    def copy(self) -> Side:
        """Return a side with the same levels."""
        twin = Side(is_bids=self._is_bids)
        twin._levels, twin._prices = self._levels.copy(), self._prices.copy()
        return twin

    def __len__(self) -> int:
        return len(self._prices)

    def __iter__(self) -> Iterator[tuple[Decimal, Decimal]]:
        """Iterate over (price, size), best first."""
        prices = reversed(self._prices) if self._is_bids else iter(self._prices)
        return map(self._levels.__getitem__, prices)


class Book:
    """An order book: bids and asks.

    ``depth`` is how many levels of each side the venue keeps up to date, None for all. A
    :class:`BookError`, or anything else that an update raises, leaves the book half changed: only a
    snapshot repairs it. A checksum is verified if ``format`` is given and the update has one.
    """

    __slots__ = ("_depth", "_format", "asks", "bids")

    def __init__(self, depth: int | None = None, format: BookFormat | None = None) -> None:
        self._depth = depth
        self._format = format
        self.bids = Side(is_bids=True)
        self.asks = Side(is_bids=False)

    def copy(self) -> Book:
        """Return a book with the same levels."""
        twin = Book(self._depth, self._format)
        twin.bids, twin.asks = self.bids.copy(), self.asks.copy()
        return twin

    def apply(self, update: BookUpdate) -> None:
        """Apply an update, or replace the book by a snapshot, and verify the result.

        Raises BookError if the book is then crossed or has another checksum than the venue's.
        """
        self.change(update)
        bids, asks = self.bids, self.asks
        bid, ask = bids.best_price, asks.best_price
        if bid is not None and ask is not None and bid >= ask:
            raise BookError(f"it is crossed: the best bid is {bid}, the best ask {ask}")
        if self._format is not None and update.checksum is not None:
            checksum = self._format.checksum(bids, asks)
            if checksum is not None and checksum != update.checksum:
                raise BookError(f"its checksum is {checksum}, the venue's {update.checksum}")

    def change(self, update: BookUpdate) -> None:
        """Apply an update, or replace the book by a snapshot, without verifying the result."""
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
        """The mean of the best bid and the best ask; None if a side is empty."""
        bid, ask = self.bids.best_price, self.asks.best_price
        if bid is None or ask is None:
            return None
        return _CONTEXT.divide(_CONTEXT.add(bid, ask), _TWO)

    @property
    def spread(self) -> Decimal | None:
        """The best ask minus the best bid; None if a side is empty."""
        bid, ask = self.bids.best_price, self.asks.best_price
        return None if bid is None or ask is None else _CONTEXT.subtract(ask, bid)
