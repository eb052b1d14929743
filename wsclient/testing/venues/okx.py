"""The protocol of OKX v5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from wsclient.dialects.okx import OKX
from wsclient.testing.delivery import Update
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
    newest,
    subscribe_all,
    unsubscribe_all,
)
from wsclient.testing.routes import Route

if TYPE_CHECKING:
    from wsclient.testing.peer import Peer

__all__ = ["OKXProtocol"]

_BUSINESS = (
    "candle*",
    "mark-price-candle*",
    "index-candle*",
    "trades-all:*",
    "sprd-*",
    "public-struc-block-trades*",
    "public-block-trades*",
    "orders-algo*",
    "algo-advance*",
    "grid-*",
    "deposit-info*",
    "withdrawal-info*",
)
_PRIVATE = (
    "account",
    "account:*",
    "positions*",
    "balance_and_position*",
    "liquidation-warning*",
    "account-greeks*",
    "orders",
    "orders:*",
    "fills*",
)


class OKXProtocol(MarketProtocol):
    """OKX v5: one answer per arg. Books are numbered; their checksum is 0, as at the venue now.

    A connection with too many channels is closed with 4009, as documented. A path without a route
    carries all channels.
    """

    dialect = OKX()
    kinds: ClassVar = {"trades:{}": MarketTrade, "tickers:{}": MarketQuote, "books:{}": Depth}
    patterns = tuple(kinds)
    symbols = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
    routes = {
        "public": Route("/ws/v5/public", without=_BUSINESS + _PRIVATE),
        "business": Route("/ws/v5/business", _BUSINESS),
        "private": Route("/ws/v5/private", _PRIVATE),
    }

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
            error: str | None
            error = (subscribe_all if op == "subscribe" else unsubscribe_all)(peer, [channel])
            kind = error.kind if isinstance(error, ChannelRefusal) else "channel"
            if kind == "limit":
                peer.close(4009, "Too many channels")
                return
            if is_muted(peer, [channel]):
                continue
            if error is None:
                yield encode({**answer, "event": op, "arg": which, "connId": str(peer.id)})
                if op == "subscribe":
                    yield from self.snapshot(channel, peer)
                continue
            named = ",".join(f"{key}:{value}" for key, value in which.items())
            text = f"{named} doesn't exist: {error}"
            if kind == "route":
                text = f"Wrong URL or {named} doesn't exist. Please use the correct URL."
            if kind == "rate":
                text = "Requests too frequent"
            code = "60014" if kind == "rate" else "60018"
            answer |= {"event": "error", "code": code, "msg": text}
            yield encode({**answer, "connId": str(peer.id)})

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        now = str(milliseconds())
        match event:
            case MarketTrade(number, price, size, side):
                deal = {"px": str(price), "sz": str(size), "side": side, "ts": now}
                return {"tradeId": str(number), **deal}
            case MarketQuote(bid, bid_size, ask, ask_size, last):
                best = {"askPx": str(ask), "askSz": str(ask_size)}
                best |= {"bidPx": str(bid), "bidSz": str(bid_size)}
                return {"last": str(last), **best, "ts": now}
            case Depth(bids, asks):
                sides = {
                    name: [[*level, "0", "1"] for level in level_texts(side)]
                    for name, side in (("asks", asks), ("bids", bids))
                }
                kind = "snapshot" if is_snapshot else "update"
                return {"action": kind, **sides, "ts": now, "checksum": 0}

    def shutdown_notice(self, peer: Peer) -> Payload:
        text = "The connection will soon be closed for a service upgrade. Please reconnect."
        notice = {"event": "notice", "code": "64008", "msg": text, "connId": str(peer.id)}
        return encode(notice)

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        return self._data(channel, sequence, sequence, fields)

    def join(self, channel: str, updates: Sequence[Update]) -> Payload | None:
        fields = updates[-1].fields
        if any(update.fields.get("action") != "update" for update in updates):
            return None
        sides = {
            side: newest(*(update.fields[side] for update in updates)) for side in ("asks", "bids")
        }
        return self._data(channel, updates[0].sequence, updates[-1].sequence, {**fields, **sides})

    def _data(self, channel: str, first: int, last: int, fields: Mapping[str, Any]) -> Payload:
        name, _, instrument = channel.partition(":")
        head: dict[str, Any] = {"arg": {"channel": name, "instId": instrument}}
        row = dict(fields)
        if name == "books":
            head["action"] = row.pop("action")
            before = -1 if head["action"] == "snapshot" else first - 1
            row |= {"seqId": last, "prevSeqId": before}
        else:
            row = {"instId": instrument, **row}
        return encode({**head, "data": [row]})
