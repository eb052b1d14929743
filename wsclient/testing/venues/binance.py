"""The protocol of Binance spot."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from wsclient.dialects.binance import Binance
from wsclient.testing.delivery import Update
from wsclient.testing.market import Depth, MarketEvent, MarketQuote, MarketTrade
from wsclient.testing.protocols import (
    MarketProtocol,
    Payload,
    as_object,
    encode,
    is_muted,
    level_texts,
    milliseconds,
    newest,
    repeat,
    subscribe_all,
    texts,
    unsubscribe_all,
)

if TYPE_CHECKING:
    from wsclient.testing.peer import Peer

__all__ = ["BinanceProtocol"]


class BinanceProtocol(MarketProtocol):
    """Binance spot, on combined streams. A snapshot of a book is the answer to a GET.

    A client that sends too much is closed with 1008 and this reason, as seen on the wire. How the
    venue refuses more streams than a connection may have is not known: the code is our assumption.
    """

    dialect = Binance()
    kinds: ClassVar = {
        "{}@trade": MarketTrade,
        "{}@bookTicker": MarketQuote,
        "{}@depth@100ms": Depth,
        "{}@aggTrade": MarketTrade,
    }
    patterns = ("{}@trade", "{}@bookTicker", "{}@depth@100ms")
    symbols = ("btcusdt", "ethusdt", "solusdt")
    rest_path = "depth"
    gateway_time = re.compile(r'("E":)(\d+)')
    #: The interval (s) of ping frames.
    PING = 20.0

    def greeting(self, peer: Peer) -> Iterator[Payload]:
        repeat(peer, self.PING, functools.partial(peer.ping, b"%d" % peer.id))
        yield from ()

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        channels = texts(request.get("params"))
        carried = [channel for channel in channels if self._is_carried(peer, channel)]
        error: str | None
        if request.get("method") == "SUBSCRIBE":
            error = subscribe_all(peer, carried)
        elif request.get("method") == "UNSUBSCRIBE":
            error = unsubscribe_all(peer, carried)
        else:
            return
        if is_muted(peer, channels):
            return
        if error is None:
            yield encode({"result": None, "id": request.get("id")})
        else:
            yield encode({"code": 2, "msg": f"Invalid request: {error}", "id": request.get("id")})

    def _is_carried(self, peer: Peer, channel: str) -> bool:
        """Return False for a stream that is acknowledged, but never sent."""
        return peer.venue.routes.carries(peer.route, channel)

    def shutdown_notice(self, peer: Peer) -> Payload:
        event = {"e": "serverShutdown", "E": milliseconds()}
        return encode({"stream": "!serverShutdown", "data": event})

    def http(self, path: str) -> bytes | None:
        parts = urlsplit(path)
        symbols = parse_qs(parts.query).get("symbol", ())
        for symbol in symbols if parts.path.endswith("/depth") else ():
            for snapshot in self.snapshot(f"{symbol.lower()}@depth@100ms"):
                return snapshot.encode() if isinstance(snapshot, str) else snapshot
        return None

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        symbol = {"s": channel.partition("@")[0].upper()}
        now = milliseconds()
        match event:
            case MarketTrade(number, price, size, side):
                deal = {"p": str(price), "q": str(size), "T": now, "m": side == "sell", "M": True}
                if channel.endswith("@trade"):
                    return {"e": "trade", "E": now, **symbol, "t": number, **deal}
                return {"e": "aggTrade", "E": now, **symbol, "a": number, **deal}
            case MarketQuote(bid, bid_size, ask, ask_size):
                best = {"b": str(bid), "B": str(bid_size), "a": str(ask), "A": str(ask_size)}
                return {**symbol, **best}
            case Depth(bids, asks) if is_snapshot:
                return {"bids": level_texts(bids), "asks": level_texts(asks)}
            case Depth(bids, asks):
                sides = {"b": level_texts(bids), "a": level_texts(asks)}
                return {"e": "depthUpdate", "E": now, **symbol, **sides}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        if "bids" in fields:
            return encode({"lastUpdateId": sequence, **fields})
        if fields.get("e") == "depthUpdate":
            fields = {**fields, **self._numbers(sequence, sequence)}
        elif channel.endswith("@bookTicker"):
            fields = {"u": sequence, **fields}
        return encode({"stream": channel, "data": fields})

    def join(self, channel: str, updates: Sequence[Update]) -> Payload | None:
        if any(update.fields.get("e") != "depthUpdate" for update in updates):
            return None
        numbers = self._numbers(updates[0].sequence, updates[-1].sequence)
        sides = {side: newest(*(update.fields[side] for update in updates)) for side in "ba"}
        return encode({"stream": channel, "data": {**updates[-1].fields, **sides, **numbers}})

    def _numbers(self, first: int, last: int) -> dict[str, int]:
        return {"U": first, "u": last}
