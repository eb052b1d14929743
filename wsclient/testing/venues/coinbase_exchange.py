"""The protocol of Coinbase Exchange."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from wsclient.dialect import sign_in_base64
from wsclient.dialects.coinbase_exchange import CoinbaseExchange
from wsclient.testing.accounts import Account, OrderChange
from wsclient.testing.delivery import Update
from wsclient.testing.limits import ChannelRefusal
from wsclient.testing.market import Depth, MarketEvent, MarketQuote, MarketTrade
from wsclient.testing.private import (
    PrivateProtocol,
    account_of,
    decoded_secret,
    same,
    text_of,
    whole_of,
)
from wsclient.testing.protocols import (
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


#: Channels that need a signed subscribe (page `channels`).
_SIGNED = ("full", "level2", "level3", "user")
_FIELDS = ("signature", "key", "passphrase", "timestamp")


class CoinbaseExchangeProtocol(PrivateProtocol):
    """Coinbase Exchange, whose books are not numbered.

    Each request is answered by an error for each product that is refused, and then by a list of all
    that is subscribed.

    A signed subscribe logs the connection in; a wrong signature refuses all of it. `user` has the
    orders of the account; orders are not placed on this connection. The words of the errors are our
    assumption.
    """

    dialect = CoinbaseExchange()
    kinds: ClassVar = {
        "matches:{}": MarketTrade,
        "ticker:{}": MarketQuote,
        "level2_batch:{}": Depth,
    }
    patterns = tuple(kinds)
    symbols = ("BTC-USD", "ETH-USD", "SOL-USD")
    credential_fields = {
        "api_key": "api_key",
        "secret": "secret",
        "passphrase": "passphrase",
    }

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        kind = request.get("type")
        if kind not in ("subscribe", "unsubscribe"):
            return
        is_signed = any(name in request for name in _FIELDS)
        if is_signed and peer.venue.accounts and kind == "subscribe":
            wrong = self._log_in(peer, request)
            if wrong is not None:
                yield encode({"type": "error", "message": "Authentication Failed", "reason": wrong})
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
            if isinstance(error, ChannelRefusal) and error.kind == "login":
                reason = f"{channel.partition(':')[0]} requires authentication"
            yield encode({"type": "error", "message": "Failed to subscribe", "reason": reason})
        if not is_muted(peer, self._channels(request)):
            yield encode({"type": "subscriptions", "channels": self._subscribed(peer)})
        for channel in begun:
            yield from self.snapshot(channel, peer)

    def _log_in(self, peer: Peer, request: Mapping[str, Any]) -> str | None:
        """Log the client in by a signed request. Return what is wrong, or None."""
        account = account_of(peer.venue.accounts, request.get("key"))
        timestamp = text_of(request.get("timestamp"))
        if account is None:
            return "invalid api key"
        if not self.is_timely(whole_of(timestamp)):
            return "request timestamp expired"
        if not same(request.get("passphrase"), account.passphrase):
            return "invalid passphrase"
        right = sign_in_base64(decoded_secret(account), f"{timestamp}GET/users/self/verify")
        if not same(request.get("signature"), right):
            return "invalid signature"
        if peer.account is not account:
            peer.login(account)
        return None

    def is_private(self, channel: str) -> bool:
        return channel.partition(":")[0] in _SIGNED

    def pair(self, symbol: str) -> tuple[str, str] | None:
        base, dash, quote = symbol.partition("-")
        return (base, quote) if dash else None

    def news(self, account: Account, change: OrderChange) -> Iterator[tuple[str, Payload]]:
        order = change.order
        channel = f"user:{order.symbol}"
        head = {"product_id": order.symbol, "user_id": "1", "profile_id": "1", "side": order.side}
        head |= {"time": now_text()}
        own = {**head, "order_id": order.id, "price": text_of(order.price)}
        remaining = {"remaining_size": str(order.remaining)}
        match change.kind:
            case "placed":
                kind = {"order_type": "market" if order.price is None else "limit"}
                received = {"type": "received", "client_oid": order.client_id, **kind}
                yield channel, encode({**received, **own, "size": str(order.size)})
                if order.price is not None:
                    yield channel, encode({"type": "open", **own, **remaining})
            case "amended":
                yield channel, encode({"type": "change", **own, "new_size": str(order.size)})
            case "filled":
                deal = {"trade_id": change.number, "size": str(change.size)}
                deal |= {"maker_order_id": order.id, "price": str(change.price)}
                yield channel, encode({"type": "match", **head, **deal})
        if not order.is_open:
            yield channel, encode({"type": "done", **own, "reason": order.state, **remaining})

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
