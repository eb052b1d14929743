"""The protocol of Kraken v2."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from wsclient.dialects.kraken import Kraken
from wsclient.testing.delivery import Update
from wsclient.testing.limits import ChannelRefusal
from wsclient.testing.market import Depth, MarketEvent, MarketQuote, MarketTrade
from wsclient.testing.protocols import (
    MarketProtocol,
    Payload,
    as_object,
    encode,
    now_text,
    repeat,
    texts,
)
from wsclient.testing.routes import Route

if TYPE_CHECKING:
    from wsclient.testing.peer import Peer

__all__ = ["KrakenProtocol"]

_PRIVATE = ("executions*", "balances*")
_LEVEL3 = ("level3:*",)
_WRONG_ROUTE = {
    "public": "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com",
    "auth": "Public channels not available in this endpoint",
    "l3": "Public channels not available in this endpoint",
}


class KrakenProtocol(MarketProtocol):
    """Kraken v2. A channel is called `book:BTC/USD`, or `instrument` if it has no symbol.

    `heartbeat` is the interval (s) of heartbeats to a client with a subscription; None sends none.
    A subscribe that wants a snapshot gets one. The venue's three routes are three hosts, here they
    are three paths; what refuses a channel of another route is that of the public and private ones.
    """

    dialect = Kraken()
    kinds: ClassVar = {"ticker:{}": MarketQuote, "trade:{}": MarketTrade, "book:{}": Depth}
    patterns = tuple(kinds)
    symbols = ("BTC/USD", "ETH/USD", "SOL/USD")
    routes = {
        "public": Route("/ws/v2", without=_PRIVATE + _LEVEL3),
        "auth": Route("/ws-auth/v2", _PRIVATE),
        "l3": Route("/ws-l3/v2", _LEVEL3),
    }
    default_route = "public"
    DEPTHS = (10, 25, 100, 500, 1000)
    heartbeat_payload = b'{"channel":"heartbeat"}'

    @classmethod
    def served(cls) -> KrakenProtocol:
        return cls(heartbeat=1.0)

    def __init__(self, *, heartbeat: float | None = None) -> None:
        super().__init__()
        self.heartbeat = heartbeat

    def set_snapshot(self, channel: str, **fields: Any) -> None:
        """Send `fields` to each later subscriber of `channel`, as a message of type snapshot."""
        self.snapshots[channel] = self.data(channel, 0, {"type": "snapshot", **fields})

    def greeting(self, peer: Peer) -> Iterator[Payload]:
        if self.heartbeat is not None:
            repeat(peer, self.heartbeat, functools.partial(self._beat, peer))
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
                error: str | None = peer.subscribe(channel, **options)
                if isinstance(error, ChannelRefusal) and error.kind == "route":
                    error = _WRONG_ROUTE.get(peer.route or "", error)
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
                yield from self.snapshot(channel, peer)

    def _unsubscribe(self, peer: Peer, channel: str, options: dict[str, Any]) -> str | None:
        if channel not in peer.subscriptions or peer.options(channel) != options:
            return "Subscription Not Found"
        peer.unsubscribe(channel)
        return None

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        kind = {"type": "snapshot"} if is_snapshot else {}
        match event:
            case MarketTrade(number, price, size, side):
                more = {"ord_type": "market", "trade_id": number, "timestamp": now_text()}
                return {**kind, "side": side, "qty": size, "price": price, **more}
            case MarketQuote(bid, bid_size, ask, ask_size, last):
                best = {"bid": bid, "bid_qty": bid_size, "ask": ask, "ask_qty": ask_size}
                return {**kind, **best, "last": last, "timestamp": now_text()}
            case Depth(bids, asks, book):
                sides = {
                    name: [{"price": price, "qty": size} for price, size in side]
                    for name, side in (("bids", bids), ("asks", asks))
                }
                checksum = Kraken.book.checksum(*book)
                return {**kind, **sides, "checksum": checksum, "timestamp": now_text()}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        name, _, symbol = channel.partition(":")
        item = {key: value for key, value in fields.items() if key != "type"}
        if symbol:
            item = {"symbol": symbol, **item}
        return encode({"channel": name, "type": fields.get("type", "update"), "data": [item]})

    def join(self, channel: str, updates: Sequence[Update]) -> Payload | None:
        fields = updates[-1].fields
        if any("checksum" not in each.fields or "type" in each.fields for each in updates):
            return None
        sides = {}
        for side in ("bids", "asks"):
            rows = [row for update in updates for row in update.fields[side]]
            sides[side] = list({row["price"]: row for row in rows}.values())
        return self.data(channel, updates[-1].sequence, {**fields, **sides})


def _refusal(
    method: str, error: str, which: Mapping[str, Any], req_id: Mapping[str, Any]
) -> Payload:
    return encode(
        {"error": error, "method": method, **req_id, "success": False, **which, **_times()}
    )


def _times() -> dict[str, str]:
    now = now_text()
    return {"time_in": now, "time_out": now}
