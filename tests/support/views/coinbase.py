"""Coinbase Exchange."""

from __future__ import annotations

import wsclient
from support.views.case import Case, D, rows
from wsclient import PlainBookUpdate, Quote, Trade

COINBASE = wsclient.CoinbaseExchange()
COINBASE_FULL = wsclient.CoinbaseExchange(book="level2", trades="full")

CASES = {
    "coinbase match: the side is the maker's (w)": Case(
        COINBASE,
        '{"type":"match","trade_id":82008,"maker_order_id":"f7","taker_order_id":"d3",'
        '"side":"sell","size":"335","price":"0.5762","product_id":"SKL-GBP",'
        '"sequence":27883501,"time":"2021-04-17T16:43:37.270697Z"}',
        [Trade("SKL-GBP", D("0.5762"), D("335"), "buy", "82008", 1618677817270697_000)],
    ),
    "coinbase match on the full channel": Case(
        COINBASE_FULL,
        '{"type":"match","trade_id":10,"sequence":50,"maker_order_id":"ac","taker_order_id":"13",'
        '"time":"2014-11-07T08:19:27.028459Z","product_id":"BTC-USD","size":"5.23512",'
        '"price":"400.23","side":"sell"}',
        [Trade("BTC-USD", D("400.23"), D("5.23512"), "buy", "10", 1415348367028459_000)],
    ),
    "coinbase snapshot of level2": Case(
        COINBASE_FULL,
        '{"type":"snapshot","product_id":"BTC-USD","bids":[["10101.10","0.45054140"]],'
        '"asks":[["10102.55","0.57753524"]]}',
        update=PlainBookUpdate(
            "BTC-USD", True, rows("10101.10 0.45054140"), rows("10102.55 0.57753524")
        ),
    ),
    "coinbase last_match (w)": Case(
        COINBASE,
        '{"type":"last_match","trade_id":563678,"maker_order_id":"a7","taker_order_id":"35",'
        '"side":"buy","size":"70.10","price":"0.4394","product_id":"NU-GBP",'
        '"sequence":108779525,"time":"2021-04-17T16:43:18.435588Z"}',
        [Trade("NU-GBP", D("0.4394"), D("70.10"), "sell", "563678", 1618677798435588_000, True)],
    ),
    "coinbase ticker of the recordings, without sizes (w)": Case(
        COINBASE,
        '{"type":"ticker","sequence":27883501,"product_id":"SKL-GBP","price":"0.5762",'
        '"best_bid":"0.5742","best_ask":"0.5771","side":"buy",'
        '"time":"2021-04-17T16:43:37.270697Z","trade_id":82008,"last_size":"335"}',
        quote=Quote("SKL-GBP", D("0.5742"), None, D("0.5771"), None, 1618677817270697_000),
    ),
    "coinbase ticker": Case(
        COINBASE,
        '{"type":"ticker","sequence":93525999403,"product_id":"BTC-USD","best_bid":"99718.01",'
        '"best_bid_size":"0.02453500","best_ask":"99728.83","best_ask_size":"0.06298200",'
        '"side":"buy","time":"2024-12-07T18:00:00.542551Z","trade_id":734680334}',
        quote=Quote(
            "BTC-USD",
            D("99718.01"),
            D("0.02453500"),
            D("99728.83"),
            D("0.06298200"),
            1733594400542551_000,
        ),
    ),
    "coinbase l2update (w)": Case(
        COINBASE,
        '{"type":"l2update","product_id":"SKL-USD","changes":[["buy","0.7885","0.0"]],'
        '"time":"2021-04-17T16:43:37.077621Z"}',
        update=PlainBookUpdate(
            "SKL-USD", False, rows("0.7885 0.0"), (), None, None, 1618677817077621_000
        ),
    ),
    "coinbase heartbeat": Case(
        COINBASE,
        '{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD",'
        '"time":"2014-11-07T08:19:28.464459Z"}',
    ),
}
