"""The protocol of Bybit v5."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from wsclient.dialect import sign
from wsclient.dialects.bybit import Bybit
from wsclient.testing.accounts import Account, OrderChange, OrderRefusal
from wsclient.testing.limits import ChannelRefusal
from wsclient.testing.market import Depth, MarketEvent, MarketQuote, MarketTrade
from wsclient.testing.private import PrivateProtocol, account_of, same, text_of, whole_of
from wsclient.testing.protocols import (
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
_CATEGORIES = ("spot", "linear", "inverse", "option")
_TRADE = "trade"
#: Refused orders on `spot`, and elsewhere (page `error`).
_SPOT_CODES = {"duplicate": 170141, "unknown": 170213, "funds": 170131, "invalid": 170130}
_CODES = {"duplicate": 110072, "unknown": 110001, "funds": 110007, "invalid": 10001}
#: Of the answers at `trade` (page `websocket/trade/guideline`).
_INVALID, _WRONG_SIGN, _REPEATED_LOGIN, _REUSED_ID, _UNKNOWN_OP = 10001, 10004, 20001, 20006, 10404
_QUOTES = ("USDT", "USDC", "USD", "BTC")


class BybitProtocol(PrivateProtocol):
    """Bybit v5, spot or linear: one answer per request, which is refused as a whole.

    The same channel exists on several routes: publish `linear:publicTrade.BTCUSDT`.

    A login at `trade` is answered with `retCode`, elsewhere with `success`. A request about orders
    must have the header `X-BAPI-TIMESTAMP`, and a `reqId` is refused when it comes again on the
    connection. `order`, `execution` and `wallet` report changes, the last only the balances of spot
    orders. Our assumptions: the texts of refused logins but that for a login that has expired,
    which was seen on the wire; that of a private channel without a login is of an older wire; and
    the code of a request about orders without a login.
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
    takes_orders = True
    credential_fields = {"api_key": "api_key", "secret": "secret"}
    routes = {
        **{
            name: Route(f"/v5/public/{name}", without=_PRIVATE)
            for name in ("spot", "linear", "inverse", "option", "spread")
        },
        "private": Route("/v5/private", _PRIVATE),
        _TRADE: Route("/v5/trade", ()),
    }
    gateway_time = re.compile(r'("ts":)(\d+)')

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        op = request.get("op")
        channels = texts(request.get("args"))
        answer = {"conn_id": str(peer.id), "req_id": request.get("req_id", ""), "op": op}
        if op == "ping":
            yield encode({"success": True, "ret_msg": "pong", **answer})
        elif op == "auth" and peer.venue.accounts:
            yield self._login(peer, request)
        elif isinstance(op, str) and op.startswith("order.") and peer.venue.accounts:
            yield from self._request(peer, request)
        if op not in ("subscribe", "unsubscribe"):
            return
        error: str | None
        error = (subscribe_all if op == "subscribe" else unsubscribe_all)(peer, channels)
        if isinstance(error, ChannelRefusal) and error.kind == "route":
            wrong = next(c for c in channels if not peer.venue.routes.carries(peer.route, c))
            error = f"error:handler not found,topic:{wrong}"
        if isinstance(error, ChannelRefusal) and error.kind == "login":
            private = next(channel for channel in channels if self.is_private(channel))
            error = f"error:topic:{private} needs auth first"
        if not is_muted(peer, channels):
            yield encode({"success": error is None, "ret_msg": error or op, **answer})
        if op == "subscribe" and error is None:
            for channel in channels:
                yield from self.snapshot(channel, peer)

    # The account

    def __init__(self) -> None:
        super().__init__()
        self._ids: WeakKeyDictionary[Peer, set[str]] = WeakKeyDictionary()

    def _login(self, peer: Peer, request: Mapping[str, Any]) -> Payload:
        args = request.get("args")
        key, expires, signature = args if isinstance(args, list) and len(args) == 3 else [None] * 3
        account = account_of(peer.venue.accounts, key)
        code, text = 0, ""
        if peer.account is not None:
            code, text = _REPEATED_LOGIN, "Repeat auth"
        elif account is None:
            code, text = _WRONG_SIGN, "Invalid api key"
        elif (whole_of(expires) or 0) <= self.clock() * 1000:
            code, text = _INVALID, "Params Error"
        elif not same(signature, sign(account.secret, f"GET/realtime{expires}").hex()):
            code, text = _WRONG_SIGN, "Invalid sign"
        else:
            peer.login(account)
        if peer.route == _TRADE:
            answer = {"retCode": code, "retMsg": text or "OK", "op": "auth"}
            return encode({**_named(request), **answer, "connId": str(peer.id)})
        answer = {"success": not code, "ret_msg": text, "op": "auth"}
        return encode({**answer, "conn_id": str(peer.id)})

    def is_private(self, channel: str) -> bool:
        return self.routes["private"].carries(channel)

    def pair(self, symbol: str) -> tuple[str, str] | None:
        found = next((quote for quote in _QUOTES if symbol.endswith(quote)), None)
        return (symbol.removesuffix(found), found) if found else None

    def _request(self, peer: Peer, request: Mapping[str, Any]) -> Iterator[Payload]:
        number = text_of(request.get("reqId"))
        known = self._ids.setdefault(peer, set())
        _, _, op = str(request["op"]).partition(".")
        header = request.get("header")
        sent_at = header.get("X-BAPI-TIMESTAMP") if isinstance(header, dict) else None
        code = 0
        if peer.account is None or whole_of(sent_at) is None:
            code, text = _INVALID, "Params Error"
        elif number and number in known:
            code, text = _REUSED_ID, "reqId is repeated"
        elif op.removesuffix("-batch") not in ("create", "amend", "cancel"):
            code, text = _UNKNOWN_OP, "op type is not found"
        if number:
            known.add(number)
        if code or peer.account is None:
            yield self._answer(peer, request, code, text, {}, {})
        else:
            yield from self.executed(peer, self._answers(peer, peer.account, request, op))

    def _answers(
        self, peer: Peer, account: Account, request: Mapping[str, Any], op: str
    ) -> Iterator[Payload]:
        args = request.get("args")
        arg = args[0] if isinstance(args, list) and args and isinstance(args[0], dict) else {}
        if op.endswith("-batch"):
            category, rows = arg.get("category"), arg.get("request")
            rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            done = [self._execute(account, op, {"category": category, **row}) for row in rows]
            outcomes = [{"code": code, "msg": text} for code, text, _ in done]
            data: dict[str, Any] = {"list": [order for _, _, order in done]}
            yield self._answer(peer, request, 0, "OK", data, {"list": outcomes})
            return
        code, text, data = self._execute(account, op, arg)
        yield self._answer(peer, request, code, text, {} if code else data, {})

    def _answer(
        self,
        peer: Peer,
        request: Mapping[str, Any],
        code: int,
        text: str,
        data: Mapping[str, Any],
        more: Mapping[str, Any],
    ) -> Payload:
        head = {**_named(request), "retCode": code, "retMsg": text, "op": request["op"]}
        header = {"Traceid": f"{peer.id}", "Timenow": str(milliseconds())}
        rest = {"data": data, "retExtInfo": more, "header": header, "connId": str(peer.id)}
        return encode({**head, **rest})

    def _execute(
        self, account: Account, op: str, arg: Mapping[str, Any]
    ) -> tuple[int, str, dict[str, Any]]:
        """Return code, text and row of the answer for one order."""
        category = arg.get("category")
        client_id = text_of(arg.get("orderLinkId"))
        which = text_of(arg.get("orderId")) or client_id
        row = {"orderId": text_of(arg.get("orderId")), "orderLinkId": client_id}
        try:
            if category not in _CATEGORIES:
                raise OrderRefusal("invalid", "Illegal category")
            if op.startswith("cancel"):
                order = account.cancel(which, now=milliseconds())
            elif op.startswith("amend"):
                order = self.amend(account, which, arg.get("qty"), arg.get("price"))
            else:
                more = {"category": category, "orderType": text_of(arg.get("orderType"))}
                more["timeInForce"] = text_of(arg.get("timeInForce", "GTC"))
                price = None if more["orderType"] == "Market" else arg.get("price", "")
                side = text_of(arg.get("side")).lower()
                symbol = arg.get("symbol")
                pair = self.pair(text_of(symbol)) if category == "spot" else None
                size = arg.get("qty")
                order = self.place(account, symbol, side, size, price, client_id, pair, more)
        except OrderRefusal as error:
            return (_SPOT_CODES if category == "spot" else _CODES)[error.kind], str(error), row
        return 0, "OK", {"orderId": order.id, "orderLinkId": order.client_id}

    def news(self, account: Account, change: OrderChange) -> Iterator[tuple[str, Payload]]:
        category = change.order.more.get("category", "spot")
        rows = {"order": _order(change)}
        if change.kind == "filled":
            rows["execution"] = _execution(change)
            coins = [_coin(account, currency) for currency in change.order.pair or ()]
            if coins and category == "spot":
                rows["wallet"] = {"accountType": "UNIFIED", "coin": coins}
        for topic, row in rows.items():
            for channel in (topic, f"{topic}.{category}"):
                head = {"id": str(change.number), "topic": channel, "creationTime": milliseconds()}
                yield channel, encode({**head, "data": [row]})

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


