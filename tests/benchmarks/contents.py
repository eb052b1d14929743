"""The contents of each venue's frames: the shapes of recordings and documentation, made-up data."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import msgspec
from frames import Place, number, text
from walk import Rows, State, Update, price_text, walk

MS, ISO = 1_700_000_000_123, "2026-11-30T19:03:28.708706Z"


def numeric(rows: Rows) -> list[tuple[msgspec.Raw, msgspec.Raw]]:
    """Return rows as JSON numbers with the same digits."""
    return [(raw(price), raw(size)) for price, size in rows]


def raw(digits: str) -> msgspec.Raw:
    return msgspec.Raw(digits.encode())


# Generic.


def generic_ticker(place: Place) -> Any:
    prices = {name: float(place.price()) for name in ("bid", "ask", "last", "vwap")}
    sizes = {name: round(place.dice.uniform(0.1, 9.9), 6) for name in ("bid_qty", "ask_qty")}
    return _generic(place, {**prices, **sizes, "volume": round(place.dice.uniform(1e3, 9e3), 2)})


def generic_trade(place: Place) -> Any:
    deal = {"price": float(place.price()), "quantity": float(place.size()), "side": place.side()}
    return _generic(place, deal)


def generic_book(place: Place) -> Any:
    def side() -> list[tuple[float, float]]:
        dice = place.dice
        return [
            (round(dice.uniform(6e4, 61e3), 1), round(dice.uniform(0.1, 9.9), 6)) for _ in range(53)
        ]

    return _generic(place, {"bids": side(), "asks": side()})


def _generic(place: Place, fields: dict[str, Any]) -> Any:
    head = {"type": "market_data", "channel": place.channel, "sequence": number()}
    return {**head, "sent": MS * 10**6, **fields, "venue": "benchmark"}


# Binance, spot and futures.


def binance(place: Place, data: dict[str, Any]) -> Any:
    return {"stream": place.channel, "data": data}


def binance_quote(place: Place) -> Any:
    return binance(place, {"u": number(), "s": place.symbol, **_best(place)})


def futures_quote(place: Place) -> Any:
    head = {"e": "bookTicker", "u": number(), "s": place.symbol}
    return binance(place, {**head, **_best(place), "T": MS, "E": MS})


def _best(place: Place) -> dict[str, Any]:
    bid, ask = {"b": place.price(), "B": place.size()}, {"a": place.price(), "A": place.size()}
    return {**bid, **ask}


def binance_trade(place: Place) -> Any:
    deal = {"p": place.price(), "q": place.size(), "f": number(), "l": number()}
    head = {"e": "aggTrade", "E": MS, "s": place.symbol, "a": number()}
    return binance(place, {**head, **deal, "T": MS, "m": place.side() == "sell"})


def binance_depth(place: Place, update: Update) -> Any:
    head = {"e": "depthUpdate", "E": MS, "s": place.symbol, "U": number(1), "u": number(10)}
    return binance(place, {**head, "b": update.bids, "a": update.asks})


def futures_depth(place: Place, update: Update) -> Any:
    numbers = {"U": number(3), "u": number(10), "pu": number()}
    head = {"e": "depthUpdate", "E": MS, "T": MS, "s": place.symbol, **numbers}
    return binance(place, {**head, "b": update.bids, "a": update.asks})


def binance_snapshot(place: Place, state: State) -> Any:
    bids, asks = state.rows()
    return {"lastUpdateId": number(10), "bids": bids, "asks": asks}


# Bitfinex: a channel is known by a number that the venue gives; all frames are counted together.


def bitfinex_id(index: int) -> int:
    return 232_949 + index


def bitfinex(place: Place, *payload: Any) -> Any:
    return [bitfinex_id(place.position), *payload, number()]


def bitfinex_ticker(place: Place) -> Any:
    prices = [float(place.price()) for _ in range(6)]
    bid, ask, last, high, low, volume = prices
    return bitfinex(place, [bid, 12.5, ask, 7.25, -66.4, -0.0019, last, volume, high, low])


def bitfinex_trade(place: Place) -> Any:
    amount = place.dice.choice((-1, 1)) * float(place.size())
    number_of_trade = place.dice.randrange(10**9, 2 * 10**9)
    return bitfinex(place, "te", [number_of_trade, MS, amount, float(place.price())])


def bitfinex_rows(update: Update) -> list[list[Any]]:
    """Return the rows of an update, those that remove a level first: no row crosses the book."""
    rows = []
    for side, sign in ((update.bids, ""), (update.asks, "-")):
        for price, size in side:
            count, amount = (2, size) if float(size) else (0, "1")
            rows.append([raw(price), count, raw(f"{sign}{amount}")])
    return sorted(rows, key=lambda row: bool(row[1]))


def bitfinex_book(place: Place, seed: int) -> list[Any]:
    updates = walk(Random(seed), 25, 2)
    return [bitfinex(place, row) for update in updates for row in bitfinex_rows(update)]


def bitfinex_snapshot(place: Place, state: State) -> Any:
    bids, asks = state.rows()
    return bitfinex(place, bitfinex_rows(Update(bids, asks, state, state)))


# Bybit.


def bybit(place: Place, kind: str, data: Any, **more: Any) -> Any:
    return {"topic": place.channel, "type": kind, "ts": MS, "data": data, **more}


def bybit_ticker(place: Place) -> Any:
    prices = ("lastPrice", "highPrice24h", "lowPrice24h", "prevPrice24h")
    data = {"symbol": place.symbol, **{name: place.price() for name in prices}}
    data |= {"volume24h": "6780.866843", "turnover24h": "286780.866", "price24hPcnt": "0.0196"}
    return bybit(place, "snapshot", {**data, "usdIndexPrice": place.price()}, cs=number())


def bybit_trade(place: Place) -> Any:
    id = "20f43950-d8dd-5b31-9112-a178eb6023af"
    row = {"T": MS, "s": place.symbol, "S": place.side().title(), "v": place.size()}
    row |= {"p": place.price(), "L": "PlusTick", "i": id, "BT": False, "seq": number()}
    return bybit(place, "snapshot", [row])


def _bybit_book(place: Place, kind: str, bids: Rows, asks: Rows) -> Any:
    data = {"s": place.symbol, "b": bids, "a": asks, "u": number(1), "seq": number(1)}
    return bybit(place, kind, data, cts=MS)


def bybit_delta(place: Place, update: Update) -> Any:
    return _bybit_book(place, "delta", update.bids, update.asks)


def bybit_snapshot(place: Place, state: State) -> Any:
    return _bybit_book(place, "snapshot", *state.rows())


# Coinbase Exchange.


def coinbase_ticker(place: Place) -> Any:
    day = {"open_24h": place.price(), "volume_24h": "245532.79", "low_24h": place.price()}
    day |= {"high_24h": place.price(), "volume_30d": "2295579.57000000"}
    best = {"best_bid": place.price(), "best_bid_size": place.size()}
    best |= {"best_ask": place.price(), "best_ask_size": place.size(), "side": place.side()}
    head = {"type": "ticker", "sequence": number(), "product_id": place.symbol}
    tail = {"time": ISO, "trade_id": number(), "last_size": place.size()}
    return {**head, "price": place.price(), **day, **best, **tail}


def coinbase_match(place: Place) -> Any:
    orders = {"maker_order_id": "2a0da34e-61f7-4c36-88e5-c9dd15927b16"}
    orders["taker_order_id"] = "3c82abaa-c01e-4608-be59-6a1e69742891"
    deal = {"side": place.side(), "size": place.size(), "price": place.price()}
    tail = {"product_id": place.symbol, "sequence": number(), "time": ISO}
    return {"type": "match", "trade_id": number(), **orders, **deal, **tail}


def coinbase_update(place: Place, update: Update) -> Any:
    changes = [("buy", *row) for row in update.bids] + [("sell", *row) for row in update.asks]
    return {"type": "l2update", "product_id": place.symbol, "changes": changes, "time": ISO}


def coinbase_snapshot(place: Place, state: State) -> Any:
    bids, asks = state.rows()
    return {"type": "snapshot", "product_id": place.symbol, "asks": asks, "bids": bids}


# Deribit.


def deribit(place: Place, data: Any) -> Any:
    params = {"channel": place.channel, "data": data}
    return {"jsonrpc": "2.0", "method": "subscription", "params": params}


def _deribit_best(place: Place) -> dict[str, Any]:
    best = {"best_bid_price": float(place.price()), "best_bid_amount": 40.0}
    return {**best, "best_ask_price": float(place.price()), "best_ask_amount": 50.0}


def deribit_quote(place: Place) -> Any:
    return deribit(
        place, {"timestamp": MS, "instrument_name": place.symbol, **_deribit_best(place)}
    )


def deribit_ticker(place: Place) -> Any:
    stats = {
        "volume_usd": 1.4e8,
        "volume": 3287.1,
        "price_change": 1.2,
        "low": 4.1e4,
        "high": 4.3e4,
    }
    names = ("settlement_price", "min_price", "max_price", "mark_price", "last_price")
    prices = {name: float(place.price()) for name in (*names, "index_price")}
    more = {"state": "open", "open_interest": 8.9e8, "interest_value": 0.17, "funding_8h": 1e-05}
    head = {"timestamp": MS, "stats": stats, "instrument_name": place.symbol}
    return deribit(place, {**head, **prices, **more, **_deribit_best(place)})


def deribit_trade(place: Place) -> Any:
    prices = {name: float(place.price()) for name in ("price", "mark_price", "index_price")}
    row = {
        "trade_seq": number(),
        "trade_id": text(),
        "timestamp": MS,
        "tick_direction": 0,
        **prices,
    }
    deal = {"instrument_name": place.symbol, "direction": place.side(), "amount": 10.0}
    return deribit(place, [{**row, **deal}])


def deribit_change(place: Place, update: Update) -> Any:
    def side(rows: Rows, before: dict[int, int]) -> list[Any]:
        known = {price_text(tick) for tick in before}
        return [(_action(price in known, size), raw(price), raw(size)) for price, size in rows]

    sides = {"bids": side(update.bids, update.before.bids)}
    sides["asks"] = side(update.asks, update.before.asks)
    numbers = {"prev_change_id": number(), "change_id": number(3)}
    head = {"type": "change", "timestamp": MS, "instrument_name": place.symbol}
    return deribit(place, {**head, **numbers, **sides})


def _action(is_known: bool, size: str) -> str:
    return "delete" if not float(size) else "change" if is_known else "new"


def deribit_snapshot(place: Place, state: State) -> Any:
    bids, asks = ([("new", raw(p), raw(s)) for p, s in side] for side in state.rows())
    head = {"type": "snapshot", "timestamp": MS, "instrument_name": place.symbol}
    return deribit(place, {**head, "change_id": number(3), "bids": bids, "asks": asks})


# Kraken.


def kraken(name: str, kind: str, *rows: Any) -> Any:
    return {"channel": name, "type": kind, "data": rows}


def kraken_ticker(place: Place) -> Any:
    prices = {name: float(place.price()) for name in ("bid", "ask", "last", "vwap", "low", "high")}
    sizes = {name: float(place.size()) for name in ("bid_qty", "ask_qty", "volume")}
    change = {"change": 100.5, "change_pct": 0.24, "timestamp": ISO}
    return kraken("ticker", "update", {"symbol": place.symbol, **prices, **sizes, **change})


def kraken_deal(place: Place, offset: int = 0) -> Any:
    deal = {"side": place.side(), "price": float(place.price()), "qty": float(place.size())}
    tail = {"ord_type": "limit", "trade_id": number(offset), "timestamp": ISO}
    return {"symbol": place.symbol, **deal, **tail}


def kraken_trade(place: Place) -> Any:
    return kraken("trade", "update", kraken_deal(place))


def kraken_trades(place: Place) -> Any:
    return kraken("trade", "update", *(kraken_deal(place, offset) for offset in range(3)))


def _kraken_book(place: Place, kind: str, bids: Rows, asks: Rows, after: State) -> Any:
    sides = {
        name: [{"price": price, "qty": size} for price, size in numeric(rows)]
        for name, rows in (("bids", bids), ("asks", asks))
    }
    tail = {"checksum": after.checksum(), "timestamp": ISO}
    return kraken("book", kind, {"symbol": place.symbol, **sides, **tail})


def kraken_update(place: Place, update: Update) -> Any:
    return _kraken_book(place, "update", update.bids, update.asks, update.after)


def kraken_snapshot(place: Place, state: State) -> Any:
    return _kraken_book(place, "snapshot", *state.rows(), state)


# KuCoin.


def kucoin(place: Place, subject: str, data: Any) -> Any:
    return {"type": "message", "topic": place.channel, "subject": subject, "data": data}


def kucoin_ticker(place: Place) -> Any:
    prices = {name: place.price() for name in ("bestAsk", "bestBid", "price")}
    sizes = {name: place.size() for name in ("size", "bestBidSize", "bestAskSize")}
    return kucoin(place, "trade.ticker", {"sequence": text(), "time": MS, **prices, **sizes})


def kucoin_match(place: Place) -> Any:
    ids = {"takerOrderId": "6085c097587c2000060cde57", "makerOrderId": "6085c06144b3790006512a4d"}
    deal = {"side": place.side(), "size": place.size(), "price": place.price()}
    head = {"symbol": place.symbol, "sequence": text(), "type": "match", "time": str(MS * 10**6)}
    data = {**head, **deal, **ids, "tradeId": "6085c09769bc506996295e36"}
    return kucoin(place, "trade.l3match", data)


def kucoin_update(place: Place, update: Update) -> Any:
    numbers = itertools.count(1)
    bids, asks = (
        [(price, size, text(next(numbers))) for price, size in side]
        for side in (update.bids, update.asks)
    )
    ends = {"sequenceStart": number(1), "sequenceEnd": number(50), "time": MS}
    data = {"symbol": place.symbol, **ends, "changes": {"asks": asks, "bids": bids}}
    return kucoin(place, "trade.l2update", data)


def kucoin_snapshot(place: Place, state: State) -> Any:
    bids, asks = state.rows()
    data = {"sequence": text(50), "time": MS, "bids": bids, "asks": asks}
    return {"code": "200000", "data": data}


# OKX.


def okx(place: Place, row: dict[str, Any], **more: Any) -> Any:
    name, _, instrument = place.channel.partition(":")
    return {"arg": {"channel": name, "instId": instrument}, **more, "data": [row]}


def okx_ticker(place: Place) -> Any:
    names = ("last", "askPx", "bidPx", "open24h", "high24h", "low24h", "sodUtc0", "sodUtc8")
    row = {"instType": "SPOT", "instId": place.symbol, **{name: place.price() for name in names}}
    sizes = {name: place.size() for name in ("lastSz", "askSz", "bidSz", "volCcy24h", "vol24h")}
    return okx(place, {**row, **sizes, "ts": str(MS)})


def okx_trade(place: Place) -> Any:
    deal = {"px": place.price(), "sz": place.size(), "side": place.side(), "ts": str(MS)}
    return okx(place, {"instId": place.symbol, "tradeId": text(), **deal, "count": "3"})


def _okx_book(place: Place, kind: str, bids: Rows, asks: Rows, before: Any) -> Any:
    sides = {
        name: [(price, size, "0", "1" if float(size) else "0") for price, size in rows]
        for name, rows in (("asks", asks), ("bids", bids))
    }
    tail = {"ts": str(MS), "checksum": 0, "prevSeqId": before, "seqId": number(3)}
    return okx(place, {**sides, **tail}, action=kind)


def okx_update(place: Place, update: Update) -> Any:
    return _okx_book(place, "update", update.bids, update.asks, number())


def okx_snapshot(place: Place, state: State) -> Any:
    return _okx_book(place, "snapshot", *state.rows(), -1)
