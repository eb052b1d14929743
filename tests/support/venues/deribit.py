"""Deribit."""

from __future__ import annotations

from typing import Any

from support.venues import MS, NS, BookFrames, Login, Private, Venue, number, with_field
from wsclient.dialects.deribit import Deribit


def frame(kind: str) -> Any:
    return lambda bids, asks: {
        "method": "subscription",
        "params": {
            "channel": "book.BTC-PERPETUAL.100ms",
            "data": {"type": kind, "bids": bids, "asks": asks, "change_id": 2}
            | ({"prev_change_id": 2, "change_id": 3} if kind != "snapshot" else {}),
        },
    }


VENUE = Venue(
    Deribit(),
    quiet=["user.orders.BTC-PERPETUAL.raw", "announcements", "platform_state"],
    others=["book.BTC-PERPETUAL.100ms", "ticker.BTC-PERPETUAL.raw"],
    times=[
        (
            {
                "method": "subscription",
                "params": {"channel": "trades.A.100ms", "data": [{"timestamp": MS}]},
            },
            NS,
        )
    ],
    book=BookFrames(
        "book.BTC-PERPETUAL.100ms",
        frame("snapshot"),
        frame("change"),
        lambda side, price, size, *more: ["new", number(price), number(size), *more],
        [with_field("params", "data", "type"), with_field("params", "data", "bids", 0, 0)],
    ),
    private=Private(
        "user.orders.any.any.raw",
        ("client_id", "client_secret"),
        login=Login(
            {"jsonrpc": "2.0", "id": "login", "result": {"access_token": "T", "expires_in": 900}},
            {"jsonrpc": "2.0", "id": "login", "error": {"code": 13004, "message": "no"}},
            {"jsonrpc": "2.0", "id": None, "result": ["user.orders.any.any.raw"]},
        ),
    ),
)