def _named(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"reqId": request["reqId"]} if "reqId" in request else {}


def _order(change: OrderChange) -> dict[str, Any]:
    order = change.order
    is_part = order.is_open and order.filled
    state = {"open": "New", "filled": "Filled", "canceled": "Cancelled"}[order.state]
    return {
        "category": "spot",
        "symbol": order.symbol,
        "orderId": order.id,
        "orderLinkId": order.client_id,
        "side": order.side.title(),
        "orderType": "Market" if order.price is None else "Limit",
        **order.more,
        "orderStatus": "PartiallyFilled" if is_part else state,
        "price": text_of(order.price),
        "qty": str(order.size),
        "cumExecQty": str(order.filled),
        "leavesQty": str(order.remaining if order.is_open else 0),
        "avgPrice": str(order.average) if order.filled else "",
        "rejectReason": "EC_NoError",
        "createdTime": str(order.created_at),
        "updatedTime": str(order.updated_at),
    }


def _execution(change: OrderChange) -> dict[str, Any]:
    order = change.order
    return {
        "category": order.more.get("category", "spot"),
        "symbol": order.symbol,
        "orderId": order.id,
        "orderLinkId": order.client_id,
        "side": order.side.title(),
        "execId": str(change.number),
        "execPrice": str(change.price),
        "execQty": str(change.size),
        "execType": "Trade",
        "execTime": str(order.updated_at),
        "leavesQty": str(order.remaining),
        "isMaker": order.price is not None,
    }


def _coin(account: Account, currency: str) -> dict[str, str]:
    amount, locked = account.balance(currency), account.held(currency)
    return {"coin": currency, "walletBalance": str(amount), "locked": str(locked)}
