"""The protocol of OKX v5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from wsclient.dialect import sign_in_base64
from wsclient.dialects.okx import OKX
from wsclient.testing.accounts import Account, OrderChange, OrderRefusal, VenueOrder
from wsclient.testing.delivery import Update
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
#: Channels of `business` that need a login.
_WITH_LOGIN = ("orders-algo", "algo-advance", "grid-", "deposit-info", "withdrawal-info")
#: The codes of refused orders ("Error Code").
_CODES = {"duplicate": "51016", "funds": "51008", "invalid": "51000"}
_REQUESTS = (
    "order",
    "batch-orders",
    "amend-order",
    "batch-amend-orders",
    "cancel-order",
    "batch-cancel-orders",
)
#: The codes and texts of refused channels, by the reason.
_REFUSALS = {"rate": ("60014", "Requests too frequent"), "login": ("60011", "Please log in")}


class OKXProtocol(PrivateProtocol):
    """OKX v5: one answer per arg. Books are numbered; their checksum is 0, as at the venue now.

    A connection with too many channels is closed with 4009, as documented. A path without a route
    carries all channels.

    Orders name their instrument by a number (`instIdCode`): that of `symbols`, from 1. A GET of
    `/api/v5/public/instruments` lists them. `orders` and `account` report changes, the latter also
    when it is subscribed; other private channels are silent. That a request about orders without a
    login is refused as a subscribe is, is our assumption.
    """

    dialect = OKX()
    kinds: ClassVar = {"trades:{}": MarketTrade, "tickers:{}": MarketQuote, "books:{}": Depth}
    patterns = tuple(kinds)
    symbols = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
    takes_orders = True
    credential_fields = {
        "api_key": "api_key",
        "secret": "secret",
        "passphrase": "passphrase",
    }
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
        args = [arg for arg in _list(request.get("args")) if isinstance(arg, dict)]
        if op == "login" and peer.venue.accounts:
            yield self._login(peer, args[0] if args else {})
        elif op in _REQUESTS and peer.venue.accounts:
            yield from self._request(peer, request, args)
        if op not in ("subscribe", "unsubscribe"):
            return
        for arg in args:
            which = {key: str(arg[key]) for key in ("channel", "instType", "instId") if key in arg}
            channel = _name(which)
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
                    yield from self._state(peer, channel)
                continue
            named = ",".join(f"{key}:{value}" for key, value in which.items())
            text = f"{named} doesn't exist: {error}"
            if kind == "route":
                text = f"Wrong URL or {named} doesn't exist. Please use the correct URL."
            code, text = _REFUSALS.get(kind, ("60018", text))
            yield encode({**answer, **_error(peer, code, text)})

    # The account

    def _login(self, peer: Peer, arg: Mapping[str, Any]) -> Payload:
        account = account_of(peer.venue.accounts, arg.get("apiKey"))
        timestamp = text_of(arg.get("timestamp"))
        if peer.account is not None:
            code, text = "60031", "The WebSocket endpoint does not allow repeated logins."
        elif account is None:
            code, text = "60005", "Invalid apiKey"
        elif not self.is_timely(whole_of(timestamp)):
            code, text = "60006", "Timestamp request expired"
        elif not same(arg.get("passphrase"), account.passphrase):
            code, text = "60024", "Wrong passphrase"
        elif not same(
            arg.get("sign"), sign_in_base64(account.secret, f"{timestamp}GET/users/self/verify")
        ):
            code, text = "60007", "Invalid sign"
        else:
            peer.login(account)
            return encode({"event": "login", "code": "0", "msg": "", "connId": str(peer.id)})
        return encode(_error(peer, code, text))

    def is_private(self, channel: str) -> bool:
        return self.routes["private"].carries(channel) or channel.startswith(_WITH_LOGIN)

    def pair(self, symbol: str) -> tuple[str, str] | None:
        base, _, quote = symbol.partition("-")
        return (base, quote) if quote and "-" not in quote else None

    def http(self, path: str) -> bytes | None:
        if not path.startswith("/api/v5/public/instruments"):
            return None
        rows = [
            {"instType": "SPOT", "instId": symbol, "instIdCode": number}
            for number, symbol in enumerate(self.symbols, 1)
        ]
        return encode({"code": "0", "msg": "", "data": rows}).encode()

    def _request(
        self, peer: Peer, request: Mapping[str, Any], args: Sequence[Mapping[str, Any]]
    ) -> Iterator[Payload]:
        if peer.account is None:
            answer = {"id": request["id"]} if "id" in request else {}
            yield encode({**answer, **_error(peer, "60011", "Please log in")})
            return
        yield from self.executed(peer, self._answers(peer.account, request, args))

    def _answers(
        self, account: Account, request: Mapping[str, Any], args: Sequence[Mapping[str, Any]]
    ) -> Iterator[Payload]:
        op = str(request["op"])
        begun = str(milliseconds() * 1000)
        is_valid = text_of(request.get("id")).isalnum()
        rows = [self._execute(account, op, arg) for arg in args if is_valid]
        failed = sum(row["sCode"] != "0" for row in rows)
        code = "0" if not failed else "1" if failed == len(rows) else "2"
        code = code if rows else "60013"
        head = {name: request[name] for name in ("id", "op") if name in request}
        message = {"0": "", "1": "All operations failed", "2": "Bulk operation partially succeeded"}
        times = {"inTime": begun, "outTime": str(milliseconds() * 1000)}
        text = message.get(code, "Invalid args")
        yield encode({**head, "code": code, "msg": text, "data": rows, **times})

    def _execute(self, account: Account, op: str, arg: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row of the answer for one order."""
        client_id = text_of(arg.get("clOrdId"))
        which = text_of(arg.get("ordId")) or client_id
        row = {"ordId": text_of(arg.get("ordId")), "clOrdId": client_id, "tag": ""}
        done = {"sCode": "0", "sMsg": "", "subCode": ""}
        try:
            if "cancel" in op:
                order = account.cancel(which, now=milliseconds())
            elif "amend" in op:
                order = self.amend(account, which, arg.get("newSz"), arg.get("newPx"))
            else:
                order = self._place(account, client_id, arg)
            row |= {"ordId": order.id, "clOrdId": order.client_id}
        except OrderRefusal as error:
            unknown = "51503" if "amend" in op else "51400"
            done |= {"sCode": _CODES.get(error.kind, unknown), "sMsg": str(error)}
        return {**row, "ts": str(milliseconds()), **done}

    def _place(self, account: Account, client_id: str, arg: Mapping[str, Any]) -> VenueOrder:
        code = arg.get("instIdCode")
        if not isinstance(code, int) or not 0 < code <= len(self.symbols):
            raise OrderRefusal("invalid", "Parameter instIdCode error")
        kind = text_of(arg.get("ordType"))
        more = {"tdMode": text_of(arg.get("tdMode")), "ordType": kind}
        price = None if kind == "market" else arg.get("px", "")
        symbol = self.symbols[code - 1]
        side, size, pair = arg.get("side"), arg.get("sz"), self.pair(symbol)
        return self.place(account, symbol, side, size, price, client_id, pair, more)

    def news(self, account: Account, change: OrderChange) -> Iterator[tuple[str, Payload]]:
        order = change.order
        for channel in ("orders", f"orders:{order.symbol}"):
            yield channel, _push(channel, _order(change))
        if change.kind == "filled":
            yield "account", _push("account", _balances(account))

    def _state(self, peer: Peer, channel: str) -> Iterator[Payload]:
        """Yield what a private channel sends at once."""
        if channel == "account" and peer.account is not None:
            yield _push(channel, _balances(peer.account))

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


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _name(arg: Mapping[str, str]) -> str:
    return ":".join(arg[key] for key in ("channel", "instId") if key in arg)


