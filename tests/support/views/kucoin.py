"""KuCoin."""

from __future__ import annotations

import wsclient
from support.views.case import MS, Case, D, rows
from wsclient import PlainBookUpdate, Quote, Trade

KUCOIN = wsclient.Kucoin()

CASES = {
    "kucoin match (w)": Case(
        KUCOIN,
        '{"data":{"symbol":"FET-BTC","sequence":"1612712745710","side":"buy","size":"12.2091",'
        '"price":"0.00000776","takerOrderId":"60","time":"1619378339919173052","type":"match",'
        '"makerOrderId":"61","tradeId":"6085c0a378577837f306b46e"},"subject":"trade.l3match",'
        '"topic":"/market/match:FET-BTC","type":"message"}',
        [
            Trade(
                "FET-BTC",
                D("0.00000776"),
                D("12.2091"),
                "buy",
                "6085c0a378577837f306b46e",
                1619378339919173052,
            )
        ],
    ),
    "kucoin ticker (w)": Case(
        KUCOIN,
        '{"data":{"sequence":"1613277184815","bestAsk":"243.051","size":"0.14324938",'
        '"bestBidSize":"5","price":"242.781","time":1619378338133,"bestAskSize":"1",'
        '"bestBid":"242.795"},"subject":"trade.ticker","topic":"/market/ticker:BCHSV-USDT",'
        '"type":"message"}',
        quote=Quote("BCHSV-USDT", D("242.795"), D("5"), D("243.051"), D("1"), 1619378338133 * MS),
    ),
    "kucoin ticker of all symbols (w)": Case(
        KUCOIN,
        '{"type":"message","topic":"/market/ticker:all","subject":"DOT-USDT","data":{'
        '"bestAsk":"10.4686","bestAskSize":"64.9647","bestBid":"10.4647","bestBidSize":"0.1416",'
        '"price":"10.4686","sequence":"1619386350765","size":"0.0153","time":1653955200018}}',
        quote=Quote(
            "DOT-USDT",
            D("10.4647"),
            D("0.1416"),
            D("10.4686"),
            D("64.9647"),
            1653955200018 * MS,
        ),
    ),
    "kucoin book, whose row of price 0 changes nothing (w)": Case(
        KUCOIN,
        '{"data":{"sequenceStart":1612844051654,"symbol":"SNX-BTC","changes":{"asks":'
        '[["0","0","1612844051655"]],"bids":[["39272","0.0530867","1612844051654"]]},'
        '"sequenceEnd":1612844051655},"subject":"trade.l2update",'
        '"topic":"/market/level2:SNX-BTC","type":"message"}',
        update=PlainBookUpdate("SNX-BTC", False, rows("39272 0.0530867"), (), 1612844051655),
    ),
    "kucoin candle (w)": Case(
        KUCOIN,
        '{"data":{"symbol":"DAPPT-BTC","candles":[],"time":1619378328806000034},'
        '"subject":"trade.candles.add","topic":"/market/candles:DAPPT-BTC_1min","type":"message"}',
    ),
}
