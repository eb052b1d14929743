"""KuCoin spot."""

from __future__ import annotations

from typing import Any

from support.venues import MS, NS, BookFrames, Private, Venue, with_field
from wsclient.dialects.kucoin import Kucoin


def by_rest(bids: Any, asks: Any) -> Any:
    return {"code": "200000", "data": {"sequence": "10", "bids": bids, "asks": asks}}


def update(bids: Any, asks: Any) -> Any:
    numbers = {"sequenceStart": 11, "sequenceEnd": 12}
    return {
        "type": "message",
        "topic": "/market/level2:BTC-USDT",
        "subject": "trade.l2update",
        "data": {**numbers, "changes": {"bids": bids, "asks": asks}},
    }


def timed(topic: str) -> Any:
    return {"type": "message", "topic": topic, "data": {"timestamp": MS}}


VENUE = Venue(
    Kucoin(),
    quiet=["/spotMarket/tradeOrders", "/account/balance", "/margin/isolatedPosition:BTC-USDT"],
    others=["/market/level2:BTC-USDT", "/market/ticker:all"],
    times=[
        (timed("/spotMarket/level1:A"), NS),
        (timed("/spotMarket/level2Depth50:A"), NS),
        (timed("/indicator/index:A"), NS),
        (
            {
                "type": "message",
                "topic": "/market/match:A",
                "subject": "trade.l3match",
                "data": {"time": str(NS), "sequence": "5"},
            },
            NS,
        ),
    ],
    book=BookFrames(
        "/market/level2:BTC-USDT",
        by_rest,
        update,
        lambda side, price, size, *more: [price, size, 12, *more],
        [with_field("subject")],
        by_rest=True,
    ),
    private=Private("/account/balance", ("api_key", "secret", "passphrase")),
)
