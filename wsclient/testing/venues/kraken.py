"""The protocol of Kraken v2."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs

from wsclient.dialect import sign_in_base64
from wsclient.dialects.kraken import Kraken
from wsclient.testing.accounts import Account, OrderChange, OrderRefusal, VenueOrder
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
    milliseconds,
    now_text,
    repeat,
    texts,
)
from wsclient.testing.rest import RestCall
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
_ORDERS = (
    "add_order",
    "amend_order",
    "batch_add",
    "batch_cancel",
    "cancel_all",
    "cancel_order",
    "edit_order",
)
_TOKEN = "/0/private/GetWebSocketsToken"
#: The time (s) within which a token must be used.
_TOKEN_LASTS = 900
_ERRORS = {
    "duplicate": "EOrder:Duplicate cl_ord_id",
    "unknown": "EOrder:Unknown order",
    "funds": "EOrder:Insufficient funds",
    "invalid": "EGeneral:Invalid arguments",
}
_NO_SESSION = "ESession:Invalid session"
_STATES = {"open": "new", "filled": "filled", "canceled": "canceled"}


class KrakenProtocol(PrivateProtocol):
    """Kraken v2. A channel is called `book:BTC/USD`, or `instrument` if it has no symbol.

    `heartbeat` is the interval (s) of heartbeats to a client with a subscription; None sends none.
    A subscribe that wants a snapshot gets one. The venue's three routes are three hosts, here they
    are three paths; what refuses a channel of another route is that of the public and private ones.
    A path without a route carries all channels.

    A token comes by REST, at the path of the venue, and must be in each private request. The
    request for it is signed, and its nonce must not fall. `executions` and `balances` begin with a
    snapshot and report changes. `cancel_order` is answered once per order, a batch once. Our
    assumptions: the text for a wrong token, which is that of version 1, and for a client order id
    that an open order has.
    """

    dialect = Kraken()
    kinds: ClassVar = {"ticker:{}": MarketQuote, "trade:{}": MarketTrade, "book:{}": Depth}
    patterns = tuple(kinds)
    symbols = ("BTC/USD", "ETH/USD", "SOL/USD")
    takes_orders = True
    credential_fields = {"api_key": "api_key", "secret": "secret"}
    client_ids = "closed"
    has_rest = True
    routes = {
        "public": Route("/ws/v2", without=_PRIVATE + _LEVEL3),
        "auth": Route("/ws-auth/v2", _PRIVATE),
        "l3": Route("/ws-l3/v2", _LEVEL3),
    }
    DEPTHS = (10, 25, 100, 500, 1000)
    heartbeat_payload = b'{"channel":"heartbeat"}'

    @classmethod
    def served(cls) -> KrakenProtocol:
        return cls(heartbeat=1.0)

    def __init__(self, *, heartbeat: float | None = None) -> None:
        super().__init__()
        self.heartbeat = heartbeat
        self._nonces: dict[str, int] = {}
        #: Each token with its account and the time (s) at which it was issued, None once used.
        self._tokens: dict[str, tuple[Account, float | None]] = {}
        self._numbers = {"balances": 0, "executions": 0}

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
        params = request.get("params")
        if not isinstance(params, dict):
            params = {}
        if method in _ORDERS and peer.venue.accounts:
            yield from self._order(peer, method, params, req_id)
        if method not in ("subscribe", "unsubscribe"):
            return
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
                if self.is_private(channel):
                    self._log_in(peer, params)
                result["snapshot"] = wants_snapshot
                error: str | None = peer.subscribe(channel, **options)
                if isinstance(error, ChannelRefusal) and error.kind == "route":
                    error = _WRONG_ROUTE.get(peer.route or "", error)
                elif isinstance(error, ChannelRefusal) and error.kind == "login":
                    error = _NO_SESSION
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
                yield from self._state(peer, channel)

    def _unsubscribe(self, peer: Peer, channel: str, options: dict[str, Any]) -> str | None:
        if channel not in peer.subscriptions or peer.options(channel) != options:
            return "Subscription Not Found"
        peer.unsubscribe(channel)
        return None

    # The account

    def rest(self, call: RestCall, accounts: Sequence[Account]) -> bytes | None:
        if call.method != "POST" or call.path.partition("?")[0] != _TOKEN:
            return None
        account = account_of(accounts, call.headers.get("api-key"))
        error = "EAPI:Invalid key" if account is None else self._error_of(account, call)
        if account is None or error is not None:
            return encode({"error": [error]}).encode()
        token = f"token-{len(self._tokens) + 1}"
        self._tokens[token] = account, self.clock()
        return encode({"error": [], "result": {"token": token, "expires": _TOKEN_LASTS}}).encode()

    def _error_of(self, account: Account, call: RestCall) -> str | None:
        nonce = next(iter(parse_qs(call.body.decode("latin-1")).get("nonce", ())), "")
        digest = hashlib.sha256(nonce.encode() + call.body).digest()
        right = sign_in_base64(decoded_secret(account), _TOKEN.encode() + digest, "sha512")
        if not same(call.headers.get("api-sign"), right):
            return "EAPI:Invalid signature"
        number = whole_of(nonce)
        if number is None or number < self._nonces.get(account.api_key, 0):
            return "EAPI:Invalid nonce"
        self._nonces[account.api_key] = number
        return None

    def is_private(self, channel: str) -> bool:
        return self.routes["auth"].carries(channel) or self.routes["l3"].carries(channel)

    def pair(self, symbol: str) -> tuple[str, str] | None:
        base, slash, quote = symbol.partition("/")
        return (base, quote) if slash else None

    def _log_in(self, peer: Peer, params: Mapping[str, Any]) -> Account | None:
        """Log the client in by the token of a request. Return the account, None without one."""
        token = params.get("token")
        account, issued_at = self._tokens.get(token if isinstance(token, str) else "", (None, None))
        if account is None:
            return None
        if issued_at is not None and self.clock() - issued_at > _TOKEN_LASTS:
            return None
        self._tokens[text_of(token)] = account, None
        if peer.account is not account:
            peer.login(account)
        return account

    def _state(self, peer: Peer, channel: str) -> Iterator[Payload]:
        """Yield the snapshot of a private channel."""
        account = peer.account
        if account is not None and channel == "executions":
            orders = [self._execution("new", order) for order in account.open_orders()]
            yield self._private(channel, "snapshot", orders)
        elif account is not None and channel == "balances":
            rows = [
                {"asset": name, "asset_class": "currency", "balance": amount}
                for name, amount in account.balances.items()
            ]
            yield self._private(channel, "snapshot", rows)

    def _private(self, channel: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> Payload:
        """Return a message of a private channel, numbered; a snapshot has the number before."""
        self._numbers[channel] += kind == "update"
        number = {"sequence": self._numbers[channel]}
        return encode({"channel": channel, "type": kind, "data": rows, **number})

    def news(self, account: Account, change: OrderChange) -> Iterator[tuple[str, Payload]]:
        order = change.order
        kind = {"placed": "new", "filled": "trade" if order.is_open else "filled"}
        row = self._execution(kind.get(change.kind, change.kind), order)
        if change.kind == "filled":
            row |= {"last_qty": change.size, "last_price": change.price}
            row |= {"exec_id": f"T{change.number}", "trade_id": change.number}
        yield "executions", self._private("executions", "update", [row])
        if change.kind == "filled" and order.pair is not None:
            sign = 1 if order.side == "buy" else -1
            amounts = (sign * change.size, -sign * change.size * change.price)
            rows = [
                {
                    "asset": currency,
                    "asset_class": "currency",
                    "amount": amount,
                    "balance": account.balance(currency),
                    "type": "trade",
                    "timestamp": _text(order.updated_at),
                }
                for currency, amount in zip(order.pair, amounts, strict=True)
            ]
            yield "balances", self._private("balances", "update", rows)

    def _execution(self, kind: str, order: VenueOrder) -> dict[str, Any]:
        part = "partially_filled" if order.is_open and order.filled else _STATES[order.state]
        return {
            "order_id": order.id,
            **({"cl_ord_id": order.client_id} if order.client_id else {}),
            "exec_type": kind,
            "symbol": order.symbol,
            "side": order.side,
            "order_type": "market" if order.price is None else "limit",
            "order_qty": order.size,
            **({} if order.price is None else {"limit_price": order.price}),
            "cum_qty": order.filled,
            "cum_cost": order.filled * order.average,
            "avg_price": order.average,
            "time_in_force": "GTC",
            "order_status": part,
            "timestamp": _text(order.updated_at),
        }

    def _order(
        self, peer: Peer, method: str, params: Mapping[str, Any], req_id: Mapping[str, Any]
    ) -> Iterator[Payload]:
        if peer.route in ("public", "l3"):
            yield _refusal(method, _WRONG_ROUTE["public"], {}, req_id)
            return
        account = self._log_in(peer, params)
        if account is None:
            yield _refusal(method, _NO_SESSION, {}, req_id)
            return
        yield from self.executed(peer, self._answers(account, method, params, req_id))

    def _answers(
        self,
        account: Account,
        method: str,
        params: Mapping[str, Any],
        req_id: Mapping[str, Any],
    ) -> Iterator[Payload]:
        each = _items(params, "order_id") + _items(params, "cl_ord_id")
        for which in each if method == "cancel_order" and each else [""]:
            try:
                result = self._execute(account, method, params, which)
                answer = {"method": method, **req_id, "result": result, "success": True}
                yield encode({**answer, **_times()})
            except OrderRefusal as error:
                yield _refusal(method, _text_of(error), {}, req_id)

    def _execute(
        self, account: Account, method: str, params: Mapping[str, Any], which: str
    ) -> dict[str, Any]:
        now = milliseconds()
        match method:
            case "add_order":
                return self._add(account, params)
            case "batch_add":
                return {"orders": self._add_all(account, params)}
            case "amend_order":
                order = _found(account, params.get("order_id") or params.get("cl_ord_id"))
                size, price = params.get("order_qty"), params.get("limit_price")
                order = self.amend(account, order.id, size, price)
                return {"amend_id": f"A{order.id}", **_ids(order)}
            case "edit_order":
                old = _found(account, params.get("order_id"))
                account.cancel(old, now=now)
                kept: dict[str, Any] = {
                    "symbol": old.symbol,
                    "side": old.side,
                    "order_type": "limit",
                }
                kept |= {"order_qty": old.size, "limit_price": old.price}
                new = self._add(account, {**kept, **params, "cl_ord_id": None})
                return {**new, "original_order_id": old.id}
            case "cancel_order":
                return _ids(account.cancel(_found(account, which), now=now))
            case "batch_cancel":
                orders = _items(params, "orders") + _items(params, "cl_ord_id")
                found = [_known(account, each) for each in orders]
                live = [order for order in found if order is not None and order.is_open]
                return {"count": len([account.cancel(order, now=now) for order in live])}
            case "cancel_all":
                return {"count": len(account.cancel_all(now=now))}
            case _:
                raise OrderRefusal("invalid", f"{method} is not served")

    def _add(self, account: Account, params: Mapping[str, Any]) -> dict[str, Any]:
        is_market = params.get("order_type") == "market"
        price = None if is_market else params.get("limit_price", "")
        symbol, client_id = text_of(params.get("symbol")), params.get("cl_ord_id")
        side, size, pair = params.get("side"), params.get("order_qty"), self.pair(symbol)
        return _ids(self.place(account, symbol, side, size, price, client_id, pair))

    def _add_all(self, account: Account, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        rows = params.get("orders")
        done = []
        for row in rows if isinstance(rows, list) else ():
            order = row if isinstance(row, dict) else {}
            try:
                done.append(self._add(account, {"symbol": params.get("symbol"), **order}))
            except OrderRefusal as error:
                done.append({"error": _text_of(error)})
        return done

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


def _known(account: Account, which: Any) -> VenueOrder | None:
    return account.find(text_of(which)) if which else None


def _found(account: Account, which: Any) -> VenueOrder:
    order = _known(account, which)
    if order is None:
        raise OrderRefusal("unknown", "there is no such order")
    return order


def _items(params: Mapping[str, Any], name: str) -> list[str]:
    value = params.get(name)
    return texts(value) if isinstance(value, list) else [] if value is None else [str(value)]


def _ids(order: VenueOrder) -> dict[str, Any]:
    return {"order_id": order.id} | ({"cl_ord_id": order.client_id} if order.client_id else {})


def _text_of(error: OrderRefusal) -> str:
    text = _ERRORS[error.kind]
    return f"{text}:{error}" if error.kind == "invalid" else text


def _text(time: int) -> str:
    """Return a time (ms since the epoch) as an ISO 8601 text."""
    at = datetime.fromtimestamp(time / 1000, timezone.utc)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
