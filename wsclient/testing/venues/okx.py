"""The protocol of OKX v5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from wsclient.dialects.okx import OKX
from wsclient.testing.market import Depth, MarketEvent, Quote, Trade
from wsclient.testing.protocols import (
    MarketProtocol,
    Payload,
    as_object,
    encode,
    is_muted,
    level_texts,
    milliseconds,
    subscribe_all,
    unsubscribe_all,
)

if TYPE_CHECKING:
    from wsclient.testing.peer import Peer

__all__ = ["OKXProtocol"]


class OKXProtocol(MarketProtocol):
    """OKX v5: one answer per arg. Books are numbered; their checksum is 0, as at the venue now."""

    dialect = OKX()
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
            error = (subscribe_all if op == "subscribe" else unsubscribe_all)(peer, [channel])
            if is_muted(peer, [channel]):
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
        now = str(milliseconds())
        match event:
            case Trade(number, price, size, side):
                return {"tradeId": str(number), "px": str(price), "sz": str(size), "side": side}
            case Quote(bid, bid_size, ask, ask_size, last):
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
