"""Bybit v5."""

from __future__ import annotations

from typing import Any

from support.venues import MS, NS, BookFrames, Login, Private, Venue, pair, with_field
from wsclient.dialects.bybit import Bybit


def frame(kind: str) -> Any:
    return lambda bids, asks: {
        "topic": "orderbook.50.BTCUSDT",
        "type": kind,
        "ts": 1,
        "data": {"s": "BTCUSDT", "b": bids, "a": asks, "u": 7, "seq": 1},
    }


VENUE = Venue(
    Bybit(),
    quiet=["order", "order.linear", "wallet", "execution.fast", "allLiquidation.BTCUSDT"],
    others=["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "tickers.BTCUSDT"],
    times=[
        ({"topic": "publicTrade.A", "type": "snapshot", "ts": MS, "data": []}, NS),
        ({"id": "5", "topic": "order", "creationTime": MS, "data": []}, NS),
    ],
    book=BookFrames(
        "orderbook.50.BTCUSDT", frame("snapshot"), frame("delta"), pair, [with_field("type")]
    ),
    private=Private(
        "order",
        login=Login(
            {"success": True, "ret_msg": "", "op": "auth", "conn_id": "c"},
            {"op": "auth", "success": False, "ret_msg": "no"},
            {"success": True, "ret_msg": "", "op": "subscribe", "req_id": "", "conn_id": "c"},
        ),
    ),
)