def _error(peer: Peer, code: str, text: str) -> dict[str, str]:
    return {"event": "error", "code": code, "msg": text, "connId": str(peer.id)}


def _push(channel: str, row: Mapping[str, Any]) -> Payload:
    name, _, symbol = channel.partition(":")
    arg = {"channel": name} | ({"instType": "ANY"} if name == "orders" else {})
    arg |= {"instId": symbol} if symbol else {}
    return encode({"arg": {**arg, "uid": "1"}, "data": [row]})


def _order(change: OrderChange) -> dict[str, Any]:
    order = change.order
    is_part = order.is_open and order.filled
    state = "partially_filled" if is_part else "live" if order.is_open else order.state
    is_fill = change.kind == "filled"
    return {
        "instType": "SPOT",
        "instId": order.symbol,
        "ordId": order.id,
        "clOrdId": order.client_id,
        "px": text_of(order.price),
        "sz": str(order.size),
        "side": order.side,
        **order.more,
        "state": state,
        "accFillSz": str(order.filled),
        "avgPx": str(order.average) if order.filled else "",
        "fillPx": str(change.price) if is_fill else "",
        "fillSz": str(change.size) if is_fill else "",
        "tradeId": str(change.number) if is_fill else "",
        "cTime": str(order.created_at),
        "uTime": str(order.updated_at),
        "amendResult": "0" if change.kind == "amended" else "",
        "code": "0",
        "msg": "",
    }


def _balances(account: Account) -> dict[str, Any]:
    details = [
        {
            "ccy": currency,
            "cashBal": str(amount),
            "availBal": str(amount - account.held(currency)),
            "frozenBal": str(account.held(currency)),
        }
        for currency, amount in account.balances.items()
    ]
    return {"uTime": str(milliseconds()), "details": details}
