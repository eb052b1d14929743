"""Kraken."""

from __future__ import annotations

import wsclient
from support.views.case import Case, D, rows
from wsclient import PlainBookUpdate, Quote, Trade

KRAKEN = wsclient.Kraken()

CASES = {
    "kraken trades, two in a frame": Case(
        KRAKEN,
        '{"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"sell",'
        '"qty":40.0,"price":0.5117,"ord_type":"market","trade_id":4665906,'
        '"timestamp":"2023-09-25T07:49:37.708706Z"},{"symbol":"MATIC/USD","side":"buy",'
        '"qty":0.50000000,"price":0.5120,"ord_type":"limit","trade_id":4665907,'
        '"timestamp":"2023-09-25T07:49:37.708707Z"}]}',
        [
            Trade("MATIC/USD", D("0.5117"), D("40.0"), "sell", "4665906", 1695628177708706_000),
            Trade(
                "MATIC/USD", D("0.5120"), D("0.50000000"), "buy", "4665907", 1695628177708707_000
            ),
        ],
    ),
    "kraken snapshot of trades": Case(
        KRAKEN,
        '{"channel":"trade","type":"snapshot","data":[{"symbol":"MATIC/USD","side":"buy",'
        '"qty":6.0,"price":0.5147,"ord_type":"limit","trade_id":4665846,'
        '"timestamp":"2023-09-25T07:48:36.925533Z"}]}',
        [Trade("MATIC/USD", D("0.5147"), D("6.0"), "buy", "4665846", 1695628116925533_000, True)],
    ),
    "kraken frame without trades": Case(
        KRAKEN, '{"channel":"trade","type":"update","data":[]}', []
    ),
    "kraken ticker": Case(
        KRAKEN,
        '{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":63297.7,'
        '"bid_qty":5.75119051,"ask":63297.80,"ask_qty":0.36977971,"last":63297.8,'
        '"timestamp":"2026-08-12T19:29:00.921195Z"}]}',
        quote=Quote(
            "BTC/USD",
            D("63297.7"),
            D("5.75119051"),
            D("63297.80"),
            D("0.36977971"),
            1786562940921195_000,
        ),
    ),
    "kraken book": Case(
        KRAKEN,
        '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[],"asks":['
        '{"price":45285.2,"qty":0.00100000}],"checksum":3310070434,'
        '"timestamp":"2026-08-12T19:29:00.921195Z"}]}',
        update=PlainBookUpdate(
            "BTC/USD",
            False,
            (),
            rows("45285.2 0.00100000"),
            None,
            3310070434,
            1786562940921195_000,
        ),
    ),
    "kraken candle": Case(
        KRAKEN,
        '{"channel":"ohlc","type":"update","timestamp":"2023-10-04T16:26:30.524394Z",'
        '"data":[{"symbol":"MATIC/USD","open":0.5624}]}',
    ),
}
