"""The protocol of Binance's WebSocket API of spot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from wsclient.dialect import sign
from wsclient.dialects.binance_ws_api import USER_DATA, BinanceWsApi
from wsclient.testing.accounts import Account, OrderChange, OrderRefusal, VenueOrder
from wsclient.testing.market import MarketEvent, MarketTrade
from wsclient.testing.peer import Peer
from wsclient.testing.private import PrivateProtocol, account_of, same, text_of
from wsclient.testing.protocols import Payload, as_object, encode, is_muted, milliseconds

__all__ = ["BinanceWsApiProtocol", "report_of"]

#: The codes and texts of refused orders ("Error codes").
_REFUSALS = {
    "duplicate": (-2010, "Duplicate order sent."),
    "unknown": (-2011, "Unknown order sent."),
    "funds": (-2010, "Account has insufficient balance for requested action."),
    "invalid": (-1102, "A mandatory parameter was not sent, was empty/null, or malformed."),
}
_REVOKED = (401, -2015, "Invalid API-key, IP, or permissions for action.")
_STATES = {"filled": "FILLED", "canceled": "CANCELED", "open": "NEW"}
_CHANGES = {"placed": "NEW", "amended": "REPLACED", "filled": "TRADE", "canceled": "CANCELED"}
_QUOTES = ("USDT", "USDC", "BTC", "USD")


class _Refused(Exception):
    """A refused request: status, code and text."""


@dataclass
class _Logon:
    """What one connection has: the account of its logon, and its subscription."""

    logged_on: Account | None = None
    subscription: int | None = None
    is_by_logon: bool = False
    numbers: Iterator[int] = field(default_factory=count)


class BinanceWsApiProtocol(PrivateProtocol):
    """Binance's WebSocket API of spot: the events of an account, and requests about orders.

    It has `ping`, `time`, `session.logon`, `.status`, `.logout` and `.subscriptions`,
    `userDataStream.subscribe`, `.subscribe.signature` and `.unsubscribe`, `order.place`, `.test`,
    `.cancel` and `.status`, `openOrders.status` and `.cancelAll`, and `account.status`. Signatures
    are verified, as those of HMAC keys. Differences from the venue: `session.logon` takes such a
    signature too, and a connection has one subscription. Our assumption is how a second one is
    refused. A key in `revoked` is refused with the id null.
    """

    dialect = BinanceWsApi()
    kinds: ClassVar[Mapping[str, type[MarketEvent]]] = {}
    patterns = ()
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    credential_fields = {"api_key": "api_key", "secret": "secret"}
    client_ids = "closed"
    takes_orders = True
    WINDOW = 5.0

    def __init__(self) -> None:
        super().__init__()
        self.revoked: set[str] = set()
        self._sessions: WeakKeyDictionary[Peer, _Logon] = WeakKeyDictionary()

    @classmethod
    def channels(cls) -> list[str]:
        return [USER_DATA]

    def listing(self, channel: str) -> tuple[str, type[MarketEvent]] | None:
        """The made-up market is a stream of fills here."""
        return (self.symbols[0], MarketTrade) if channel == USER_DATA else None

    def is_private(self, channel: str) -> bool:
        return channel == USER_DATA

    def pair(self, symbol: str) -> tuple[str, str] | None:
        quotes = (quote for quote in _QUOTES if symbol.endswith(quote) and symbol != quote)
        quote = next(quotes, None)
        return None if quote is None else (symbol.removesuffix(quote), quote)

    def greeting(self, peer: Peer) -> Iterator[Payload]:
        self._sessions[peer] = _Logon()
        yield from ()

    def shutdown_notice(self, peer: Peer) -> Payload:
        return encode({"event": {"e": "serverShutdown", "E": milliseconds()}})

    def terminate(self, peer: Peer) -> None:
        """End the subscription of a connection, as the venue does by itself."""
        with peer.venue.lock:
            for event in self._ended(peer):
                peer.send(event)

    # Requests

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        request_id, method = request.get("id"), text_of(request.get("method"))
        params = request.get("params")
        params = params if isinstance(params, dict) else {}
        answers = self._answers(peer, request_id, method, params)
        if method.startswith(("order.", "openOrders.cancelAll")):
            yield from self.executed(peer, answers)
        elif not (method.startswith("userDataStream.") and is_muted(peer, [USER_DATA])):
            yield from answers
        else:
            list(answers)  # it takes effect all the same

    def _answers(
        self, peer: Peer, request_id: Any, method: str, params: Mapping[str, Any]
    ) -> Iterator[Payload]:
        try:
            if peer.refusal() is not None:
                raise _Refused(429, -1003, "Too much request weight used.")
            result = self._result(peer, method, params)
        except _Refused as refused:
            status, code, text = refused.args
            error: dict[str, Any] = {"code": code, "msg": text}
            if status == 429:
                now = milliseconds()
                error["data"] = {"serverTime": now, "retryAfter": now + 1000}
            is_revoked = code == _REVOKED[1] and text_of(params.get("apiKey")) in self.revoked
            request_id = None if is_revoked else request_id
            yield encode({"id": request_id, "status": status, "error": error, **_limits()})
            return
        except OrderRefusal as refusal:
            code, text = _REFUSALS[refusal.kind]
            error = {"code": code, "msg": text}
            yield encode({"id": request_id, "status": 400, "error": error, **_limits()})
            return
        yield encode({"id": request_id, "status": 200, "result": result, **_limits()})
        if method == "userDataStream.unsubscribe" or (
            method == "session.logout" and self._sessions[peer].is_by_logon
        ):
            yield from self._ended(peer)

    def _result(self, peer: Peer, method: str, params: Mapping[str, Any]) -> Any:
        session = self._sessions[peer]
        match method:
            case "ping" | "userDataStream.unsubscribe":
                return {}
            case "time":
                return {"serverTime": milliseconds()}
            case "session.logon":
                session.logged_on = self._signer(peer, params)
                return self._status(session)
            case "session.logout":
                session.logged_on = None
                return self._status(session)
            case "session.status":
                return self._status(session)
            case "session.subscriptions":
                number = session.subscription
                return [] if number is None else [{"subscriptionId": number}]
            case "userDataStream.subscribe" if session.logged_on is None:
                raise _Refused(401, -1002, "You are not authorized to execute this request.")
            case "userDataStream.subscribe" | "userDataStream.subscribe.signature":
                return self._subscribe(peer, params, is_by_logon=not method.endswith("signature"))
        account = self._signer(peer, params)
        match method:
            case "order.place" | "order.test":
                return self._place(account, params, is_test=method.endswith("test"))
            case "order.cancel":
                which = params.get("orderId") or params.get("origClientOrderId")
                return _order(account.cancel(text_of(which), now=milliseconds()))
            case "order.status":
                which = params.get("orderId") or params.get("origClientOrderId")
                order = account.find(text_of(which))
                if order is None:
                    raise _Refused(400, -2013, "Order does not exist.")
                return _order(order)
            case "openOrders.cancelAll":
                orders = account.cancel_all(params.get("symbol"), now=milliseconds())
                if not orders:
                    raise OrderRefusal("unknown", "no order is open")
                return [_order(order) for order in orders]
            case "openOrders.status":
                return [_order(order) for order in account.open_orders(params.get("symbol"))]
            case "account.status":
                return {"accountType": "SPOT", "balances": _balances(account)}
        raise _Refused(400, -1020, "This operation is not supported.")

    def _signer(self, peer: Peer, params: Mapping[str, Any]) -> Account:
        """Return the account of a request: that of its signature, or of the session."""
        session = self._sessions[peer]
        if "signature" not in params and session.logged_on is not None:
            return session.logged_on
        key = params.get("apiKey")
        account = account_of(peer.venue.accounts, key)
        if account is None or key in self.revoked:
            raise _Refused(*_REVOKED)
        time = params.get("timestamp")
        if not self.is_timely(time / 1000 if isinstance(time, int) else None):
            text = "Timestamp for this request is outside of the recvWindow."
            raise _Refused(400, -1021, text)
        given = {name: value for name, value in params.items() if name != "signature"}
        text = "&".join(f"{name}={_text(given[name])}" for name in sorted(given))
        if not same(params.get("signature"), sign(account.secret, text).hex()):
            raise _Refused(400, -1022, "Signature for this request is not valid.")
        return account

    def _status(self, session: _Logon) -> dict[str, Any]:
        account = session.logged_on
        has_stream = session.subscription is not None
        return {"apiKey": account and account.api_key, "userDataStream": has_stream}

    def _subscribe(
        self, peer: Peer, params: Mapping[str, Any], *, is_by_logon: bool
    ) -> dict[str, Any]:
        session = self._sessions[peer]
        account = session.logged_on if is_by_logon else self._signer(peer, params)
        if session.subscription is not None:
            raise _Refused(400, -2035, "User Data Stream subscription already active.")
        if account is not None:
            peer.login(account)
        refusal = peer.subscribe(USER_DATA)
        if refusal is not None:
            raise _Refused(400, -1000, str(refusal))
        session.is_by_logon = is_by_logon
        session.subscription = next(session.numbers)
        return {"subscriptionId": session.subscription}

    def _ended(self, peer: Peer) -> Iterator[Payload]:
        """End the subscription of a connection, and yield the event that says so."""
        session = self._sessions[peer]
        number, session.subscription = session.subscription, None
        peer.unsubscribe(USER_DATA)
        if number is not None:
            event = {"e": "eventStreamTerminated", "E": milliseconds()}
            yield encode({"subscriptionId": number, "event": event})

    def _place(self, account: Account, params: Mapping[str, Any], *, is_test: bool) -> Any:
        symbol, side = text_of(params.get("symbol")), text_of(params.get("side")).lower()
        price = None if params.get("type") == "MARKET" else params.get("price", "")
        if is_test:
            return {}
        name = params.get("newClientOrderId")
        size, pair = params.get("quantity"), self.pair(symbol)
        return _order(self.place(account, symbol, side, size, price, name, pair))

    # Events

    def news(self, account: Account, change: OrderChange) -> Iterator[tuple[str, Payload]]:
        now = milliseconds()
        report = report_of(change, _CHANGES[change.kind], no_trade=-1)
        yield USER_DATA, encode({"event": {"e": "executionReport", "E": now, **report}})
        if change.kind == "filled":
            rows = [{"a": b["asset"], "f": b["free"], "l": b["locked"]} for b in _balances(account)]
            event = {"e": "outboundAccountPosition", "E": now, "u": now, "B": rows}
            yield USER_DATA, encode({"event": event})

    def personal(self, peer: Peer, channel: str, payload: Payload) -> Payload | None:
        text = payload.decode() if isinstance(payload, bytes) else payload
        number = self._sessions[peer].subscription
        return f'{{"subscriptionId":{number},{text[1:]}'

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        if not isinstance(event, MarketTrade):
            raise TypeError("there is no market data here")
        price, size = str(event.price), str(event.size)
        return {
            "e": "executionReport",
            "s": self.symbols[0],
            "c": f"made-up-{event.number}",
            "S": event.side.upper(),
            "o": "LIMIT",
            "f": "GTC",
            "q": size,
            "p": price,
            "x": "TRADE",
            "X": "FILLED",
            "i": event.number,
            "l": size,
            "z": size,
            "L": price,
            "T": milliseconds(),
            "t": event.number,
        }

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        return encode({"event": {"E": milliseconds(), **fields}})


def _limits() -> dict[str, Any]:
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
    return {"rateLimits": [{**weight, "limit": 6000, "count": 1}]}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _state(order: VenueOrder) -> str:
    return "PARTIALLY_FILLED" if order.is_open and order.filled else _STATES[order.state]


def _order(order: VenueOrder) -> dict[str, Any]:
    return {
        "symbol": order.symbol,
        "orderId": int(order.id),
        "clientOrderId": order.client_id,
        "transactTime": order.updated_at,
        "price": text_of(order.price) or "0",
        "origQty": str(order.size),
        "executedQty": str(order.filled),
        "status": _state(order),
        "timeInForce": "GTC",
        "type": "MARKET" if order.price is None else "LIMIT",
        "side": order.side.upper(),
    }


def report_of(change: OrderChange, word: str, no_trade: int) -> dict[str, Any]:
    """Return what spot and futures report of an order in the same fields.

    `word` is the venue's for the change, and `no_trade` its number of a trade that is none.
    """
    order, is_fill = change.order, change.kind == "filled"
    return {
        "s": order.symbol,
        "c": order.client_id,
        "S": order.side.upper(),
        "o": "MARKET" if order.price is None else "LIMIT",
        "f": "GTC",
        "q": str(order.size),
        "p": text_of(order.price) or "0",
        "x": word,
        "X": _state(order),
        "i": int(order.id),
        "l": str(change.size) if is_fill else "0",
        "z": str(order.filled),
        "L": str(change.price) if is_fill else "0",
        "T": order.updated_at,
        "t": change.number if is_fill else no_trade,
    }


def _balances(account: Account) -> list[dict[str, str]]:
    return [
        {
            "asset": currency,
            "free": str(amount - account.held(currency)),
            "locked": str(account.held(currency)),
        }
        for currency, amount in account.balances.items()
    ]
