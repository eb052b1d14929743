"""Bybit."""

from __future__ import annotations

import wsclient
from support.views.case import MS, Case, D, rows
from wsclient import PlainBookUpdate, Quote, Trade

BYBIT = wsclient.Bybit()

CASES = {
    "bybit publicTrade": Case(
        BYBIT,
        '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":['
        '{"T":1672304486865,"s":"BTCUSDT","S":"Buy","v":"0.001","p":"16578.50","L":"PlusTick",'
        '"i":"20f43950-d8dd-5b31-9112-a178eb6023af","BT":false,"seq":1783284617},'
        '{"T":1672304486866,"s":"BTCUSDT","S":"Sell","v":"0.0200","p":"16578.00","i":"b"}]}',
        [
            Trade(
                "BTCUSDT",
                D("16578.50"),
                D("0.001"),
                "buy",
                "20f43950-d8dd-5b31-9112-a178eb6023af",
                1672304486865 * MS,
            ),
            Trade("BTCUSDT", D("16578.00"), D("0.0200"), "sell", "b", 1672304486866 * MS),
        ],
    ),
    "bybit ticker of linear": Case(
        BYBIT,
        '{"topic":"tickers.BTCUSDT","type":"snapshot","data":{"symbol":"BTCUSDT",'
        '"lastPrice":"17216.00","bid1Price":"17215.50","bid1Size":"84.489",'
        '"ask1Price":"17216.00","ask1Size":"83.020"},"cs":24987956059,"ts":1673272861686}',
        quote=Quote(
            "BTCUSDT",
            D("17215.50"),
            D("84.489"),
            D("17216.00"),
            D("83.020"),
            1673272861686 * MS,
        ),
    ),
    "bybit delta of a ticker, which leaves out what is as before": Case(
        BYBIT,
        '{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT",'
        '"bid1Price":"17215.50","bid1Size":"84.489"},"ts":1673272861687}',
    ),
    "bybit ticker of an option": Case(
        BYBIT,
        '{"topic":"tickers.BTC-6JAN23-17500-C","type":"snapshot","ts":1672917511074,"data":{'
        '"symbol":"BTC-6JAN23-17500-C","bidPrice":"0","bidSize":"0","askPrice":"10",'
        '"askSize":"5.1"}}',
        quote=Quote("BTC-6JAN23-17500-C", None, None, D("10"), D("5.1"), 1672917511074 * MS),
    ),
    "bybit ticker of spot, which has no quote": Case(
        BYBIT,
        '{"topic":"tickers.BTCUSDT","type":"snapshot","ts":1673853746003,"data":{'
        '"symbol":"BTCUSDT","lastPrice":"21109.77"}}',
    ),
    "bybit book of level 1, a quote too": Case(
        BYBIT,
        '{"topic":"orderbook.1.BTCUSDT","type":"snapshot","ts":1672304484978,"data":{'
        '"s":"BTCUSDT","b":[["16493.50","0.006"]],"a":[],"u":18521288,"seq":7961638724}}',
        quote=Quote("BTCUSDT", D("16493.50"), D("0.006"), None, None, 1672304484978 * MS),
        update=PlainBookUpdate(
            "BTCUSDT", True, rows("16493.50 0.006"), (), None, None, 1672304484978 * MS
        ),
    ),
    "bybit delta of a book": Case(
        BYBIT,
        '{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1687940967466,"data":{'
        '"s":"BTCUSDT","b":[["30247.20","30.028"]],"a":[["30249.30","0"]],"u":177400507}}',
        update=PlainBookUpdate(
            "BTCUSDT",
            False,
            rows("30247.20 30.028"),
            rows("30249.30 0"),
            None,
            None,
            1687940967466 * MS,
        ),
        channel="linear:orderbook.50.BTCUSDT",
    ),
}
