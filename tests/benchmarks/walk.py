"""A made-up order book that walks through some states and back: its updates are a closed cycle."""

from __future__ import annotations

import itertools
from decimal import Decimal
from random import Random
from typing import NamedTuple

from wsclient.dialects import Kraken

#: The updates in a cycle.
UPDATES = 16

#: Prices and sizes as text.
Rows = list[tuple[str, str]]


class State(NamedTuple):
    """A book: sizes (in 1e-8) by price (in 0.1), best first."""

    bids: dict[int, int]
    asks: dict[int, int]

    def rows(self) -> tuple[Rows, Rows]:
        return rows_of(self.bids), rows_of(self.asks)

    def checksum(self) -> int | None:
        sides = ([(Decimal(p), Decimal(s)) for p, s in side] for side in self.rows())
        return Kraken.book.checksum(*sides)


class Update(NamedTuple):
    """What leads from one state to the next: rows per side, a size of zero removes a level."""

    bids: Rows
    asks: Rows
    before: State
    after: State


def rows_of(side: dict[int, int]) -> Rows:
    return [(price_text(tick), _size_text(lots)) for tick, lots in side.items()]


def price_text(tick: int) -> str:
    return f"{tick // 10}.{tick % 10}"


def _size_text(lots: int) -> str:
    return f"{lots // 10**8}.{lots % 10**8:08}"


def walk(dice: Random, levels: int, changed: int) -> list[Update]:
    """Return a cycle of updates, each of which changes about ``changed`` levels per side."""
    sizes: dict[int, int] = {}
    best = 420_000
    states = []
    for step in range(UPDATES // 2 + 1):
        if step:
            best += dice.choice((-1, 1))
        ticks = range(best, best - levels, -1), range(best + 1, best + 1 + levels)
        for side in ticks if step else ():
            for tick in dice.sample(side, changed):
                sizes[tick] = dice.randrange(1, 5 * 10**8)
        for tick in itertools.chain(*ticks):
            sizes.setdefault(tick, dice.randrange(1, 5 * 10**8))
        states.append(State(*({tick: sizes[tick] for tick in side} for side in ticks)))
    steps = (*itertools.pairwise(states), *itertools.pairwise(states[::-1]))
    return [
        Update(rows_of(_changes(a.bids, b.bids)), rows_of(_changes(a.asks, b.asks)), a, b)
        for a, b in steps
    ]


def _changes(before: dict[int, int], after: dict[int, int]) -> dict[int, int]:
    gone = dict.fromkeys(before.keys() - after.keys(), 0)
    return gone | {tick: lots for tick, lots in after.items() if before.get(tick) != lots}
