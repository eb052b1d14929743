"""Coinbase Exchange."""

from __future__ import annotations

from typing import Any

from support.venues import NS, BookFrames, Private, Venue, with_field
from wsclient.dialects.coinbase_exchange import CoinbaseExchange

TIME = "2023-11-14T22:13:20.123000Z"


def snapshot(bids: Any, asks: Any) -> Any:
    sides = {"bids": [row[1:] for row in bids], "asks": [row[1:] for row in asks]}
    return {"type": "snapshot", "product_id": "BTC-USD", **sides}


VENUE = Venue(
    CoinbaseExchange(),
    quiet=["user:BTC-USD", "auctionfeed:BTC-USD"],
    others=["level2_batch:BTC-USD", "status", "ticker:BTC-USD"],
    times=[
        ({"type": "ticker", "product_id": "A", "time": TIME}, NS),
        ({"type": "last_match", "product_id": "A", "time": TIME}, None),
    ],
    book=BookFrames(
        "level2_batch:BTC-USD",
        snapshot,
        lambda bids, asks: {
            "type": "l2update",
            "product_id": "BTC-USD",
            "changes": [*bids, *asks],
        },
        lambda side, price, size, *more: [side, price, size, *more],
        [with_field("changes", 0, 0)],
    ),
    private=Private(
        "ticker:BTC-USD", ("api_key", "secret", "passphrase"), is_secret_in_base64=True
    ),
)
