"""Deribit."""

from __future__ import annotations

import wsclient
from support.views.case import MS, Case, D, rows
from wsclient import PlainBookUpdate, Quote, Trade

DERIBIT = wsclient.Deribit()

CASES = {
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
}
