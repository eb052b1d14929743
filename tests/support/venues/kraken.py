"""Kraken v2."""

from __future__ import annotations

from typing import Any

from support.venues import NS, BookFrames, Private, Venue, number, with_field
from wsclient.dialects.kraken import Kraken

TRADE = {"symbol": "A", "timestamp": "2023-11-14T22:13:20.123Z"}
#: Of a candle, which has the time of its end.
CANDLE = {
    "symbol": "A",
    "interval_begin": "2023-11-14T22:10:00.000000000Z",
    "interval": 5,
    "timestamp": "2023-11-14T22:15:00.000000Z",
}
SENT_AT = {"timestamp": "2023-11-14T22:13:20.123000000Z"}


def frame(kind: str) -> Any:
    return lambda bids, asks: {
        "channel": "book",
        "type": kind,
        "data": [{"symbol": "BTC/USD", "bids": bids, "asks": asks, "new": [1]}],
    }


def row(side: str, price: str, size: str, *more: Any) -> Any:
    further = {f"new{n}": field for n, field in enumerate(more)}
    return {"price": number(price), "qty": number(size), **further}


VENUE = Venue(
    Kraken(),
    quiet=["balances", "executions"],
    others=["level3:BTC/USD", "ticker:BTC/USD"],
    times=[
        ({"channel": "trade", "type": "update", "data": [TRADE]}, NS),
        ({"channel": "trade", "type": "snapshot", "data": [TRADE]}, None),
        ({"channel": "ohlc", "type": "update", **SENT_AT, "data": [CANDLE]}, NS),
        ({"channel": "ohlc", "type": "update", "data": [CANDLE]}, None),
    ],
    book=BookFrames("book:BTC/USD", frame("snapshot"), frame("update"), row, [with_field("type")]),
    private=Private("executions", is_secret_in_base64=True),
)
