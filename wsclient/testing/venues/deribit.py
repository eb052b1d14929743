"""The protocol of Deribit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from wsclient.dialect import sign
from wsclient.dialects.deribit import Deribit
from wsclient.testing.accounts import Account, OrderChange, OrderRefusal, VenueOrder
from wsclient.testing.delivery import Update
from wsclient.testing.market import Depth, MarketEvent, MarketLevels, MarketQuote, MarketTrade
from wsclient.testing.private import PrivateProtocol, account_of, same, text_of, whole_of
from wsclient.testing.protocols import (
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
#: The errors of refused requests (page `articles/errors`).
_ERRORS: Mapping[str, tuple[int, str]] = {
    "duplicate": (-32602, "Invalid params"),
    "unknown": (11044, "not_open_order"),
    "funds": (10009, "not_enough_funds"),
    "invalid": (-32602, "Invalid params"),
}
_UNAUTHORIZED = (13009, "unauthorized")
_WRONG = (13004, "invalid_credentials")
_STATES = {"open": "open", "filled": "filled", "canceled": "cancelled"}
_ORDERS = ("buy", "sell", "edit", "cancel", "cancel_all", "cancel_by_label")


class DeribitProtocol(PrivateProtocol):
    """Deribit: a refused channel is left out of the answer, as `Deribit` expects.

    A client that requests heartbeats gets only test requests, and need not answer them.

    Logins are `client_credentials` and `client_signature`. `user.orders` reports changes, of one
    instrument or of all (`any.any`); balances do not change. A label may come again.
    `get_open_orders`, `get_order_state` and `get_order_state_by_label` answer what there is.
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
    takes_orders = True
    credential_fields = {"client_id": "api_key", "client_secret": "secret"}
    client_ids = "always"

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        params = request.get("params")
        params = params if isinstance(params, dict) else {}
        channels = texts(params.get("channels"))
        method = str(request.get("method"))
        outcome: dict[str, Any]
        match method:
            case "public/auth" if peer.venue.accounts:
                outcome = self._login(peer, params)
            case _ if method.startswith("private/") and peer.venue.accounts:
                yield from self._private(peer, request, method, params, channels)
                return
            case "public/subscribe" if peer.refusal() is not None:  # too many messages
                outcome = {"error": {"code": 10028, "message": "too_many_requests"}}
            case "public/subscribe" | "private/subscribe":
                outcome = {"result": [c for c in channels if peer.subscribe(c) is None]}
            case "public/unsubscribe" | "private/unsubscribe":
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
            yield _answer(request, outcome)
        if method == "public/subscribe":
            for channel in outcome.get("result", ()):
                yield from self.snapshot(channel, peer)

    # The account

    def _login(self, peer: Peer, params: Mapping[str, Any]) -> dict[str, Any]:
        account = account_of(peer.venue.accounts, params.get("client_id"))
        kind = params.get("grant_type")
        is_right = False
        if account is not None and kind == "client_credentials":
            is_right = same(params.get("client_secret"), account.secret)
        elif account is not None and kind == "client_signature":
            timestamp = text_of(params.get("timestamp"))
            signed = f"{timestamp}\n{text_of(params.get('nonce'))}\n{text_of(params.get('data'))}"
            right = sign(account.secret, signed).hex()
            is_right = same(params.get("signature"), right) and self.is_timely(
                whole_of(timestamp), 1000
            )
        if account is None or not is_right:
            return _refused(*_WRONG)
        peer.login(account)
        token = {"access_token": f"token-{peer.id}", "refresh_token": f"again-{peer.id}"}
        return {"result": {**token, "expires_in": 900, "scope": "session", "token_type": "bearer"}}

    def is_private(self, channel: str) -> bool:
        return channel.startswith("user.")

    def _private(
        self,
        peer: Peer,
        request: Mapping[str, Any],
        method: str,
        params: Mapping[str, Any],
        channels: Sequence[str],
    ) -> Iterator[Payload]:
        name = method.removeprefix("private/")
        account = peer.account
        if account is None:
            yield _answer(request, _refused(*_UNAUTHORIZED))
        elif name in ("subscribe", "unsubscribe"):
            change = peer.subscribe if name == "subscribe" else peer.unsubscribe
            done = [c for c in channels if change(c) in (None, True)]
            if not is_muted(peer, channels):
                yield _answer(request, {"result": done})
        elif name in _ORDERS:
            yield from self.executed(peer, self._answers(account, request, name, params))
        else:
            yield _answer(request, self._state(account, name, params))

    def _answers(
        self, account: Account, request: Mapping[str, Any], name: str, params: Mapping[str, Any]
    ) -> Iterator[Payload]:
        try:
            yield _answer(request, {"result": self._execute(account, name, params)})
        except OrderRefusal as error:
            code, text = _ERRORS[error.kind]
            yield _answer(request, _refused(code, text, str(error)))

    def _execute(self, account: Account, name: str, params: Mapping[str, Any]) -> Any:
        now = milliseconds()
        symbol, label = params.get("instrument_name"), text_of(params.get("label"))
        match name:
            case "buy" | "sell":
                kind = text_of(params.get("type", "limit"))
                price = None if kind == "market" else params.get("price", "")
                more = {"order_type": kind, "post_only": params.get("post_only") is True}
                size = params.get("amount")
                order = self.place(account, symbol, name, size, price, label, None, more)
                return {"order": _order(order), "trades": []}
            case "edit":
                which, size = text_of(params.get("order_id")), params.get("amount")
                order = self.amend(account, which, size, params.get("price"))
                return {"order": _order(order), "trades": []}
            case "cancel":
                return _order(account.cancel(text_of(params.get("order_id")), now=now))
            case "cancel_by_label":
                named = [o for o in account.open_orders() if label and o.client_id == label]
                return len([account.cancel(order, now=now) for order in named])
            case _:
                return len(account.cancel_all(now=now))

    def _state(self, account: Account, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        match name:
            case "get_open_orders":
                return {"result": [_order(order) for order in account.open_orders()]}
            case "get_order_state":
                order = account.orders.get(text_of(params.get("order_id")))
                return _refused(10004, "order_not_found") if order is None else _result(order)
            case "get_order_state_by_label":
                label = text_of(params.get("label"))
                found = [o for o in account.orders.values() if label and o.client_id == label]
                return {"result": [_order(order) for order in found]}
            case _:
                return _refused(-32601, "Method not found")

    def news(self, account: Account, change: OrderChange) -> Iterator[tuple[str, Payload]]:
        order = _order(change.order)
        for which in (change.order.symbol, "any.any"):
            for interval, data in (("raw", order), ("100ms", [order])):
                channel = f"user.orders.{which}.{interval}"
                params = {"channel": channel, "data": data}
                push = {"jsonrpc": "2.0", "method": "subscription", "params": params}
                yield channel, encode(push)

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


def _answer(request: Mapping[str, Any], outcome: Mapping[str, Any]) -> Payload:
    return encode({"jsonrpc": "2.0", "id": request.get("id"), **outcome})


def _refused(code: int, text: str, reason: str | None = None) -> dict[str, Any]:
    data = {} if reason is None else {"data": {"reason": reason}}
    return {"error": {"code": code, "message": text, **data}}


def _result(order: VenueOrder) -> dict[str, Any]:
    return {"result": _order(order)}


def _order(order: VenueOrder) -> dict[str, Any]:
    return {
        "order_id": order.id,
        "order_state": _STATES[order.state],
        "order_type": "limit" if order.price is not None else "market",
        **order.more,
        "instrument_name": order.symbol,
        "direction": order.side,
        "amount": order.size,
        "filled_amount": order.filled,
        "price": order.average if order.price is None else order.price,
        "average_price": order.average,
        "label": order.client_id,
        "time_in_force": "good_til_cancelled",
        "creation_timestamp": order.created_at,
        "last_update_timestamp": order.updated_at,
        "api": True,
    }
