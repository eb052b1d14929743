"""Binance spot."""

from __future__ import annotations

from typing import Any

from support.venues import MS, NS, BookFrames, Venue, pair, with_field
from wsclient.dialects.binance import Binance


def by_rest(bids: Any, asks: Any) -> Any:
    return {"lastUpdateId": 10, "bids": bids, "asks": asks}


def update(bids: Any, asks: Any, **fields: Any) -> Any:
    data = {"e": "depthUpdate", "U": 11, "u": 12, "b": bids, "a": asks, **fields}
    return {"stream": "btcusdt@depth@100ms", "data": data}


VENUE = Venue(
    Binance(),
    quiet=["btcusdt@forceOrder", "!forceOrder@arr", "!contractInfo", "k" * 64],
    others=["btcusdt@trade", "!miniTicker@arr", "btcusdt@depth@100ms"],
    times=[
        ({"stream": "a@trade", "data": {"e": "trade", "E": MS}}, NS),
        ({"stream": "!ticker@arr", "data": [{"e": "24hrTicker", "E": MS}]}, NS),
        ({"stream": "a@bookTicker", "data": {"u": 1, "b": "1", "B": "2"}}, None),
    ],
    book=BookFrames(
        "btcusdt@depth@100ms", by_rest, update, pair, [with_field("data", "e")], by_rest=True
    ),
)
