"""The protocol of Bybit v5."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from wsclient.dialects.bybit import Bybit
from wsclient.testing.limits import ChannelRefusal
from wsclient.testing.market import Depth, MarketEvent, MarketQuote, MarketTrade
from wsclient.testing.protocols import (
    MarketProtocol,
    Payload,
    as_object,
    encode,
    is_muted,
    level_texts,
    milliseconds,
    subscribe_all,
    texts,
    unsubscribe_all,
)
from wsclient.testing.routes import Route

if TYPE_CHECKING:
    from wsclient.testing.peer import Peer

__all__ = ["BybitProtocol"]

_PRIVATE = ("order", "order.*", "execution*", "position*", "wallet", "greeks", "dcp*")


class BybitProtocol(MarketProtocol):
    """Bybit v5, spot or linear: one answer per request, which is refused as a whole.

    The same channel exists on several routes: publish `linear:publicTrade.BTCUSDT`.
    """

    dialect = Bybit(sequenced=True)
    kinds: ClassVar = {
        "publicTrade.{}": MarketTrade,
        "tickers.{}": MarketQuote,
        "orderbook.50.{}": Depth,
        "orderbook.200.{}": Depth,
        "orderbook.500.{}": Depth,
        "orderbook.1000.{}": Depth,
    }
    patterns = ("publicTrade.{}", "tickers.{}", "orderbook.50.{}")
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    routes = {
        **{
            name: Route(f"/v5/public/{name}", without=_PRIVATE)
            for name in ("spot", "linear", "inverse", "option", "spread")
        },
        "private": Route("/v5/private", _PRIVATE),
    }
    gateway_time = re.compile(r'("ts":)(\d+)')

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        op = request.get("op")
        channels = texts(request.get("args"))
        answer = {"conn_id": str(peer.id), "req_id": request.get("req_id", ""), "op": op}
        if op == "ping":
            yield encode({"success": True, "ret_msg": "pong", **answer})
        if op not in ("subscribe", "unsubscribe"):
            return
        error: str | None
        error = (subscribe_all if op == "subscribe" else unsubscribe_all)(peer, channels)
        if isinstance(error, ChannelRefusal) and error.kind == "route":
            wrong = next(c for c in channels if not peer.venue.routes.carries(peer.route, c))
            error = f"error:handler not found,topic:{wrong}"
        if not is_muted(peer, channels):
            yield encode({"success": error is None, "ret_msg": error or op, **answer})
        if op == "subscribe" and error is None:
            for channel in channels:
                yield from self.snapshot(channel, peer)

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        symbol = channel.rpartition(".")[2]
        now = milliseconds()
        match event:
            case MarketTrade(number, price, size, side):
                deal = {"S": side.title(), "v": str(size), "p": str(price), "i": str(number)}
                return {"data": [{"T": now, "s": symbol, **deal, "BT": False, "seq": number}]}
            case MarketQuote(bid, bid_size, ask, ask_size, last):
                best = {"bid1Price": str(bid), "bid1Size": str(bid_size)}
                best |= {"ask1Price": str(ask), "ask1Size": str(ask_size)}
                return {"data": {"symbol": symbol, "lastPrice": str(last), **best}}
            case Depth(bids, asks):
                sides = {"b": level_texts(bids), "a": level_texts(asks)}
                kind = "snapshot" if is_snapshot else "delta"
                return {"type": kind, "data": {"s": symbol, **sides}}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        if channel.startswith("orderbook."):
            fields = {**fields, "data": {**fields["data"], "u": sequence, "seq": sequence}}
        head = {"topic": channel, "type": "snapshot", "ts": milliseconds()}
        return encode({**head, **fields})
