"""The protocol of Deribit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from wsclient.dialects.deribit import Deribit
from wsclient.testing.delivery import Update
from wsclient.testing.market import Depth, MarketEvent, MarketLevels, MarketQuote, MarketTrade
from wsclient.testing.protocols import (
    MarketProtocol,
    Payload,
    as_object,
    encode,
    is_muted,
    milliseconds,
    repeat,
    texts,
)

if TYPE_CHECKING:
    from wsclient.testing.peer import Peer

__all__ = ["DeribitProtocol"]


class DeribitProtocol(MarketProtocol):
    """Deribit: a refused channel is left out of the answer, as `Deribit` expects.

    A client that requests heartbeats gets only test requests, and need not answer them.
    """

    dialect = Deribit()
    kinds: ClassVar = {
        "trades.{}.100ms": MarketTrade,
        "ticker.{}.100ms": MarketQuote,
        "book.{}.100ms": Depth,
        "trades.{}.raw": MarketTrade,
        "ticker.{}.raw": MarketQuote,
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
            case "public/subscribe" if peer.refusal() is not None:  # too many messages
                outcome = {"error": {"code": 10028, "message": "too_many_requests"}}
            case "public/subscribe":
                outcome = {"result": [c for c in channels if peer.subscribe(c) is None]}
            case "public/unsubscribe":
                outcome = {"result": [c for c in channels if peer.unsubscribe(c)]}
            case "public/set_heartbeat":
                interval = params.get("interval")
                if isinstance(interval, int) and interval >= 10:
                    beat = {"method": "heartbeat", "params": {"type": "test_request"}}
                    repeat(peer, interval, lambda: peer.send_json({"jsonrpc": "2.0", **beat}))
                outcome = {"result": "ok"}
            case "public/test":
                outcome = {"result": {"version": "1.2.26"}}
            case _:
                outcome = {"error": {"code": -32601, "message": "Method not found"}}
        if not is_muted(peer, channels):
            yield encode({"jsonrpc": "2.0", "id": request.get("id"), **outcome})
        if request.get("method") == "public/subscribe":
            for channel in outcome.get("result", ()):
                yield from self.snapshot(channel, peer)

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        now = milliseconds()
        match event:
            case MarketTrade(number, price, size, side):
                deal = {"price": price, "amount": size, "direction": side, "timestamp": now}
                return {"trade_seq": number, "trade_id": str(number), **deal}
            case MarketQuote(bid, bid_size, ask, ask_size, last):
                best = {"best_bid_price": bid, "best_bid_amount": bid_size}
                best |= {"best_ask_price": ask, "best_ask_amount": ask_size}
                return {"last_price": last, **best, "timestamp": now}
            case Depth(bids, asks, _, before):
                kind = "snapshot" if is_snapshot else "change"
                sides = {"bids": _actions(bids, before[0]), "asks": _actions(asks, before[1])}
                return {"type": kind, **sides, "timestamp": now}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        return self._data(channel, sequence, sequence, fields)

    def join(self, channel: str, updates: Sequence[Update]) -> Payload | None:
        fields = updates[-1].fields
        if any(update.fields.get("type") != "change" for update in updates):
            return None
        sides = {
            side: _joined(change for update in updates for change in update.fields[side])
            for side in ("bids", "asks")
        }
        return self._data(channel, updates[0].sequence, updates[-1].sequence, {**fields, **sides})

    def _data(self, channel: str, first: int, last: int, fields: Mapping[str, Any]) -> Payload:
        name, instrument, _ = channel.split(".", 2)
        data: Any = {**fields, "instrument_name": instrument}
        if name == "book":
            data["change_id"] = last
            if data["type"] == "change":
                data["prev_change_id"] = first - 1
        elif name == "trades":
            data = [data]
        params = {"channel": channel, "data": data}
        return encode({"jsonrpc": "2.0", "method": "subscription", "params": params})


def _actions(changes: MarketLevels, before: MarketLevels) -> list[tuple[str, Decimal, Decimal]]:
    known = {price for price, _ in before}
    return [
        ("change" if price in known else "new", price, size)
        if size
        else ("delete", price, Decimal(0))
        for price, size in changes
    ]


def _joined(changes: Iterable[tuple[str, Decimal, Decimal]]) -> list[tuple[str, Decimal, Decimal]]:
    """Return what successive changes of levels come to."""
    found: dict[Decimal, tuple[str, Decimal, Decimal]] = {}
    for action, price, size in changes:
        was_new = price in found and found[price][0] == "new"
        if was_new and action == "delete":
            del found[price]
        elif was_new:
            found[price] = ("new", price, size)
        elif price in found and action == "new":  # deleted before
            found[price] = ("change", price, size)
        else:
            found[price] = (action, price, size)
    return list(found.values())
