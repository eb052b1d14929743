"""Trades, quotes and book updates of each venue in plain fields, checked by hand.

Frames marked (w) were recorded on the wire; the others are the documents' own examples, cut to what
is read, or variants of them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest

import wsclient
from support.making import entries_of
from wsclient import PlainBookUpdate, Quote, Trade, dialects
from wsclient.dialect import Dialect
from wsclient.messages import Arrival, Message
from wsclient.stream.inbound import Inbound

D = Decimal
MS = 1_000_000
READ_AT = 1_700_000_000_000_000_000


class Case(NamedTuple):
    """A frame of a dialect, and the views of its messages; None if it has none of a kind.

    ``channel`` is the client's name of the channel, where the frame has only an alias of it.
    """

    dialect: Dialect
    frame: str
    trades: list[Trade] | None = None
    quote: Quote | None = None
    update: PlainBookUpdate | None = None
    channel: str | None = None


def messages(dialect: Dialect, frame: str, channel: str | None = None) -> list[Message]:
    inbound = Inbound(dialect)
    found = entries_of(inbound, frame.encode(), received_at=READ_AT)
    made = [m for m in found if isinstance(m, Message)]
    for message in made:
        message.channel = channel or message.channel
    return made


def rows(*levels: str) -> tuple[tuple[Decimal, Decimal], ...]:
    """Return levels, each given as ``"price size"``."""
    return tuple((D(price), D(size)) for price, size in map(str.split, levels))


BINANCE, FUTURES = wsclient.Binance(), wsclient.BinanceFutures()
BITFINEX = wsclient.Bitfinex(sequences=False)
BYBIT, COINBASE, DERIBIT = wsclient.Bybit(), wsclient.CoinbaseExchange(), wsclient.Deribit()
KRAKEN, KUCOIN, OKX = wsclient.Kraken(), wsclient.Kucoin(), wsclient.OKX()

CASES = {
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
    "bitfinex te, bought (w)": Case(
        BITFINEX,
        '[5,"te",[637771130,1615232733897,0.11546588,51350]]',
        [Trade("tBTCUST", D("51350"), D("0.11546588"), "buy", "637771130", 1615232733897 * MS)],
        channel="trades:tBTCUST",
    ),
    "bitfinex tu, which repeats a te (w)": Case(
        BITFINEX,
        '[5,"tu",[637771130,1615232733897,0.11546588,51350]]',
        [],
        channel="trades:tBTCUST",
    ),
    "bitfinex snapshot of trades, sold and bought (w)": Case(
        BITFINEX,
        "[7,[[647256201,1616219105954,-0.06153795,58119],[647256191,1616219094921,0.0257,58138]]]",
        [
            Trade(
                "tBTCF0:USTF0",
                D("58119"),
                D("0.06153795"),
                "sell",
                "647256201",
                1616219105954 * MS,
                True,
            ),
            Trade(
                "tBTCF0:USTF0",
                D("58138"),
                D("0.0257"),
                "buy",
                "647256191",
                1616219094921 * MS,
                True,
            ),
        ],
        channel="trades:tBTCF0:USTF0",
    ),
    "bitfinex ticker, whose sizes are those of 25 levels (w)": Case(
        BITFINEX,
        "[3,[29967,8.32497516,29976,13.30144555,-1674,-0.0529,29966,488.04182112,31887,29335]]",
        quote=Quote("tBTCUST", D("29967"), None, D("29976"), None),
        channel="ticker:tBTCUST",
    ),
    "bitfinex book": Case(
        BITFINEX,
        "[9,[[36167,1,0.48403686],[2e-8,0,1],[36171,3,-0.000006]]]",
        update=PlainBookUpdate(
            "tBTCUST", True, rows("36167 0.48403686", "2e-8 0"), rows("36171 0.000006")
        ),
        channel="book:tBTCUST",
    ),
    "bitfinex checksum": Case(
        BITFINEX,
        '[9,"cs",-1175357890]',
        update=PlainBookUpdate("tBTCUST", False, (), (), None, -1175357890),
        channel="book:tBTCUST",
    ),
    "bitfinex funding trades": Case(
        BITFINEX, '[5,"fte",[401597393,1574694475039,10,0.0002,2]]', channel="trades:fUSD"
    ),
    "bitfinex funding book": Case(BITFINEX, "[9,[0.0003,30,5,12.5]]", channel="book:fUSD"),
    "bitfinex candle": Case(
        BITFINEX, "[5,[1654075080000,31619,31619,31619,31619,0.1]]", channel="candles:trade:1m:tA"
    ),
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
        quote=Quote("BTC-6JAN23-17500-C", D("0"), D("0"), D("10"), D("5.1"), 1672917511074 * MS),
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
    "coinbase match: the side is the maker's (w)": Case(
        COINBASE,
        '{"type":"match","trade_id":82008,"maker_order_id":"f7","taker_order_id":"d3",'
        '"side":"sell","size":"335","price":"0.5762","product_id":"SKL-GBP",'
        '"sequence":27883501,"time":"2021-04-17T16:43:37.270697Z"}',
        [Trade("SKL-GBP", D("0.5762"), D("335"), "buy", "82008", 1618677817270697_000)],
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
    "deribit trades, two in a frame (w)": Case(
        DERIBIT,
        '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"trades.BTC-PERPETUAL.raw",'
        '"data":[{"trade_seq":92836831,"trade_id":"137487241","timestamp":1616321478553,'
        '"tick_direction":1,"price":56168.0,"instrument_name":"BTC-PERPETUAL",'
        '"direction":"buy","amount":5580.0},{"trade_seq":92836832,"trade_id":"137487242",'
        '"timestamp":1616321478553,"tick_direction":1,"price":56168.5,'
        '"instrument_name":"BTC-PERPETUAL","direction":"sell","amount":60.0}]}}',
        [
            Trade(
                "BTC-PERPETUAL", D("56168.0"), D("5580.0"), "buy", "137487241", 1616321478553 * MS
            ),
            Trade(
                "BTC-PERPETUAL", D("56168.5"), D("60.0"), "sell", "137487242", 1616321478553 * MS
            ),
        ],
    ),
    "deribit quote (w)": Case(
        DERIBIT,
        '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"quote.BTC-PERPETUAL",'
        '"data":{"timestamp":1654012882984,"instrument_name":"BTC-PERPETUAL",'
        '"best_bid_price":32143.0,"best_bid_amount":179960.0,"best_ask_price":32143.5,'
        '"best_ask_amount":20.0}}}',
        quote=Quote(
            "BTC-PERPETUAL",
            D("32143.0"),
            D("179960.0"),
            D("32143.5"),
            D("20.0"),
            1654012882984 * MS,
        ),
    ),
    "deribit ticker without a bid": Case(
        DERIBIT,
        '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.ETH-1-P.raw",'
        '"data":{"timestamp":1654012882984,"instrument_name":"ETH-1-P","best_bid_price":0.0,'
        '"best_bid_amount":0.0,"best_ask_price":0.0010,"best_ask_amount":18.5}}}',
        quote=Quote("ETH-1-P", None, None, D("0.0010"), D("18.5"), 1654012882984 * MS),
    ),
    "deribit book (w)": Case(
        DERIBIT,
        '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-25JUN21.100ms",'
        '"data":{"type":"change","timestamp":1622626784890,"prev_change_id":31479339296,'
        '"instrument_name":"BTC-25JUN21","change_id":31479339507,"bids":[["new",37392.5,3000.0]],'
        '"asks":[["new",37850.0,8850.0],["delete",37848.5,0.0]]}}}',
        update=PlainBookUpdate(
            "BTC-25JUN21",
            False,
            rows("37392.5 3000.0"),
            rows("37850.0 8850.0", "37848.5 0"),
            31479339507,
            None,
            1622626784890 * MS,
        ),
    ),
    "deribit candle (w)": Case(
        DERIBIT,
        '{"jsonrpc":"2.0","method":"subscription","params":{"channel":'
        '"chart.trades.BTC-PERPETUAL.1","data":{"volume":0.02,"tick":1654079340000}}}',
    ),
    "generic, whose data have any form": Case(
        wsclient.Generic(),
        '{"type":"market_data","channel":"trades","sequence":1,"price":"1","side":"buy"}',
    ),
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
    "okx trade (w)": Case(
        OKX,
        '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT",'
        '"tradeId":"338476320","px":"30242","sz":"0.001","side":"buy","ts":"1652459227219"}]}',
        [Trade("BTC-USDT", D("30242"), D("0.001"), "buy", "338476320", 1652459227219 * MS)],
    ),
    "okx trades of a swap, two in a frame": Case(
        OKX,
        '{"arg":{"channel":"trades-all","instId":"BTC-USD-SWAP"},"data":[{"instId":"BTC-USD-SWAP",'
        '"tradeId":"173543957","px":"43574.9","sz":"1","side":"sell","ts":"1646312664791"},'
        '{"instId":"BTC-USD-SWAP","tradeId":"173543958","px":"43574.8","sz":"20","side":"sell",'
        '"ts":"1646312664792"}]}',
        [
            Trade("BTC-USD-SWAP", D("43574.9"), D("1"), "sell", "173543957", 1646312664791 * MS),
            Trade("BTC-USD-SWAP", D("43574.8"), D("20"), "sell", "173543958", 1646312664792 * MS),
        ],
    ),
    "okx ticker without a bid (w)": Case(
        OKX,
        '{"arg":{"channel":"tickers","instId":"BTC-USD-220624-50000-C"},"data":[{'
        '"instType":"OPTION","instId":"BTC-USD-220624-50000-C","last":"0.0005","lastSz":"6",'
        '"askPx":"0.0015","askSz":"330","bidPx":"","bidSz":"","ts":"1654166283149"}]}',
        quote=Quote(
            "BTC-USD-220624-50000-C", None, None, D("0.0015"), D("330"), 1654166283149 * MS
        ),
    ),
    "okx bbo-tbt without a bid, a book too (w)": Case(
        OKX,
        '{"arg":{"channel":"bbo-tbt","instId":"BTC-USD-220624-50000-C"},"data":[{"asks":'
        '[["0.0015","8","0","1"]],"bids":[],"ts":"1654033343415"}]}',
        quote=Quote("BTC-USD-220624-50000-C", None, None, D("0.0015"), D("8"), 1654033343415 * MS),
        update=PlainBookUpdate(
            "BTC-USD-220624-50000-C", True, (), rows("0.0015 8"), None, None, 1654033343415 * MS
        ),
    ),
    "okx book (w)": Case(
        OKX,
        '{"arg":{"channel":"books","instId":"BTC-USD-220527"},"action":"update","data":[{"asks":[],'
        '"bids":[["30189","0","0","0"]],"ts":"1652459227954","checksum":67565745}]}',
        update=PlainBookUpdate(
            "BTC-USD-220527", False, rows("30189 0"), (), None, 67565745, 1652459227954 * MS
        ),
    ),
    "okx book with numbers, and the checksum 0 that is none": Case(
        OKX,
        '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":'
        '[["8476.98","415","0","13"]],"bids":[],"ts":"1597026383085","checksum":0,'
        '"prevSeqId":-1,"seqId":123456}]}',
        update=PlainBookUpdate(
            "BTC-USDT", True, (), rows("8476.98 415"), 123456, None, 1597026383085 * MS
        ),
    ),
    "okx funding rate (w)": Case(
        OKX,
        '{"arg":{"channel":"funding-rate","instId":"BTC-USD-SWAP"},"data":[{"fundingRate":"0.1"}]}',
    ),
}


def received(view: Any, venue: str) -> Any:
    """Return a view as the client gives it: with the venue, and the time of receipt."""
    return msgspec.structs.replace(view, venue=venue, received_at=READ_AT)


def digits(view: Any) -> str:
    """Return a text that shows the digits of all numbers: 1.0 and 1.00 are equal, but not here."""
    return repr(view)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_views_of_a_frame(case: Case) -> None:
    found = messages(case.dialect, case.frame, case.channel)
    trades = [m.trades() for m in found]
    expected = (
        None if case.trades is None else [received(t, case.dialect.name) for t in case.trades]
    )
    given = None if trades == [None] else [trade for of_one in trades for trade in of_one or ()]
    assert digits(given) == digits(expected)
    for method, view in (("quote", case.quote), ("book_update", case.update)):
        seen = {digits(getattr(message, method)()) for message in found}
        assert seen == {digits(view if view is None else received(view, case.dialect.name))}


def test_each_dialect_has_a_case_of_each_of_its_views() -> None:
    assert {case.dialect.name for case in CASES.values()} == set(dialects.NAMES)
    for kind in ("trades", "quote", "update"):
        shown = {case.dialect.name for case in CASES.values() if getattr(case, kind) is not None}
        assert shown == set(dialects.NAMES) - {"generic"}


MALFORMED = {
    "a number that is none": (
        "trades",
        OKX,
        '{"arg":{"channel":"trades","instId":"A"},"data":[{"instId":"A","tradeId":"1",'
        '"px":"NaN","sz":"1","side":"buy","ts":"1652459227219"}]}',
    ),
    "an infinite size": (
        "quote",
        OKX,
        '{"arg":{"channel":"tickers","instId":"A"},"data":[{"instId":"A","bidPx":"1",'
        '"bidSz":"Infinity","askPx":"2","askSz":"1"}]}',
    ),
    "a text for a number": (
        "trades",
        COINBASE,
        '{"type":"match","trade_id":1,"side":"buy","size":"much","price":"1","product_id":"A",'
        '"time":"2021-04-17T16:43:37.270697Z"}',
    ),
    "an unknown side": (
        "trades",
        KRAKEN,
        '{"channel":"trade","type":"update","data":[{"symbol":"A","side":"both","qty":1,'
        '"price":1,"trade_id":1,"timestamp":"2023-09-25T07:49:37.708706Z"}]}',
    ),
    "a missing field": (
        "quote",
        KUCOIN,
        '{"type":"message","topic":"/market/ticker:A","subject":"trade.ticker","data":{}}',
    ),
    "a time that is none": (
        "trades",
        COINBASE,
        '{"type":"match","trade_id":1,"side":"buy","size":"1","price":"1","product_id":"A",'
        '"time":"yesterday"}',
    ),
    "a book of orders": ("book_update", BITFINEX, "[9,[[96124382782,31534,0.0285]]]"),
    "a book of another form": (
        "book_update",
        BYBIT,
        '{"topic":"orderbook.50.A","type":"delta","data":{"u":1}}',
    ),
    "a level that is no number": (
        "book_update",
        BYBIT,
        '{"topic":"orderbook.50.A","type":"delta","data":{"u":1,"b":[["1","-sNaN"]],"a":[]}}',
    ),
}


@pytest.mark.parametrize(("view", "dialect", "frame"), MALFORMED.values(), ids=MALFORMED)
def test_a_payload_that_makes_no_sense_raises(view: str, dialect: Dialect, frame: str) -> None:
    channel = "book:tBTCUSD" if dialect is BITFINEX else None
    (message,) = messages(dialect, frame, channel)
    name = view.replace("_", " ")
    with pytest.raises(wsclient.InvalidMessage, match=f"^the {dialect.name} dialect .* {name} "):
        getattr(message, view)()
    assert message.data is not None


def test_a_view_is_frozen() -> None:
    case = CASES["okx trade (w)"]
    ((trade,),) = [message.trades() or () for message in messages(case.dialect, case.frame)]
    with pytest.raises(AttributeError):
        trade.price = D(1)  # type: ignore[misc]


def test_a_message_without_a_dialect_has_no_views() -> None:
    lost = Message("trades:BTC-USDT", "lost", arrival=Arrival(1, 1, None))
    assert (lost.trades(), lost.quote(), lost.book_update()) == (None, None, None)
