"""OKX v5."""

from __future__ import annotations

from typing import Any

from support.venues import MS, NS, BookFrames, Login, Private, Venue, with_field
from wsclient.dialects.okx import OKX


def frame(kind: str) -> Any:
    return lambda bids, asks: {
        "arg": {"channel": "books", "instId": "BTC-USDT"},
        "action": kind,
        "data": [
            {"bids": bids, "asks": asks, "checksum": 0}
            | {"prevSeqId": -1 if kind == "snapshot" else 10, "seqId": 10 + (kind == "update")}
        ],
    }


VENUE = Venue(
    OKX(),
    quiet=["account", "orders:BTC-USDT", "liquidation-orders", "status", "balance_and_position"],
    others=["books:BTC-USDT", "option-summary:BTC-USD", "sprd-tickers:BTC-USDT_BTC-USDT-SWAP"],
    times=[({"arg": {"channel": "tickers", "instId": "A"}, "data": [{"ts": str(MS)}]}, NS)],
    book=BookFrames(
        "books:BTC-USDT",
        frame("snapshot"),
        frame("update"),
        lambda side, price, size, *more: [price, size, "0", "4", *more],
        [with_field("action")],
    ),
    private=Private(
        "account",
        ("api_key", "secret", "passphrase"),
        login=Login(
            {"event": "login", "code": "0", "msg": "", "connId": "c"},
            {"event": "error", "code": "60009", "msg": "no"},
            {"event": "subscribe", "arg": {"channel": "account"}, "connId": "c"},
        ),
    ),
)
