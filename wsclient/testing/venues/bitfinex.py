"""The protocol of Bitfinex v2."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from wsclient.dialect import sign
from wsclient.dialects.bitfinex import Bitfinex
from wsclient.testing.accounts import Account, OrderChange, OrderRefusal, VenueOrder
from wsclient.testing.limits import ChannelRefusal
from wsclient.testing.market import Depth, MarketEvent, MarketLevels, MarketQuote, MarketTrade
from wsclient.testing.peer import Peer
from wsclient.testing.private import (
    PrivateProtocol,
    account_of,
    decimal_of,
    same,
    text_of,
    whole_of,
)
from wsclient.testing.protocols import (
    Payload,
    as_json,
    as_object,
    encode,
    is_muted,
    milliseconds,
    repeat,
)

__all__ = ["BitfinexProtocol"]

_SEQ_ALL, _OB_CHECKSUM = 65536, 131072
#: The channel of number 0, which a login gives.
_ACCOUNT = "account"
#: The codes of refused logins (page `ws-auth`).
_REFUSED, _NONCE = 10100, 10114
_INPUTS = ("on", "ou", "oc", "oc_multi", "ox_multi")
#: Fields of a subscribe that are not repeated in the answer.
_OF_REQUEST = frozenset({"event"})


class _Session:
    """What differs on each connection: numbers of channels, the count of frames, the flags."""

    def __init__(self, peer_id: int) -> None:
        self.numbers: dict[str, int] = {}
        #: When (monotonic s) a channel has last sent something.
        self.sent_at: dict[str, float] = {}
        self.flags = 0
        self._next = peer_id * 1000
        self._count = 0
        self._own_count = 0

    def add(self, channel: str) -> int:
        self._next += 1
        self.numbers[channel] = self._next
        self.sent_at[channel] = time.monotonic()
        return self._next

    def log_in(self) -> None:
        self.numbers[_ACCOUNT] = 0
        self.sent_at[_ACCOUNT] = time.monotonic()

    def write(self, channel: str, body: str) -> str:
        """Return a frame of a channel, numbered if the client wants that.

        Frames of the account, but heartbeats, have a number of their own behind that.
        """
        self.sent_at[channel] = time.monotonic()
        count = ""
        if self.flags & _SEQ_ALL:
            self._count += 1
            count = f",{self._count}"
            if channel == _ACCOUNT and body != '"hb"':
                self._own_count += 1
                count += f",{self._own_count}"
        return f"[{self.numbers[channel]},{body}{count}]"


class BitfinexProtocol(PrivateProtocol):
    """Bitfinex v2: data carries a number of its channel that each connection has for itself.

    Frames are counted per connection, and checksums of books sent, if the client has set the flags
    for them. A message of a book has one level.

    A login gives the account's channel, which begins with snapshots of orders, positions and
    wallets, and then reports changes of them. Inputs about orders are answered by notifications.
    Our assumptions: the codes of refused logins, that an input without a login is an error of the
    code of one, and the texts of refused orders.
    """

    dialect = Bitfinex()
    kinds: ClassVar = {"trades:{}": MarketTrade, "ticker:{}": MarketQuote, "book:{}": Depth}
    patterns = tuple(kinds)
    symbols = ("tBTCUSD", "tETHUSD", "tSOLUSD")
    takes_orders = True
    credential_fields = {"api_key": "api_key", "secret": "secret"}
    has_recordings = False
    #: The silence (s) after which a channel sends a heartbeat.
    HEARTBEAT = 15.0

    def __init__(self) -> None:
        super().__init__()
        self._sessions: WeakKeyDictionary[Peer, _Session] = WeakKeyDictionary()
        self._nonces: dict[str, int] = {}

    def greeting(self, peer: Peer) -> Iterator[Payload]:
        self._sessions[peer] = _Session(peer.id)
        repeat(peer, self.HEARTBEAT / 5, functools.partial(self._beat, peer))
        yield encode({"event": "info", "version": 2, "serverId": "fake", "platform": {"status": 1}})

    def _beat(self, peer: Peer) -> None:
        session = self._sessions[peer]
        for channel, at in list(session.sent_at.items()):
            if at <= time.monotonic() - self.HEARTBEAT:
                peer.send(session.write(channel, '"hb"'))

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        session = self._sessions[peer]
        if not request and peer.venue.accounts:
            yield from self._input(peer, payload)
        match request.get("event"):
            case "auth" if peer.venue.accounts:
                yield from self._login(peer, request)
            case "conf":
                session.flags = request.get("flags", 0)
                yield encode({"event": "conf", "status": "OK", "flags": session.flags})
            case "ping":
                yield encode({**request, "event": "pong", "ts": milliseconds()})
            case "subscribe":
                yield from self._subscribe(peer, request)
            case "unsubscribe":
                number = request.get("chanId")
                channel = next((c for c, n in session.numbers.items() if n == number), "")
                if not peer.unsubscribe(channel):
                    answer = {"event": "error", "msg": "unsubscribe: invalid", "code": 10400}
                    yield encode({**answer, "chanId": number})
                    return
                del session.numbers[channel], session.sent_at[channel]
                if not is_muted(peer, [channel]):
                    yield encode({"event": "unsubscribed", "status": "OK", "chanId": number})

    def _subscribe(self, peer: Peer, request: Mapping[str, Any]) -> Iterator[Payload]:
        key = request.get("symbol") or request.get("key")
        name = str(request.get("channel"))
        channel = f"{name}:{key}" if key else name
        is_there = channel in peer.subscriptions
        error = None if is_there else peer.subscribe(channel)
        if is_muted(peer, [channel]):
            if error is None and not is_there:
                self._sessions[peer].add(channel)
            return
        echo = {name: value for name, value in request.items() if name not in _OF_REQUEST}
        if is_there or error is not None:
            yield encode({"event": "error", **_error(error), **echo})
            return
        number = self._sessions[peer].add(channel)
        yield encode({"event": "subscribed", "chanId": number, **echo})
        for snapshot in self.snapshot(channel, peer):
            yield self.personal(peer, channel, snapshot) or snapshot

    # The account

    def _login(self, peer: Peer, request: Mapping[str, Any]) -> Iterator[Payload]:
        account = account_of(peer.venue.accounts, request.get("apiKey"))
        nonce, payload = text_of(request.get("authNonce")), text_of(request.get("authPayload"))
        code, text = 0, ""
        if account is None:
            code, text = _REFUSED, "apikey: invalid"
        elif payload != f"AUTH{nonce}" or not same(
            request.get("authSig"), sign(account.secret, payload, "sha384").hex()
        ):
            code, text = _REFUSED, "apikey: digest invalid"
        elif (number := whole_of(nonce) or 0) <= self._nonces.get(account.api_key, 0):
            code, text = _NONCE, "nonce: small"
        if code or account is None:
            answer = {"event": "auth", "status": "FAILED", "chanId": 0, "code": code, "msg": text}
            yield encode(answer)
            return
        self._nonces[account.api_key] = number
        peer.login(account, _ACCOUNT)
        session = self._sessions[peer]
        session.log_in()
        yield encode({"event": "auth", "status": "OK", "chanId": 0, "userId": 1})
        orders = [_order(order) for order in account.open_orders()]
        wallets = [_wallet(account, currency) for currency in account.balances]
        for kind, rows in (("ps", []), ("ws", wallets), ("os", orders)):
            yield session.write(_ACCOUNT, _body(kind, rows))

    def pair(self, symbol: str) -> tuple[str, str] | None:
        name = symbol.removeprefix("t")
        base, colon, quote = name.partition(":")
        return (base, quote) if colon else (name[:-3], name[-3:]) if len(name) > 3 else None

    def _input(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        match as_json(payload):
            case [0, str() as kind, _, dict() as body] if kind in _INPUTS:
                if peer.account is None:
                    yield encode({"event": "error", "msg": "auth: not logged in", "code": _REFUSED})
                else:
                    yield from self.executed(peer, self._answers(peer, peer.account, kind, body))

    def _answers(
        self, peer: Peer, account: Account, kind: str, body: Mapping[str, Any]
    ) -> Iterator[Payload]:
        """Act on an input, and yield its notifications."""
        inputs = [(kind, body)]
        if kind == "oc_multi":
            which = account.open_orders() if body.get("all") else []
            ids = [order.id for order in which] or body.get("id")
            inputs = [("oc", {"id": id}) for id in (ids if isinstance(ids, list) else ())]
        elif kind == "ox_multi":
            inputs = []
        for name, details in inputs:
            status, text = "SUCCESS", "Submitting."
            try:
                row = _order(self._execute(account, name, details))
            except OrderRefusal as error:
                status, text = "ERROR", str(error)
                row = [details.get("id"), None, details.get("cid"), details.get("symbol")]
            more = [milliseconds(), f"{name}-req", None, None, row, None, status, text]
            yield self._sessions[peer].write(_ACCOUNT, _body("n", more))

    def _execute(self, account: Account, kind: str, body: Mapping[str, Any]) -> VenueOrder:
        now, which, cid = milliseconds(), text_of(body.get("id")), text_of(body.get("cid"))
        if kind == "oc":
            order = account.orders.get(which) if which else account.find(cid) if cid else None
            if order is None:
                raise OrderRefusal("unknown", "order: invalid")
            return account.cancel(order, now=now)
        amount = body.get("amount")
        size = None if amount is None else decimal_of(amount, "amount").copy_abs()
        if kind == "ou":
            return self.amend(account, which, size, body.get("price"))
        symbol, name = text_of(body.get("symbol")), text_of(body.get("type"))
        side = "sell" if text_of(amount).startswith("-") else "buy"
        price = None if name.endswith("MARKET") else body.get("price", "")
        more = {"type": name, "gid": body.get("gid"), "flags": body.get("flags", 0)}
        size = Decimal(0) if size is None else size
        return self.place(account, symbol, side, size, price, cid, self.pair(symbol), more)

    def news(self, account: Account, change: OrderChange) -> Iterator[tuple[str, Payload]]:
        order = change.order
        is_new = change.kind == "placed" and order.price is not None
        frames: list[tuple[str, Any]] = []
        if change.kind == "filled":
            sign = 1 if order.side == "buy" else -1
            trade = [change.number, order.symbol, order.updated_at, int(order.id)]
            trade += [sign * change.size, change.price, text_of(order.more.get("type"))]
            frames += [("te", trade), ("tu", trade)]
            frames += [("wu", _wallet(account, currency)) for currency in order.pair or ()]
        frames.append(("on" if is_new else "ou" if order.is_open else "oc", _order(order)))
        for kind, row in frames:
            yield _ACCOUNT, f"[0,{_body(kind, row)}]"

    def shutdown_notice(self, peer: Peer) -> Payload:
        return encode({"event": "info", "code": 20051, "msg": "Stopping. Please try to reconnect"})

    def messages(self, channel: str, event: MarketEvent) -> Iterable[dict[str, Any]]:
        match event:
            case MarketTrade():
                yield {"kind": "te", **self.fields(channel, event)}
                yield {"kind": "tu", **self.fields(channel, event)}
            case Depth(bids, asks, book):
                rows = [*_rows(bids, 1), *_rows(asks, -1)]
                for row in sorted(rows, key=_stays):  # else the book would be crossed in between
                    yield {"payload": row}
                yield {"kind": "cs", "payload": Bitfinex.book.checksum(*book)}
            case _:
                yield self.fields(channel, event)

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        match event:
            case MarketTrade(number, price, size, side):
                amount = size if side == "buy" else size.copy_negate()
                return {"payload": [number, milliseconds(), amount, price]}
            case MarketQuote(bid, bid_size, ask, ask_size, last):
                return {"payload": [bid, bid_size, ask, ask_size, 0, 0, last, 0, last, last]}
            case Depth(bids, asks):
                return {"payload": [*_rows(bids, 1), *_rows(asks, -1)]}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        parts = [fields["kind"]] if "kind" in fields else []
        return encode([0, *parts, fields["payload"]])

    def personal(self, peer: Peer, channel: str, payload: Payload) -> Payload | None:
        session = self._sessions[peer]
        body = (payload.decode() if isinstance(payload, bytes) else payload)[3:-1]
        if body.startswith('"cs"') and not session.flags & _OB_CHECKSUM:
            return None
        return session.write(channel, body)


def _rows(levels: MarketLevels, sign: int) -> list[list[Any]]:
    """Return levels as rows: price, number of orders, amount, which is negative for an ask."""
    return [
        [price, 1, size if sign > 0 else size.copy_negate()] if size else [price, 0, Decimal(sign)]
        for price, size in levels
    ]


def _stays(row: list[Any]) -> bool:
    """Return whether a row is not one that removes its level."""
    return bool(row[1])


def _error(error: str | None) -> dict[str, Any]:
    """Return text and code of a refused subscribe; without an error it is there already."""
    if error is None:
        return {"msg": "subscribe: dup", "code": 10301}
    if isinstance(error, ChannelRefusal) and error.kind == "limit":
        return {"msg": "subscribe: limit", "code": 10305}
    return {"msg": f"symbol: invalid: {error}", "code": 10300}


def _body(kind: str, row: Sequence[Any]) -> str:
    """Return a frame of the account without its numbers."""
    return encode([kind, row])[1:-1]


def _wallet(account: Account, currency: str) -> list[Any]:
    amount = account.balance(currency)
    return ["exchange", currency, amount, 0, amount - account.held(currency)]


def _order(order: VenueOrder) -> list[Any]:
    """Return the 32 fields of an order (page `ws-auth-orders`)."""
    sign = 1 if order.side == "buy" else -1
    cid = whole_of(order.client_id)
    kind = order.more.get("type") or "EXCHANGE LIMIT"
    deal = f"{order.average}({sign * order.filled})"
    status = "ACTIVE" if not order.filled else f"PARTIALLY FILLED @ {deal}"
    status = {"filled": f"EXECUTED @ {deal}", "canceled": "CANCELED"}.get(order.state, status)
    head = [int(order.id), order.more.get("gid"), cid, order.symbol]
    head += [order.created_at, order.updated_at, sign * order.remaining, sign * order.size]
    head += [kind, None, None, None, order.more.get("flags", 0), status, None, None]
    rest = [order.price or 0, order.average, 0, 0, None, None, None, 0, 0, None, None, None]
    return [*head, *rest, "API>BFX", None, None, None]
