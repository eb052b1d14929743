"""Binance, spot and futures."""

from __future__ import annotations

import wsclient
from support.views.case import MS, Case, D, rows
from wsclient import PlainBookUpdate, Quote, Trade

BINANCE = wsclient.Binance()
FUTURES = wsclient.BinanceFutures()
WS_API = wsclient.BinanceWsApi()

CASES = {
    "binance_ws_api has no market data": Case(
        WS_API,
        '{"subscriptionId":0,"event":{"e":"executionReport","E":1672515782136,"s":"BNBBTC"}}',
    ),
    "binance aggTrade, the buyer is the taker (w)": Case(
        BINANCE,
        '{"stream":"lrcbtc@aggTrade","data":{"e":"aggTrade","E":1633998534486,"s":"LRCBTC",'
        '"a":9213679,"p":"0.00000638","q":"177.00000000","f":12368013,"l":12368013,'
        '"T":1633998534486,"m":false,"M":true}}',
        [Trade("LRCBTC", D("0.00000638"), D("177.00000000"), "buy", "9213679", 1633998534486 * MS)],
    ),
    "binance trade, the buyer is the maker": Case(
        BINANCE,
        '{"stream":"bnbbtc@trade","data":{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,'
        '"p":"0.001","q":"100","T":1672515782136,"m":true,"M":true}}',
        [Trade("BNBBTC", D("0.001"), D("100"), "sell", "12345", 1672515782136 * MS)],
    ),
    "binance trade in microseconds": Case(
        BINANCE,
        '{"stream":"bnbbtc@trade","data":{"e":"trade","E":1672515782136123,"s":"BNBBTC","t":1,'
        '"p":"0.001","q":"100","T":1672515782136123,"m":true}}',
        [Trade("BNBBTC", D("0.001"), D("100"), "sell", "1", 1672515782136123_000)],
    ),
    "binance bookTicker, without a time (w)": Case(
        BINANCE,
        '{"stream":"blzeth@bookTicker","data":{"u":281916636,"s":"BLZETH","b":"0.00006547",'
        '"B":"100.00000000","a":"0.00006560","A":"1528.00000000"}}',
        quote=Quote(
            "BLZETH", D("0.00006547"), D("100.00000000"), D("0.00006560"), D("1528.00000000")
        ),
    ),
    "binance ticker (w)": Case(
        BINANCE,
        '{"stream":"ethusdt@ticker","data":{"e":"24hrTicker","E":1653812650349,"s":"ETHUSDT",'
        '"p":"28.23000000","P":"1.600","c":"1792.84000000","Q":"0.55720000","b":"1792.83000000",'
        '"B":"1.62740000","a":"1792.84000000","A":"20.29140000"}}',
        quote=Quote(
            "ETHUSDT",
            D("1792.83000000"),
            D("1.62740000"),
            D("1792.84000000"),
            D("20.29140000"),
            1653812650349 * MS,
        ),
    ),
    "binance depth (w)": Case(
        BINANCE,
        '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1622363903670,'
        '"s":"BTCUSDT","U":11294093710,"u":11294093726,"b":[["35743.98000000","0.00000000"]],'
        '"a":[["35743.88000000","0.24000000"]]}}',
        update=PlainBookUpdate(
            "BTCUSDT",
            False,
            rows("35743.98000000 0.00000000"),
            rows("35743.88000000 0.24000000"),
            11294093726,
            None,
            1622363903670 * MS,
        ),
    ),
    "binance partial depth, a snapshot without a time or a number (w)": Case(
        BINANCE,
        '{"stream":"ethusdt@depth20","data":{"lastUpdateId":17044571457,'
        '"bids":[["1782.00000000","6.48300000"]],"asks":[["1782.01000000","15.46080000"]]}}',
        update=PlainBookUpdate(
            "ETHUSDT", True, rows("1782.00000000 6.48300000"), rows("1782.01000000 15.46080000")
        ),
    ),
    "binance candle (w)": Case(
        BINANCE,
        '{"stream":"lrcbtc@kline_1m","data":{"e":"kline","E":1633998534486,"s":"LRCBTC","k":{}}}',
    ),
    "binance futures aggTrade of COIN-M, in contracts (w)": Case(
        FUTURES,
        '{"stream":"btcusd_210625@aggTrade","data":{"e":"aggTrade","E":1616201787561,"a":5091038,'
        '"s":"BTCUSD_210625","p":"62838.0","q":"5","f":7621250,"l":7621250,"T":1616201787407,'
        '"m":true}}',
        [Trade("BTCUSD_210625", D("62838.0"), D("5"), "sell", "5091038", 1616201787407 * MS)],
    ),
    "binance futures trade": Case(
        FUTURES,
        '{"stream":"btcusdt@trade","data":{"e":"trade","E":1672515782136,"T":1672515782130,'
        '"s":"BTCUSDT","t":300,"p":"16500.10","q":"0.010","X":"MARKET","m":true}}',
        [Trade("BTCUSDT", D("16500.10"), D("0.010"), "sell", "300", 1672515782130 * MS)],
    ),
    "binance futures bookTicker of all symbols (w)": Case(
        FUTURES,
        '{"stream":"!bookTicker","data":{"e":"bookTicker","u":1553205153844,"s":"BALUSDT",'
        '"b":"6.718","B":"16.2","a":"6.719","A":"3.7","T":1653812037547,"E":1653812037552}}',
        quote=Quote("BALUSDT", D("6.718"), D("16.2"), D("6.719"), D("3.7"), 1653812037552 * MS),
    ),
    "binance futures ticker, which has no quote (w)": Case(
        FUTURES,
        '{"stream":"ethusdt@ticker","data":{"e":"24hrTicker","E":1653815205866,"s":"ETHUSDT",'
        '"p":"24.69","P":"1.405","c":"1782.02","Q":"0.003"}}',
    ),
    "binance futures depth (w)": Case(
        FUTURES,
        '{"stream":"ethusdt_210625@depth@100ms","data":{"e":"depthUpdate","E":1622368962075,'
        '"T":1622368962065,"s":"ETHUSDT_210625","U":475700780918,"u":475700783070,'
        '"pu":475700774972,"b":[["2437.07","0.000"]],"a":[["2441.23","1.500"]]}}',
        update=PlainBookUpdate(
            "ETHUSDT_210625",
            False,
            rows("2437.07 0.000"),
            rows("2441.23 1.500"),
            475700783070,
            None,
            1622368962075 * MS,
        ),
    ),
    "binance futures partial depth (w)": Case(
        FUTURES,
        '{"stream":"btcusd_220624@depth20","data":{"e":"depthUpdate","E":1653863834495,'
        '"T":1653863834489,"s":"BTCUSD_220624","ps":"BTCUSD","U":462549791905,'
        '"u":462549794973,"pu":462549791429,"b":[["29538.2","195"]],"a":[["29538.3","144"]]}}',
        update=PlainBookUpdate(
            "BTCUSD_220624",
            True,
            rows("29538.2 195"),
            rows("29538.3 144"),
            None,
            None,
            1653863834495 * MS,
        ),
    ),
}
