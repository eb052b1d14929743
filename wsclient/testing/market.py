"""A made-up market: prices and order books of any symbol. The same seed gives the same market."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Context, Decimal
from itertools import count
from random import Random
from typing import Literal, NamedTuple

__all__ = [
    "Depth",
    "Instrument",
    "Listing",
    "MarketEvent",
    "MarketLevels",
    "MarketQuote",
    "MarketTrade",
    "opening",
]

MarketLevels = list[tuple[Decimal, Decimal]]

#: Opening prices (cents) by the beginning of the symbol; all other symbols open at OTHERS.
OPENINGS = {"BTC": 6_701_230, "XBT": 6_701_230, "ETH": 351_244, "SOL": 14_852}
OTHERS = 10_000
#: The standard deviation of one move of a price, as a fraction of the price.
VOLATILITY = 5e-5
#: Number of levels on each side of a book, at any time.
LEVELS = 10


class MarketTrade(NamedTuple):
    """A trade. ``number`` counts the trades of the symbol, from 1."""

    number: int
    price: Decimal
    size: Decimal
    side: Literal["buy", "sell"]


class MarketQuote(NamedTuple):
    """The best prices, and the price of the last trade."""

    bid: Decimal
    bid_size: Decimal
    ask: Decimal
    ask_size: Decimal
    last: Decimal


class Depth(NamedTuple):
    """A snapshot or an update of an order book.

    ``bids`` and ``asks`` are all levels, best first, or those that have changed; a size of 0
    removes a level. ``book`` has all bids and asks after the update, ``before`` those before it.
    """

    bids: MarketLevels
    asks: MarketLevels
    book: tuple[MarketLevels, MarketLevels]
    before: tuple[MarketLevels, MarketLevels] = ([], [])


MarketEvent = MarketTrade | MarketQuote | Depth
#: Levels by price (cents), best first. A level that changes is a new object.
_MarketSide = dict[int, tuple[Decimal, Decimal]]
#: The program's decimal context may have fewer digits.
_CONTEXT = Context(prec=50, traps=[])
_NOTHING = _CONTEXT.scaleb(Decimal(0), -5)


def opening(symbol: str) -> Decimal:
    """Return the opening price of a symbol."""
    return _price(_opening(symbol))


class Instrument:
    """A symbol that is traded: each move is a trade that changes its price and its order book."""

    def __init__(self, symbol: str, seed: int) -> None:
        self._random = Random(f"{seed}/{symbol}")
        self.bid = _opening(symbol)
        #: Distance (cents) from one level to the next.
        self._step = 10 ** max(0, len(str(self.bid)) - 5)
        self._trades = count(1)
        self.sides: tuple[_MarketSide, _MarketSide] = ({}, {})
        self.move()

    def move(self) -> None:
        random = self._random
        steps = round(random.gauss(0, VOLATILITY) * self.bid / self._step)
        self.bid = max(LEVELS * self._step, self.bid + steps * self._step)
        bids, asks = self.sides
        self.sides = (
            self._side(bids, self.bid, -self._step),
            self._side(asks, self.bid + self._step, self._step),
        )
        self._is_bought = random.random() < 0.5
        self._last = self.bid + self._step * self._is_bought

    def _side(self, before: _MarketSide, best: int, step: int) -> _MarketSide:
        """Return a side of the book: known levels as they were, but one with a new size."""
        prices = range(best, best + LEVELS * step, step)
        side = {price: before.get(price) or self._level(price) for price in prices}
        changed = prices[int(self._random.random() * LEVELS)]
        side[changed] = self._level(changed)
        return side

    def _level(self, price: int) -> tuple[Decimal, Decimal]:
        return _price(price), self._size()

    def _size(self) -> Decimal:
        return _CONTEXT.scaleb(Decimal(1 + int(self._random.random() * 500_000)), -5)

    def trade(self) -> MarketTrade:
        """Return the last trade, at one of the best prices."""
        side: Literal["buy", "sell"] = "buy" if self._is_bought else "sell"
        return MarketTrade(next(self._trades), _price(self._last), self._size(), side)

    def quote(self) -> MarketQuote:
        bid, ask = (next(iter(side.values())) for side in self.sides)
        return MarketQuote(*bid, *ask, _price(self._last))


class Listing:
    """One channel of a venue: ``next()`` makes the content of its next message.

    Two channels of one symbol share the instrument, but each remembers the book as it last sent it.
    """

    def __init__(self, instrument: Instrument, kind: type[MarketEvent]) -> None:
        self._instrument = instrument
        self._kind = kind
        self._sent: tuple[_MarketSide, _MarketSide] = instrument.sides

    def next(self) -> MarketEvent:
        instrument = self._instrument
        instrument.move()
        if self._kind is MarketTrade:
            return instrument.trade()
        if self._kind is MarketQuote:
            return instrument.quote()
        before, self._sent = self._sent, instrument.sides
        bids, asks = (list(_changes(*pair)) for pair in zip(before, self._sent, strict=True))
        return Depth(bids, asks, _levels(self._sent), _levels(before))

    def snapshot(self) -> MarketQuote | Depth | None:
        """Return the state after all messages so far, for a later subscriber; None for trades."""
        if self._kind is MarketQuote:
            return self._instrument.quote()
        if self._kind is Depth:
            book = _levels(self._sent)
            return Depth(*book, book)
        return None


def _levels(sides: tuple[_MarketSide, _MarketSide]) -> tuple[MarketLevels, MarketLevels]:
    bids, asks = sides
    return list(bids.values()), list(asks.values())


def _changes(before: _MarketSide, after: _MarketSide) -> Iterator[tuple[Decimal, Decimal]]:
    for price in before.keys() - after.keys():
        yield before[price][0], _NOTHING
    for price, level in after.items():
        if before.get(price) is not level:
            yield level


def _opening(symbol: str) -> int:
    base = symbol.upper()
    return next((at for name, at in OPENINGS.items() if base.startswith(name)), OTHERS)


def _price(cents: int) -> Decimal:
    return _CONTEXT.scaleb(Decimal(cents), -2)
