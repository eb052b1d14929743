"""The protocol of Coinbase Exchange."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from wsclient.dialects.coinbase_exchange import CoinbaseExchange
from wsclient.testing.delivery import Update
from wsclient.testing.market import Depth, MarketEvent, MarketQuote, MarketTrade
from wsclient.testing.protocols import (
    MarketProtocol,
    Payload,
    as_object,
    encode,
    is_muted,
    level_texts,
    newest,
    now_text,
    texts,
)

if TYPE_CHECKING:
    from wsclient.testing.peer import Peer

__all__ = ["CoinbaseExchangeProtocol"]


class CoinbaseExchangeProtocol(MarketProtocol):
    """Coinbase Exchange, whose books are not numbered.

    Each request is answered by an error for each product that is refused, and then by a list of all
    that is subscribed.
    """

    dialect = CoinbaseExchange()
    kinds: ClassVar = {
        "matches:{}": MarketTrade,
        "ticker:{}": MarketQuote,
        "level2_batch:{}": Depth,
    }
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
        if not is_muted(peer, self._channels(request)):
            yield encode({"type": "subscriptions", "channels": self._subscribed(peer)})
        for channel in begun:
            yield from self.snapshot(channel, peer)

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
            case MarketTrade(number, price, size, side):
                maker = "sell" if side == "buy" else "buy"
                deal = {"side": maker, "size": str(size), "price": str(price), "time": now_text()}
                return {"type": "match", "trade_id": number, **deal}
            case MarketQuote(bid, bid_size, ask, ask_size, last):
                best = {"best_bid": str(bid), "best_bid_size": str(bid_size)}
                best |= {"best_ask": str(ask), "best_ask_size": str(ask_size)}
                return {"type": "ticker", "price": str(last), **best, "time": now_text()}
            case Depth(bids, asks) if is_snapshot:
                return {"type": "snapshot", "bids": level_texts(bids), "asks": level_texts(asks)}
            case Depth(bids, asks):
                changes = [["buy", *level] for level in level_texts(bids)]
                changes += [["sell", *level] for level in level_texts(asks)]
                return {"type": "l2update", "changes": changes, "time": now_text()}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        number = {} if channel.startswith("level2") else {"sequence": sequence}
        return encode({**fields, **number, "product_id": channel.partition(":")[2]})

    def join(self, channel: str, updates: Sequence[Update]) -> Payload | None:
        fields = updates[-1].fields
        if any(update.fields.get("type") != "l2update" for update in updates):
            return None
        changes = newest(*(update.fields["changes"] for update in updates), key=2)
        return self.data(channel, updates[-1].sequence, {**fields, "changes": changes})
