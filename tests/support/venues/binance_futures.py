"""Binance USD-M futures, which have the quiet channels of spot."""

from __future__ import annotations

from support.venues import MS, NS, BookFrames, Private, Venue, pair, with_field
from support.venues.binance import by_rest, update
from wsclient.dialects.binance_futures import BinanceFutures

VENUE = Venue(
    BinanceFutures(),
    quiet=["btcusdt@forceOrder", "!forceOrder@arr", "!contractInfo", "k" * 64, "userData"],
    others=["btcusdt@markPrice", "btcusdt@depth@100ms"],
    times=[
        ({"stream": "a@markPrice", "data": {"e": "markPriceUpdate", "E": MS}}, NS),
        ({"e": "ORDER_TRADE_UPDATE", "E": MS, "T": MS}, NS),
    ],
    book=BookFrames(
        "btcusdt@depth@100ms",
        by_rest,
        lambda bids, asks: update(bids, asks, pu=10),
        pair,
        [with_field("data", "e")],
        by_rest=True,
    ),
    private=Private("userData", ("api_key",)),
)
