"""The protocols of some venues, which write what their dialects read.

The sources are those of `wsclient.dialects`, where each stands beside its fact. If it is not known
for sure how a venue answers for a channel that it does not have, the channel is refused, so that
mistakes show. Order books have ten levels per side, whatever depth is requested.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from wsclient import dialects

from .market import Depth, MarketEvent, MarketLevels, Quote, Trade
from .protocols import (
    GenericProtocol,
    MarketProtocol,
    Payload,
    ScriptedProtocol,
    VenueProtocol,
    as_object,
    encode,
    texts,
)

if TYPE_CHECKING:
    from .peer import Peer


class KrakenProtocol(MarketProtocol):
    """Kraken v2. A channel is called `book:BTC/USD`, or `instrument` if it has no symbol.

    `heartbeat` is the interval (s) of heartbeats to a client with a subscription; None sends none.
    A subscribe that wants a snapshot gets one.
    """

    dialect = dialects.Kraken()
    kinds: ClassVar = {"ticker:{}": Quote, "trade:{}": Trade, "book:{}": Depth}
    patterns = tuple(kinds)
    symbols = ("BTC/USD", "ETH/USD", "SOL/USD")
    DEPTHS = (10, 25, 100, 500, 1000)
    heartbeat_payload = b'{"channel":"heartbeat"}'

    def __init__(self, *, heartbeat: float | None = None) -> None:
        super().__init__()
        self.heartbeat = heartbeat

    def set_snapshot(self, channel: str, **fields: Any) -> None:
        """Send `fields` to each later subscriber of `channel`, as a message of type snapshot."""
        self.snapshots[channel] = self.data(channel, 0, {"type": "snapshot", **fields})

    def greeting(self, peer: Peer) -> Iterator[Payload]:
        if self.heartbeat is not None:
            _repeat(peer, self.heartbeat, functools.partial(self._beat, peer))
        status = {
            "version": "2.0.10",
            "system": "online",
            "api_version": "v2",
            "connection_id": 7204881492680171915 + peer.id,
        }
        yield encode({"channel": "status", "type": "update", "data": [status]})

    def _beat(self, peer: Peer) -> None:
        if peer.subscriptions:
            peer.send(self.heartbeat_payload.decode())

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        req_id = {"req_id": request["req_id"]} if "req_id" in request else {}
        method = request.get("method")
        if method == "ping":
            yield encode({"method": "pong", **req_id, **_times()})
        if method not in ("subscribe", "unsubscribe"):
            return
        params = request.get("params")
        if not isinstance(params, dict):
            params = {}
        name = str(params.get("channel", ""))
        options: dict[str, Any] = {}
        if name == "book":
            options["depth"] = params.get("depth", 10)
            if options["depth"] not in self.DEPTHS:
                if not peer.venue.muted(name):  # Kraken names no symbol here
                    yield _refusal(method, "Subscription depth not supported", {}, req_id)
                return
        symbols: list[str | None] = [*texts(params["symbol"])] if "symbol" in params else [None]
        for symbol in symbols:
            which = {} if symbol is None else {"symbol": symbol}
            channel = name if symbol is None else f"{name}:{symbol}"
            result = {"channel": name, **options, **which}
            wants_snapshot = params.get("snapshot", name != "trade")
            if method == "subscribe":
                result["snapshot"] = wants_snapshot
                error = peer.subscribe(channel, **options)
            else:
                error = self._unsubscribe(peer, channel, options)
            if peer.venue.muted(channel):
                continue
            if error is not None:
                yield _refusal(method, error, which, req_id)
                continue
            yield encode(
                {"method": method, **req_id, "result": result, "success": True, **_times()}
            )
            if method == "subscribe" and wants_snapshot:
                yield from self.snapshot(channel)

    def _unsubscribe(self, peer: Peer, channel: str, options: dict[str, Any]) -> str | None:
        if channel not in peer.subscriptions or peer.options(channel) != options:
            return "Subscription Not Found"
        peer.unsubscribe(channel)
        return None

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        kind = {"type": "snapshot"} if is_snapshot else {}
        match event:
            case Trade(number, price, size, side):
                more = {"ord_type": "market", "trade_id": number, "timestamp": _now()}
                return {**kind, "side": side, "qty": size, "price": price, **more}
            case Quote(bid, bid_size, ask, ask_size, last):
                best = {"bid": bid, "bid_qty": bid_size, "ask": ask, "ask_qty": ask_size}
                return {**kind, **best, "last": last, "timestamp": _now()}
            case Depth(bids, asks, book):
                sides = {
                    name: [{"price": price, "qty": size} for price, size in side]
                    for name, side in (("bids", bids), ("asks", asks))
                }
                checksum = dialects.Kraken.book.checksum(*book)
                return {**kind, **sides, "checksum": checksum, "timestamp": _now()}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        name, _, symbol = channel.partition(":")
        item = {key: value for key, value in fields.items() if key != "type"}
        if symbol:
            item = {"symbol": symbol, **item}
        return encode({"channel": name, "type": fields.get("type", "update"), "data": [item]})


def _refusal(
    method: str, error: str, which: Mapping[str, Any], req_id: Mapping[str, Any]
) -> Payload:
    return encode(
        {"error": error, "method": method, **req_id, "success": False, **which, **_times()}
    )


class BinanceProtocol(MarketProtocol):
    """Binance spot, on combined streams. A snapshot of a book is the answer to a GET."""

    dialect = dialects.Binance()
    kinds: ClassVar = {
        "{}@trade": Trade,
        "{}@bookTicker": Quote,
        "{}@depth@100ms": Depth,
        "{}@aggTrade": Trade,
    }
    patterns = ("{}@trade", "{}@bookTicker", "{}@depth@100ms")
    symbols = ("btcusdt", "ethusdt", "solusdt")
    #: The interval (s) of ping frames.
    PING = 20.0

    def greeting(self, peer: Peer) -> Iterator[Payload]:
        _repeat(peer, self.PING, functools.partial(peer.ping, b"%d" % peer.id))
        yield from ()

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        channels = texts(request.get("params"))
        if request.get("method") == "SUBSCRIBE":
            error = _subscribe(peer, channels)
        elif request.get("method") == "UNSUBSCRIBE":
            error = _unsubscribe(peer, channels)
        else:
            return
        if _is_muted(peer, channels):
            return
        if error is None:
            yield encode({"result": None, "id": request.get("id")})
        else:
            yield encode({"code": 2, "msg": f"Invalid request: {error}", "id": request.get("id")})

    def http(self, path: str) -> bytes | None:
        parts = urlsplit(path)
        symbols = parse_qs(parts.query).get("symbol", ())
        for symbol in symbols if parts.path.endswith("/depth") else ():
            for snapshot in self.snapshot(f"{symbol.lower()}@depth@100ms"):
                return snapshot.encode() if isinstance(snapshot, str) else snapshot
        return None

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        symbol = {"s": channel.partition("@")[0].upper()}
        now = _milliseconds()
        match event:
            case Trade(number, price, size, side):
                deal = {"p": str(price), "q": str(size), "T": now, "m": side == "sell", "M": True}
                if channel.endswith("@trade"):
                    return {"e": "trade", "E": now, **symbol, "t": number, **deal}
                return {"e": "aggTrade", "E": now, **symbol, "a": number, **deal}
            case Quote(bid, bid_size, ask, ask_size):
                best = {"b": str(bid), "B": str(bid_size), "a": str(ask), "A": str(ask_size)}
                return {**symbol, **best}
            case Depth(bids, asks) if is_snapshot:
                return {"bids": _texts(bids), "asks": _texts(asks)}
            case Depth(bids, asks):
                sides = {"b": _texts(bids), "a": _texts(asks)}
                return {"e": "depthUpdate", "E": now, **symbol, **sides}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        if "bids" in fields:
            return encode({"lastUpdateId": sequence, **fields})
        if fields.get("e") == "depthUpdate":
            fields = {**fields, **self._numbers(sequence)}
        elif channel.endswith("@bookTicker"):
            fields = {"u": sequence, **fields}
        return encode({"stream": channel, "data": fields})

    def _numbers(self, sequence: int) -> dict[str, int]:
        return {"U": sequence, "u": sequence}


class BinanceFuturesProtocol(BinanceProtocol):
    """Binance USD-M futures: an update of a book names the number of the one before it."""

    dialect = dialects.BinanceFutures()
    PING = 180.0

    def _numbers(self, sequence: int) -> dict[str, int]:
        return {"U": sequence, "u": sequence, "pu": sequence - 1}


class BybitProtocol(MarketProtocol):
    """Bybit v5, spot or linear: one answer per request, which is refused as a whole."""

    dialect = dialects.Bybit(sequenced=True)
    kinds: ClassVar = {
        "publicTrade.{}": Trade,
        "tickers.{}": Quote,
        "orderbook.50.{}": Depth,
        "orderbook.200.{}": Depth,
        "orderbook.500.{}": Depth,
        "orderbook.1000.{}": Depth,
    }
    patterns = ("publicTrade.{}", "tickers.{}", "orderbook.50.{}")
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        op = request.get("op")
        channels = texts(request.get("args"))
        answer = {"conn_id": str(peer.id), "req_id": request.get("req_id", ""), "op": op}
        if op == "ping":
            yield encode({"success": True, "ret_msg": "pong", **answer})
        if op not in ("subscribe", "unsubscribe"):
            return
        error = (_subscribe if op == "subscribe" else _unsubscribe)(peer, channels)
        if not _is_muted(peer, channels):
            yield encode({"success": error is None, "ret_msg": error or op, **answer})
        if op == "subscribe" and error is None:
            for channel in channels:
                yield from self.snapshot(channel)

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        symbol = channel.rpartition(".")[2]
        now = _milliseconds()
        match event:
            case Trade(number, price, size, side):
                deal = {"S": side.title(), "v": str(size), "p": str(price), "i": str(number)}
                return {"data": [{"T": now, "s": symbol, **deal, "BT": False, "seq": number}]}
            case Quote(bid, bid_size, ask, ask_size, last):
                best = {"bid1Price": str(bid), "bid1Size": str(bid_size)}
                best |= {"ask1Price": str(ask), "ask1Size": str(ask_size)}
                return {"data": {"symbol": symbol, "lastPrice": str(last), **best}}
            case Depth(bids, asks):
                sides = {"b": _texts(bids), "a": _texts(asks)}
                kind = "snapshot" if is_snapshot else "delta"
                return {"type": kind, "data": {"s": symbol, **sides}}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        if channel.startswith("orderbook."):
            fields = {**fields, "data": {**fields["data"], "u": sequence, "seq": sequence}}
        head = {"topic": channel, "type": "snapshot", "ts": _milliseconds()}
        return encode({**head, **fields})


class OKXProtocol(MarketProtocol):
    """OKX v5: one answer per arg. Books are numbered; their checksum is 0, as at the venue now."""

    dialect = dialects.OKX()
    kinds: ClassVar = {"trades:{}": Trade, "tickers:{}": Quote, "books:{}": Depth}
    patterns = tuple(kinds)
    symbols = ("BTC-USDT", "ETH-USDT", "SOL-USDT")

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        if payload == "ping":
            yield "pong"
            return
        request = as_object(payload)
        op = request.get("op")
        if op not in ("subscribe", "unsubscribe"):
            return
        args = request.get("args")
        for arg in args if isinstance(args, list) else ():
            if not isinstance(arg, dict):
                continue
            which = {key: str(arg[key]) for key in ("channel", "instId") if key in arg}
            channel = ":".join(which.values())
            answer = {"id": request["id"]} if "id" in request else {}
            error = (_subscribe if op == "subscribe" else _unsubscribe)(peer, [channel])
            if _is_muted(peer, [channel]):
                continue
            if error is None:
                yield encode({**answer, "event": op, "arg": which, "connId": str(peer.id)})
                if op == "subscribe":
                    yield from self.snapshot(channel)
                continue
            named = ",".join(f"{key}:{value}" for key, value in which.items())
            text = f"{named} doesn't exist: {error}"
            answer |= {"event": "error", "code": "60018", "msg": text}
            yield encode({**answer, "connId": str(peer.id)})

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        now = str(_milliseconds())
        match event:
            case Trade(number, price, size, side):
                return {"tradeId": str(number), "px": str(price), "sz": str(size), "side": side}
            case Quote(bid, bid_size, ask, ask_size, last):
                best = {"askPx": str(ask), "askSz": str(ask_size)}
                best |= {"bidPx": str(bid), "bidSz": str(bid_size)}
                return {"last": str(last), **best, "ts": now}
            case Depth(bids, asks):
                sides = {
                    name: [[*level, "0", "1"] for level in _texts(side)]
                    for name, side in (("asks", asks), ("bids", bids))
                }
                kind = "snapshot" if is_snapshot else "update"
                return {"action": kind, **sides, "ts": now, "checksum": 0}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        name, _, instrument = channel.partition(":")
        head: dict[str, Any] = {"arg": {"channel": name, "instId": instrument}}
        row = dict(fields)
        if name == "books":
            head["action"] = row.pop("action")
            before = -1 if head["action"] == "snapshot" else sequence - 1
            row |= {"seqId": sequence, "prevSeqId": before}
        else:
            row = {"instId": instrument, **row}
        return encode({**head, "data": [row]})


class CoinbaseExchangeProtocol(MarketProtocol):
    """Coinbase Exchange, whose books are not numbered.

    Each request is answered by an error for each product that is refused, and then by a list of all
    that is subscribed.
    """

    dialect = dialects.CoinbaseExchange()
    kinds: ClassVar = {"matches:{}": Trade, "ticker:{}": Quote, "level2_batch:{}": Depth}
    patterns = tuple(kinds)
    symbols = ("BTC-USD", "ETH-USD", "SOL-USD")

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        kind = request.get("type")
        if kind not in ("subscribe", "unsubscribe"):
            return
        begun = []
        for channel in self._channels(request):
            if kind == "unsubscribe":
                peer.unsubscribe(channel)
                continue
            error = peer.subscribe(channel)
            if peer.venue.muted(channel):
                continue
            if error is None:
                begun.append(channel)
                continue
            reason = f"{channel.partition(':')[2]} is not a valid product: {error}"
            yield encode({"type": "error", "message": "Failed to subscribe", "reason": reason})
        if not _is_muted(peer, self._channels(request)):
            yield encode({"type": "subscriptions", "channels": self._subscribed(peer)})
        for channel in begun:
            yield from self.snapshot(channel)

    def _channels(self, request: Mapping[str, Any]) -> list[str]:
        rows = request.get("channels")
        found = []
        for row in rows if isinstance(rows, list) else ():
            name, products = row, request.get("product_ids")
            if isinstance(row, dict):
                name, products = row.get("name"), row.get("product_ids", products)
            found += [f"{name}:{product}" for product in texts(products)]
        return found

    def _subscribed(self, peer: Peer) -> list[dict[str, Any]]:
        products: dict[str, list[str]] = {}
        for channel in sorted(peer.subscriptions):
            name, _, product = channel.partition(":")
            products.setdefault(name, []).append(product)
        called = {"level2_batch": "level2_50"}
        return [
            {"name": called.get(name, name), "product_ids": ids} for name, ids in products.items()
        ]

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        match event:
            case Trade(number, price, size, side):
                deal = {"side": side, "size": str(size), "price": str(price), "time": _now()}
                return {"type": "match", "trade_id": number, **deal}
            case Quote(bid, bid_size, ask, ask_size, last):
                best = {"best_bid": str(bid), "best_bid_size": str(bid_size)}
                best |= {"best_ask": str(ask), "best_ask_size": str(ask_size)}
                return {"type": "ticker", "price": str(last), **best, "time": _now()}
            case Depth(bids, asks) if is_snapshot:
                return {"type": "snapshot", "bids": _texts(bids), "asks": _texts(asks)}
            case Depth(bids, asks):
                changes = [["buy", *level] for level in _texts(bids)]
                changes += [["sell", *level] for level in _texts(asks)]
                return {"type": "l2update", "changes": changes, "time": _now()}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        number = {} if channel.startswith("level2") else {"sequence": sequence}
        return encode({**fields, **number, "product_id": channel.partition(":")[2]})


class DeribitProtocol(MarketProtocol):
    """Deribit: a refused channel is left out of the answer, as `dialects.Deribit` expects.

    A client that requests heartbeats gets only test requests, and need not answer them.
    """

    dialect = dialects.Deribit()
    kinds: ClassVar = {
        "trades.{}.100ms": Trade,
        "ticker.{}.100ms": Quote,
        "book.{}.100ms": Depth,
        "trades.{}.raw": Trade,
        "ticker.{}.raw": Quote,
        "book.{}.raw": Depth,
    }
    patterns = ("trades.{}.100ms", "ticker.{}.100ms", "book.{}.100ms")
    symbols = ("BTC-PERPETUAL", "ETH-PERPETUAL", "SOL_USDC-PERPETUAL")

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        params = request.get("params")
        params = params if isinstance(params, dict) else {}
        channels = texts(params.get("channels"))
        outcome: dict[str, Any]
        match request.get("method"):
            case "public/subscribe":
                outcome = {"result": [c for c in channels if peer.subscribe(c) is None]}
            case "public/unsubscribe":
                outcome = {"result": [c for c in channels if peer.unsubscribe(c)]}
            case "public/set_heartbeat":
                interval = params.get("interval")
                if isinstance(interval, int) and interval >= 10:
                    beat = {"method": "heartbeat", "params": {"type": "test_request"}}
                    _repeat(peer, interval, lambda: peer.send_json({"jsonrpc": "2.0", **beat}))
                outcome = {"result": "ok"}
            case "public/test":
                outcome = {"result": {"version": "1.2.26"}}
            case _:
                outcome = {"error": {"code": -32601, "message": "Method not found"}}
        if not _is_muted(peer, channels):
            yield encode({"jsonrpc": "2.0", "id": request.get("id"), **outcome})
        if request.get("method") == "public/subscribe":
            for channel in outcome["result"]:
                yield from self.snapshot(channel)

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        now = _milliseconds()
        match event:
            case Trade(number, price, size, side):
                deal = {"price": price, "amount": size, "direction": side, "timestamp": now}
                return {"trade_seq": number, "trade_id": str(number), **deal}
            case Quote(bid, bid_size, ask, ask_size, last):
                best = {"best_bid_price": bid, "best_bid_amount": bid_size}
                best |= {"best_ask_price": ask, "best_ask_amount": ask_size}
                return {"last_price": last, **best, "timestamp": now}
            case Depth(bids, asks, _, before):
                kind = "snapshot" if is_snapshot else "change"
                sides = {"bids": _actions(bids, before[0]), "asks": _actions(asks, before[1])}
                return {"type": kind, **sides, "timestamp": now}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        name, instrument, _ = channel.split(".", 2)
        data: Any = {**fields, "instrument_name": instrument}
        if name == "book":
            data["change_id"] = sequence
            if data["type"] == "change":
                data["prev_change_id"] = sequence - 1
        elif name == "trades":
            data = [data]
        params = {"channel": channel, "data": data}
        return encode({"jsonrpc": "2.0", "method": "subscription", "params": params})


PROTOCOLS: dict[str | None, Callable[[], VenueProtocol]] = {
    None: ScriptedProtocol,
    "generic": GenericProtocol,
    "binance": BinanceProtocol,
    "binance_futures": BinanceFuturesProtocol,
    "bybit": BybitProtocol,
    "coinbase_exchange": CoinbaseExchangeProtocol,
    "deribit": DeribitProtocol,
    "kraken": KrakenProtocol,
    "okx": OKXProtocol,
}


def _repeat(peer: Peer, interval: float, function: Callable[[], object]) -> None:
    """Call `function` every `interval` (s), as long as the peer is live."""

    def call() -> None:
        if peer.live:
            function()
            peer.call_later(interval, call)

    peer.call_later(interval, call)


def _subscribe(peer: Peer, channels: Sequence[str]) -> str | None:
    """Subscribe the peer to all channels, or to none if one is refused; return the reason."""
    for channel in channels:
        if peer.venue.refusal(channel) is not None:
            return peer.subscribe(channel)
    for channel in channels:
        peer.subscribe(channel)
    return None


def _unsubscribe(peer: Peer, channels: Sequence[str]) -> str | None:
    unknown = [channel for channel in channels if not peer.unsubscribe(channel)]
    return f"not subscribed to {', '.join(unknown)}" if unknown else None


def _is_muted(peer: Peer, channels: Sequence[str]) -> bool:
    return any(peer.venue.muted(channel) for channel in channels)


def _actions(changes: MarketLevels, before: MarketLevels) -> list[tuple[str, Decimal, Decimal]]:
    known = {price for price, _ in before}
    return [
        ("change" if price in known else "new", price, size)
        if size
        else ("delete", price, Decimal(0))
        for price, size in changes
    ]


def _texts(levels: MarketLevels) -> list[list[str]]:
    return [[str(price), str(size)] for price, size in levels]


def _milliseconds() -> int:
    return time.time_ns() // 10**6


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _times() -> dict[str, str]:
    now = _now()
    return {"time_in": now, "time_out": now}
