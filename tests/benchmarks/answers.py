"""What the feed answers to a client of each venue: just enough that the client subscribes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from contents import bitfinex_id

#: The answers to a request: an object each, or text. The strings yielded between them name the
#: channels that are subscribed from there on.
Answers = Iterator[Any]


class Channel(str):
    """A channel that is subscribed, in the midst of the answers."""


def greeting(dialect: str) -> Answers:
    """Yield what the venue says first."""
    if dialect == "bitfinex":
        yield {"event": "info", "version": 2, "serverId": "083bd8d4", "platform": {"status": 1}}
    elif dialect == "kraken":
        status = {"version": "2.0.10", "system": "online", "api_version": "v2"}
        yield {"channel": "status", "type": "update", "data": [status]}
    elif dialect == "kucoin":
        yield {"id": "NSkIrWGB1s", "type": "welcome"}


def _generic(request: Any) -> Answers:
    channel = request["channel"]
    yield {"type": "subscription", "channel": channel, "status": "success"}
    yield Channel(channel)


def _binance(request: Any) -> Answers:
    yield {"result": None, "id": request["id"]}
    yield from map(Channel, request["params"])


class Bitfinex:
    """Gives each channel its number, in the order of the subscribes."""

    def __init__(self) -> None:
        self._channels = 0

    def __call__(self, request: Any) -> Answers:
        if request["event"] == "conf":
            yield {"event": "conf", "status": "OK", "flags": request["flags"]}
        elif request["event"] == "subscribe":
            fields = {name: request[name] for name in ("channel", "symbol", "subId")}
            yield {"event": "subscribed", "chanId": bitfinex_id(self._channels), **fields}
            self._channels += 1
            yield Channel(f"{request['channel']}:{request['symbol']}")


def _bybit(request: Any) -> Answers:
    yield {"success": True, "ret_msg": "", "conn_id": "1", **request}
    if request["op"] == "subscribe":
        yield from map(Channel, request["args"])


class Coinbase:
    """Answers each request by the list of all channels."""

    def __init__(self) -> None:
        self._products: dict[str, list[str]] = {}

    def __call__(self, request: Any) -> Answers:
        begun = [(row["name"], p) for row in request["channels"] for p in row["product_ids"]]
        for name, product in begun:
            self._products.setdefault(name, []).append(product)
        rows = [
            {"name": "level2_50" if name == "level2_batch" else name, "product_ids": products}
            for name, products in self._products.items()
        ]
        yield {"type": "subscriptions", "channels": rows}
        yield from (Channel(f"{name}:{product}") for name, product in begun)


def _deribit(request: Any) -> Answers:
    channels = request["params"]["channels"]
    yield {"jsonrpc": "2.0", "id": request["id"], "result": channels}
    yield from map(Channel, channels)


def _kraken(request: Any) -> Answers:
    head = {"method": request["method"], "success": True}
    head |= {"req_id": request["req_id"]} if "req_id" in request else {}
    if request["method"] == "subscribe":
        name = request["params"]["channel"]
        for symbol in request["params"]["symbol"]:
            yield {**head, "result": {**request["params"], "symbol": symbol}}
            yield Channel(f"{name}:{symbol}")


def _kucoin(request: Any) -> Answers:
    yield {"id": str(request["id"]), "type": "pong" if request["type"] == "ping" else "ack"}
    if request["type"] == "subscribe":
        topic, _, symbols = request["topic"].partition(":")
        yield from (Channel(f"{topic}:{symbol}") for symbol in symbols.split(","))


def _okx(request: Any) -> Answers:
    for arg in request["args"]:
        yield {"id": request["id"], "event": request["op"], "arg": arg, "connId": "a4d3ae55"}
        yield Channel(f"{arg['channel']}:{arg['instId']}")


#: Makes what answers the requests of one connection.
ANSWERERS: dict[str, Callable[[], Callable[[Any], Answers]]] = {
    "generic": lambda: _generic,
    "binance": lambda: _binance,
    "binance_futures": lambda: _binance,
    "bitfinex": Bitfinex,
    "bybit": lambda: _bybit,
    "coinbase_exchange": Coinbase,
    "deribit": lambda: _deribit,
    "kraken": lambda: _kraken,
    "kucoin": lambda: _kucoin,
    "okx": lambda: _okx,
}


class Conversation:
    """What one client hears before its data: payloads, and channels as they are subscribed."""

    def __init__(self, dialect: str) -> None:
        self._answer = ANSWERERS[dialect]()

    def received(self, payload: bytes) -> list[bytes | Channel]:
        """Return the answers to a request."""
        if payload == b"ping":  # of OKX
            return [b"pong"]
        return [
            answer if isinstance(answer, Channel) else json.dumps(answer).encode()
            for answer in self._answer(json.loads(payload))
        ]
