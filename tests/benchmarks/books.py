"""Updates per second of an order book: ``python tests/benchmarks/books.py [--rounds N]``.

Compares ours with a dict sorted after each message, and with two ``sortedcontainers.SortedDict`` if
installed. Each applies decoded updates, cuts each side to its depth and reads the best two prices.
The last line is ``OrderBook.apply`` on the recorded frames, with decoding and checksums. Every
figure is the median of several rounds, in which the books take turns.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.making import entries_of
from wsclient import Kraken, Message, OrderBook
from wsclient.books.book import Book
from wsclient.dialect.books import BookUpdate
from wsclient.stream.inbound import Inbound

try:
    from sortedcontainers import SortedDict
except ImportError:
    SortedDict = None

RECORDING = Path(__file__).parents[3] / "shared/recorded/kraken/kraken_btcusd_l2.jsonl"
CHANNEL = "book:BTC/USD"
#: Levels per side of the synthetic book.
DEEP = 5000

Best = tuple[Any, Any]


class Ours(Book):
    def best(self) -> Best:
        return self.bids.best_price, self.asks.best_price


class Plain:
    """A book that sorts each side that a message changes."""

    make: Callable[[], Any] = dict

    def __init__(self, depth: int | None) -> None:
        self.depth = depth

    def apply(self, update: BookUpdate) -> None:
        if update.is_snapshot:
            self.bids, self.asks = self.make(), self.make()
        if update.bids:
            change(self.bids, update.bids)
            best = sorted(self.bids, reverse=True)[: self.depth]
            self.bids = {price: self.bids[price] for price in best}
        if update.asks:
            change(self.asks, update.asks)
            self.asks = {price: self.asks[price] for price in sorted(self.asks)[: self.depth]}

    def best(self) -> Best:
        return next(iter(self.bids), None), next(iter(self.asks), None)


class Sorted(Plain):
    make = SortedDict

    def apply(self, update: BookUpdate) -> None:
        if update.is_snapshot:
            self.bids, self.asks = self.make(), self.make()
        change(self.bids, update.bids)
        change(self.asks, update.asks)
        if self.depth is not None:
            while len(self.bids) > self.depth:
                self.bids.popitem(0)
            while len(self.asks) > self.depth:
                self.asks.popitem()

    def best(self) -> Best:
        return self.bids.peekitem()[0], self.asks.peekitem(0)[0]


def change(side: Any, levels: Any) -> None:
    for price, size in levels:
        if size:
            side[price] = size
        else:
            side.pop(price, None)


def synthetic(count: int) -> Iterator[BookUpdate]:
    """Return a deep book's messages, each changing 1 to 20 levels, mostly near the top."""
    rng = random.Random(7)
    bids = [(Decimal(100_000 - n) / 100, Decimal(1)) for n in range(1, DEEP + 1)]
    asks = [(Decimal(100_000 + n) / 100, Decimal(1)) for n in range(1, DEEP + 1)]
    yield BookUpdate(True, bids, asks)
    for _ in range(count):
        sides: tuple[list[Any], list[Any]] = ([], [])
        for _ in range(rng.randint(1, 20)):
            is_ask = rng.random() < 0.5
            away = 1 + min(int(rng.expovariate(1 / 40 if rng.random() < 0.9 else 1 / 2000)), DEEP)
            price = Decimal(100_000 + (away if is_ask else -away)) / 100
            sides[is_ask].append((price, Decimal(rng.choice([0, 1, 2, 3]))))
        yield BookUpdate(False, *sides)


def rate(book: Any, updates: list[BookUpdate], repeats: int) -> tuple[float, list[Best]]:
    start = time.perf_counter()
    for _ in range(repeats):
        best = []
        for update in updates:
            book.apply(update)
            best.append(book.best())
    return len(updates) * repeats / (time.perf_counter() - start), best


def table(title: str, updates: list[BookUpdate], depth: int | None, repeats: int, n: int) -> None:
    kinds: dict[str, Any] = {"ours": Ours, "dict and sort": Plain}
    if SortedDict is not None:
        kinds["sortedcontainers"] = Sorted
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(n):
        results = []
        for name, kind in kinds.items():
            figure, best = rate(kind(depth), updates, repeats)
            rates[name].append(figure)
            results.append(best)
        assert all(best == results[0] for best in results), "the books disagree"
    print(title)
    for name, figures in rates.items():
        ratio = median(a / b for a, b in zip(rates["ours"], figures, strict=True))
        print(f"  {name:17} {median(figures):10,.0f} updates/s   ours is x {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    if RECORDING.exists():
        frames = RECORDING.read_bytes().splitlines()
        entries = entries_of(Inbound(Kraken()), *frames)
        messages = [entry for entry in entries if isinstance(entry, Message)]
        updates = [Kraken.book.update(message) for message in messages]
        table("Kraken BTC/USD, depth 10, recorded", [u for u in updates if u], 10, 20, rounds)
        figures = []
        for _ in range(rounds):
            book = OrderBook("kraken", CHANNEL)
            start = time.perf_counter()
            assert all(book.apply(message) for _ in range(10) for message in messages)
            figures.append(10 * len(messages) / (time.perf_counter() - start))
        print(f"  OrderBook.apply   {median(figures):10,.0f} messages/s, decoded and verified")
    else:
        print("the recorded traffic is not here (../shared/recorded, beside the project)")
    table(f"synthetic, {DEEP:,} levels a side", list(synthetic(500)), None, 1, rounds)


if __name__ == "__main__":
    main()
