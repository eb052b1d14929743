"""Views of recorded traffic: each row has one, with the venue's own digits and the right side."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest

from support.recordings import named_messages
from wsclient.dialect import Dialect
from wsclient.dialects import (
    OKX,
    Binance,
    BinanceFutures,
    Bitfinex,
    Bybit,
    CoinbaseExchange,
    Deribit,
    Kraken,
    Kucoin,
)
from wsclient.messages import Message
from wsclient.views import Trade

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class Recorded(NamedTuple):
    """A recording, and the number of its trades, quotes and book updates.

    ``rows`` returns the number of trades in a decoded frame. ``None`` counts the messages that are
    none of them.
    """

    file: str
    dialect: Dialect
    counts: dict[str, int]
    rows: Callable[[Any], int]


def bitfinex_rows(frame: Any) -> int:
    is_rows = isinstance(frame, list) and isinstance(frame[1], list) and len(frame[1]) > 0
    first = frame[1][0] if is_rows else None
    return len(frame[1]) if isinstance(first, list) and first[0] > 10**8 else 0


RECORDINGS = [
    Recorded(
        "binance/BINANCE.ws.1.0",
        Binance(),
        {"trades": 2, "quote": 84, "book_update": 177, "none": 2},
        lambda frame: "aggTrade" in frame["stream"],
    ),
    Recorded(
        "binance_futures/BINANCE_FUTURES.ws.1.0",
        BinanceFutures(),
        {"trades": 91, "quote": 613, "book_update": 764, "none": 67},
        lambda frame: "aggTrade" in frame["stream"],
    ),
    Recorded(
        "bitfinex/BITFINEX.ws.11.0",
        Bitfinex(checksums=False),
        {"trades": 210, "quote": 21, "book_update": 1600},
        bitfinex_rows,
    ),
    Recorded("bybit/2024-12-01_XRPUSDT_ob500.data", Bybit(), {"book_update": 50}, lambda frame: 0),
    Recorded(
        "coinbase_exchange/COINBASE.ws.28.0",
        CoinbaseExchange(book="level2"),
        {"trades": 107, "quote": 107, "book_update": 9729},
        lambda frame: frame["type"] in ("match", "last_match"),
    ),
    Recorded(
        "deribit/DERIBIT.ws.1.0", Deribit(), {"quote": 89, "book_update": 46}, lambda frame: 0
    ),
    Recorded("kraken/kraken_btcusd_l2.jsonl", Kraken(), {"book_update": 301}, lambda frame: 0),
    Recorded(
        "kucoin/KUCOIN.ws.1.0",
        Kucoin(),
        {"trades": 18, "quote": 830, "book_update": 3853, "none": 6},
        lambda frame: frame.get("subject") == "trade.l3match",
    ),
    Recorded(
        "okx/OKX.ws.1.0",
        OKX(),
        {"trades": 74, "quote": 28, "book_update": 290},
        lambda frame: len(frame["data"]) if "trades" in frame["arg"].values() else 0,
    ),
]


def numbers(message: Message) -> list[Decimal]:
    """Return all prices and sizes of a message's views."""
    trades, quote, update = message.trades() or (), message.quote(), message.book_update()
    found: list[Decimal | None] = [n for trade in trades for n in (trade.price, trade.size)]
    if quote is not None:
        found += [quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size]
    if update is not None:
        found += [n for row in (*update.bids, *update.asks) for n in row if n]
    return [number for number in found if number is not None]


@pytest.mark.parametrize("recorded", RECORDINGS, ids=lambda recorded: recorded.dialect.name)
def test_each_row_has_a_view(recorded: Recorded) -> None:
    counts, rows, before = Counter[str](), 0, b""
    for message in named_messages(recorded.dialect, recorded.file):
        trades = message.trades()
        views = {"trades": trades, "quote": message.quote(), "book_update": message.book_update()}
        there = [name for name, view in views.items() if view is not None]
        counts.update(there or ["none"])
        if trades is not None:
            counts["trades"] += len(trades) - 1
        if message.raw is not before:
            rows += recorded.rows(msgspec.json.decode(message.raw))
        before = message.raw
    assert counts == recorded.counts
    assert counts["trades"] == rows


@pytest.mark.parametrize("recorded", RECORDINGS, ids=lambda recorded: recorded.dialect.name)
def test_each_number_has_the_digits_of_the_wire(recorded: Recorded) -> None:
    wrong, checked = [], 0
    for message in named_messages(recorded.dialect, recorded.file):
        on_the_wire = {
            Decimal(text.decode()).copy_abs().as_tuple() for text in NUMBER.findall(message.raw)
        }
        seen = [number.as_tuple() for number in numbers(message)]
        checked += len(seen)
        wrong += [number for number in seen if number not in on_the_wire]
    assert not wrong
    assert checked > 100


@pytest.mark.parametrize(
    ("file", "dialect", "expected"),
    [
        ("binance_futures/BINANCE_FUTURES.ws.1.0", BinanceFutures(), (75, 86)),
        ("kucoin/KUCOIN.ws.1.0", Kucoin(), (18, 18)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_side_is_that_of_the_aggressor(
    file: str, dialect: Dialect, expected: tuple[int, int]
) -> None:
    """A buyer who aggresses pays more than the middle of the last quote, with few exceptions."""
    middles: dict[str, Decimal] = {}
    agreeing = counted = 0
    for message in named_messages(dialect, file):
        quote = message.quote()
        if quote is not None and quote.bid_price is not None and quote.ask_price is not None:
            middles[quote.symbol] = (quote.bid_price + quote.ask_price) / 2
        for trade in message.trades() or ():
            middle = middles.get(trade.symbol)
            if middle is not None and trade.price != middle:
                counted += 1
                agreeing += (trade.price > middle) == (trade.side == "buy")
    assert (agreeing, counted) == expected


def test_coinbase_agrees_with_its_ticker_which_names_the_taker() -> None:
    sides: dict[tuple[str, str], str] = {}
    trades: list[Trade] = []
    for message in named_messages(
        CoinbaseExchange(book="level2"), "coinbase_exchange/COINBASE.ws.28.0"
    ):
        trades += message.trades() or ()
        if message.type == "ticker" and "side" in message.data:
            sides[message.data["product_id"], str(message.data["trade_id"])] = message.data["side"]
    pairs = [(t.side, sides[t.symbol, str(t.id)]) for t in trades if (t.symbol, t.id) in sides]
    assert len(pairs) > 90
    assert [pair for pair in pairs if pair[0] != pair[1]] == []
