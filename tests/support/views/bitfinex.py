"""Bitfinex."""

from __future__ import annotations

import wsclient
from support.views.case import MS, Case, D, rows
from wsclient import PlainBookUpdate, Quote, Trade

BITFINEX = wsclient.Bitfinex(sequences=False)

CASES = {
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
}
