"""The protocol of KuCoin spot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from wsclient.dialect import sign_in_base64
from wsclient.dialects.kucoin import Kucoin
from wsclient.testing.accounts import Account, OrderChange
from wsclient.testing.delivery import Update
from wsclient.testing.frames import as_bytes
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

if TYPE_CHECKING:
    from wsclient.testing.peer import Peer
    from wsclient.testing.rest import RestCall

__all__ = ["KucoinProtocol"]

_BOOK = "/market/level2:"
_BOOK_PATH = "/api/v3/market/orderbook/level2"
_PRIVATE = ("/spotMarket/tradeOrders", "/account/", "/margin/", "/spotMarket/advancedOrders")
#: The code and the text of a refused channel, by the reason.
_REFUSALS: Mapping[str, tuple[int, str]] = {
    "limit": (509, "exceed max subscription count limitation per session"),
    "rate": (509, "exceed max request count limitation per time"),
    "login": (403, "permission denied"),
}


class KucoinProtocol(PrivateProtocol):
    """KuCoin spot: the address and a token come by REST, of the path of the venue.

    A connection gets its welcome by the token, which may be a public one; one with a wrong token is
    closed, and one without a token is public. Snapshots of books are the answers to a GET. A
    private token belongs to an account: `/spotMarket/tradeOrders`, its `V2` and `/account/balance`
    report changes. Orders are not placed on this connection. Our assumptions: what a wrong token
    and a private channel without a login are answered, and the words of refusals.
    """

    dialect = Kucoin()
    kinds: ClassVar = {
        "/market/match:{}": MarketTrade,
        "/market/ticker:{}": MarketQuote,
        "/market/level2:{}": Depth,
    }
    patterns = tuple(kinds)
    symbols = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
    credential_fields = {
        "api_key": "api_key",
        "secret": "secret",
        "passphrase": "passphrase",
    }
    rest_path = ""
    has_rest = True
    #: As documented ("Signing a Message").
    WINDOW = 5.0

    def __init__(self) -> None:
        super().__init__()
        #: The account of each token, None for a public one.
        self._tokens: dict[str, Account | None] = {}

    def rest(self, call: RestCall, accounts: Sequence[Account]) -> bytes | None:
        path = call.path.partition("?")[0]
        if call.method != "POST" or path not in ("/api/v1/bullet-public", "/api/v1/bullet-private"):
            return None
        account = None
        if path.endswith("private"):
            account = account_of(accounts, call.headers.get("kc-api-key"))
            refused = self._refusal(account, call)
            if refused is not None:
                return encode({"code": refused[0], "msg": refused[1]}).encode()
        token = f"token-{len(self._tokens) + 1}"
        self._tokens[token] = account
        scheme = "wss" if call.is_secure else "ws"
        server = {
            "endpoint": f"{scheme}://{call.headers.get('host', '')}/",
            "encrypt": call.is_secure,
            "protocol": "websocket",
            "pingInterval": 18000,
            "pingTimeout": 10000,
        }
        data = {"token": token, "instanceServers": [server]}
        return encode({"code": "200000", "data": data}).encode()

    def _refusal(self, account: Account | None, call: RestCall) -> tuple[str, str] | None:
        """Return code and text for a wrong request for a private token ("Request Errors")."""
        given = call.headers
        timestamp = given.get("kc-api-timestamp", "")
        if account is None:
            return "400003", "KC-API-KEY not exists"
        if not self.is_timely(whole_of(timestamp), 1000):
            return "400002", "Invalid KC-API-TIMESTAMP"
        passphrase = sign_in_base64(account.secret, account.passphrase)
        if not same(given.get("kc-api-passphrase"), passphrase):
            return "400004", "Invalid KC-API-PASSPHRASE"
        text = f"{timestamp}{call.method}{call.path}{call.body.decode('latin-1')}"
        if not same(given.get("kc-api-sign"), sign_in_base64(account.secret, text)):
            return "400005", "Invalid KC-API-SIGN"
        return None

    def greeting(self, peer: Peer) -> Iterator[Payload]:
        query = parse_qs(urlsplit(peer.request.path).query) if peer.request is not None else {}
        token, number = (next(iter(query.get(n, ())), None) for n in ("token", "connectId"))
        if token is not None and token not in self._tokens:
            yield encode({"id": number, "type": "error", "code": 401, "data": "token is invalid"})
            peer.close(1000)
            return
        account = self._tokens.get(token or "")
        if account is not None:
            peer.login(account)
        yield encode({"id": number or str(peer.id), "type": "welcome"})

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        kind, answer = request.get("type"), {"id": text_of(request.get("id"))}
        if kind == "ping":
            yield encode({**answer, "type": "pong"})
        if kind not in ("subscribe", "unsubscribe"):
            return
        name, colon, symbols = text_of(request.get("topic")).partition(":")
        channels = [name + colon + symbol for symbol in symbols.split(",")]
        error: str | None = None
        if kind == "subscribe":
            error = subscribe_all(peer, channels)
        else:
            unsubscribe_all(peer, channels)
        if is_muted(peer, channels):
            return
        if error is not None:
            reason = error.kind if isinstance(error, ChannelRefusal) else "channel"
            missing = (404, f"topic {request.get('topic')} is not found: {error}")
            code, text = _REFUSALS.get(reason, missing)
            yield encode({**answer, "type": "error", "code": code, "data": text})
        elif request.get("response") is True:
            yield encode({**answer, "type": "ack"})

    def is_private(self, channel: str) -> bool:
        return channel.startswith(_PRIVATE)

    def pair(self, symbol: str) -> tuple[str, str] | None:
        base, dash, quote = symbol.partition("-")
        return (base, quote) if dash else None

    def news(self, account: Account, change: OrderChange) -> Iterator[tuple[str, Payload]]:
        order = change.order
        data = {
            "symbol": order.symbol,
            "orderType": "market" if order.price is None else "limit",
            "side": order.side,
            "orderId": order.id,
            "type": {"placed": "open", "filled": "match", "amended": "update"}.get(
                change.kind, change.kind
            ),
            "orderTime": order.created_at * 10**6,
            "size": str(order.size),
            "filledSize": str(order.filled),
            "price": text_of(order.price),
            "clientOid": order.client_id,
            "remainSize": str(order.remaining if order.is_open else 0),
            "status": "match" if change.kind == "filled" else "open" if order.is_open else "done",
            "ts": order.updated_at * 10**6,
        }
        if change.kind == "filled":
            match = {"matchPrice": str(change.price), "matchSize": str(change.size)}
            data |= {**match, "tradeId": str(change.number), "liquidity": "maker"}
        rows = [data]
        if order.state == "filled":
            rows.append({**data, "type": "filled", "status": "done"})
        for topic in ("/spotMarket/tradeOrders", "/spotMarket/tradeOrdersV2"):
            for row in rows:
                yield topic, _push(topic, "orderChange", row)
        if change.kind != "filled" or order.pair is None:
            return
        for currency in order.pair:
            total, hold = account.balance(currency), account.held(currency)
            balance = {
                "currency": currency,
                "total": str(total),
                "available": str(total - hold),
                "hold": str(hold),
                "relationEvent": "trade.setted",
                "relationEventId": str(change.number),
                "time": str(order.updated_at),
            }
            yield "/account/balance", _push("/account/balance", "account.balance", balance)

    def http(self, path: str) -> bytes | None:
        parts = urlsplit(path)
        symbols = parse_qs(parts.query).get("symbol", ())
        for symbol in symbols if parts.path.startswith(_BOOK_PATH) else ():
            for snapshot in self.snapshot(_BOOK + symbol):
                return as_bytes(snapshot)
        return None

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        now = milliseconds()
        match event:
            case MarketTrade(number, price, size, side):
                deal = {"side": side, "size": str(size), "price": str(price), "type": "match"}
                orders = {"takerOrderId": f"t{number}", "makerOrderId": f"m{number}"}
                return {**deal, **orders, "tradeId": str(number), "time": str(now * 10**6)}
            case MarketQuote(bid, bid_size, ask, ask_size, last):
                best = {"bestBid": str(bid), "bestBidSize": str(bid_size)}
                best |= {"bestAsk": str(ask), "bestAskSize": str(ask_size)}
                return {"price": str(last), "size": "1", **best, "time": now}
            case Depth(bids, asks) if is_snapshot:
                return {"time": now, "bids": level_texts(bids), "asks": level_texts(asks)}
            case Depth(bids, asks):
                return {"changes": {"asks": level_texts(asks), "bids": level_texts(bids)}}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        if "bids" in fields:
            return encode({"code": "200000", "data": {"sequence": str(sequence), **fields}})
        if channel.startswith(_BOOK):
            rows = _numbered(fields["changes"], sequence)
            return self._update(channel, sequence, sequence, {**fields, "changes": rows})
        symbol = channel.partition(":")[2]
        is_trade = channel.startswith("/market/match:")
        head = {"symbol": symbol} if is_trade else {}
        subject = "trade.l3match" if is_trade else "trade.ticker"
        return _push(channel, subject, {**head, "sequence": str(sequence), **fields})

    def join(self, channel: str, updates: Sequence[Update]) -> Payload | None:
        if not all("changes" in update.fields for update in updates):
            return None
        numbered = [_numbered(update.fields["changes"], update.sequence) for update in updates]
        sides = {side: newest(*(each[side] for each in numbered)) for side in ("asks", "bids")}
        fields = {**updates[-1].fields, "changes": sides}
        return self._update(channel, updates[0].sequence, updates[-1].sequence, fields)

    def _update(self, channel: str, first: int, last: int, fields: Mapping[str, Any]) -> Payload:
        numbers = {"sequenceStart": first, "sequenceEnd": last}
        data = {"symbol": channel.removeprefix(_BOOK), **numbers, **fields}
        return _push(channel, "trade.l2update", {**data, "time": milliseconds()})


def _push(topic: str, subject: str, data: Mapping[str, Any]) -> Payload:
    own = {"channelType": "private"} if topic.startswith(_PRIVATE) else {}
    head = {"type": "message", "topic": topic, "subject": subject, **own}
    return encode({**head, "data": data})


def _numbered(changes: Mapping[str, Any], sequence: int) -> dict[str, list[list[str]]]:
    """Return rows with the number of their update."""
    return {side: [[*row[:2], str(sequence)] for row in changes[side]] for side in ("asks", "bids")}
