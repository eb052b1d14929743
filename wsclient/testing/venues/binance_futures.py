"""The protocol of Binance USD-M futures."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit
from weakref import WeakKeyDictionary

from wsclient.dialects.binance_futures import EVENTS, BinanceFutures
from wsclient.testing.accounts import Account, OrderChange
from wsclient.testing.peer import Peer
from wsclient.testing.private import PrivateProtocol, account_of
from wsclient.testing.protocols import Payload, encode, milliseconds
from wsclient.testing.rest import RestCall, RestError
from wsclient.testing.routes import Route
from wsclient.testing.venues.binance import BinanceProtocol
from wsclient.testing.venues.binance_ws_api import report_of

__all__ = ["BinanceFuturesProtocol"]

_PUBLIC = ("*@depth*", "*@bookTicker", "!bookTicker", "*@rpiDepth*", "*@trade")
_MARKET = ("*@*", "!*", "tradingSession")
_PATH = "/listenKey"
_CHANGES = {"placed": "NEW", "amended": "AMENDMENT", "filled": "TRADE", "canceled": "CANCELED"}


@dataclass
class _ListenKey:
    """A listen key of an account, and when it ends (monotonic s)."""

    text: str
    account: Account
    ends_at: float


class BinanceFuturesProtocol(BinanceProtocol, PrivateProtocol):
    """Binance USD-M futures: an update of a book names the number of the one before it.

    A stream that the route of a connection does not carry is acknowledged, but never sent. An
    address without a route is that of `/public`.

    Listen keys come by REST and live for `key_lifetime` (s). A connection to `/private` gets the
    events that its address names, in `events`, for the live key in `listenKey`; any other is
    silent. Orders are those of the venue's methods (`place`, `fill`, `cancel`). After a DELETE the
    connection is silent, too: what the venue sends then is not documented.
    """

    dialect = BinanceFutures()
    PING = 180.0
    routes = {
        "public": Route("/public", _PUBLIC),
        "market": Route("/market", _MARKET, without=_PUBLIC),
        "private": Route("/private", without=_MARKET),
    }
    default_route = "public"
    credential_fields = {"api_key": "api_key"}

    def __init__(self) -> None:
        super().__init__()
        self.key_lifetime = 3600.0
        self._keys: dict[str, _ListenKey] = {}
        self._made = 0
        #: The listen key of each connection that gets events.
        self._peers: WeakKeyDictionary[Peer, _ListenKey] = WeakKeyDictionary()

    # Listen keys

    def rest(self, call: RestCall, accounts: Sequence[Account]) -> bytes | None:
        if not call.path.endswith(_PATH):
            return None
        api_key = call.headers.get("x-mbx-apikey")
        account = account_of(accounts, api_key)
        if account is None:
            return _refused(401, -2015, "Invalid API-key, IP, or permissions for action.")
        key = self._live(account)
        if call.method == "POST" and key is None:
            key = self._new(account)
        if key is None:
            return _refused(400, -1125, "This listenKey does not exist.")
        if call.method == "DELETE":
            self._end(key)
            return b"{}"
        key.ends_at = time.monotonic() + self.key_lifetime
        return encode({"listenKey": key.text}).encode()

    def _new(self, account: Account) -> _ListenKey:
        self._made += 1
        text = hashlib.sha256(f"{account.api_key}/{self._made}".encode()).hexdigest()
        key = self._keys[text] = _ListenKey(text, account, 0.0)
        return key

    def _live(self, account: Account) -> _ListenKey | None:
        now = time.monotonic()
        keys = (k for k in self._keys.values() if k.account is account and k.ends_at > now)
        return next(keys, None)

    def _end(self, key: _ListenKey) -> list[Peer]:
        """End a listen key; return the connections that got its events, and get none any more."""
        self._keys.pop(key.text, None)
        ended = [peer for peer, its in self._peers.items() if its is key]
        for peer in ended:
            del self._peers[peer]
            peer.account = None
        return ended

    def delete(self, account: Account) -> None:
        """Delete the listen key of an account, as another program may do, under the lock."""
        key = self._live(account)
        if key is not None:
            self._end(key)

    def expire(self) -> None:
        """Let all listen keys expire now."""
        for key in list(self._keys.values()):
            key.ends_at = 0.0
            for peer in self._end(key):
                if peer.live:
                    event = {"e": "listenKeyExpired", "E": str(milliseconds())}
                    peer.send(self._wrapped(peer, key, encode({**event, "listenKey": key.text})))

    # Connections

    def greeting(self, peer: Peer) -> Iterator[Payload]:
        yield from super().greeting(peer)
        parts = urlsplit("" if peer.request is None else peer.request.path)
        query = parse_qs(parts.query)
        key = self._keys.get(query.get("listenKey", [""])[0])
        events = [e for names in query.get("events", ()) for e in names.split("/") if e in EVENTS]
        if peer.route == "private" and events and key is not None:
            self._peers[peer] = key
            peer.login(key.account, *events)
            self._watch(peer)

    def _watch(self, peer: Peer) -> None:
        """Look whether the listen key of a connection has expired when that is due."""
        key = self._peers.get(peer)
        if key is None or not peer.live:
            return
        left = key.ends_at - time.monotonic()
        if left <= 0:
            self.expire()
        else:
            peer.call_later(left, lambda: self._watch(peer))

    def personal(self, peer: Peer, channel: str, payload: Payload) -> Payload | None:
        key = self._peers.get(peer)
        return payload if key is None else self._wrapped(peer, key, payload)

    def _wrapped(self, peer: Peer, key: _ListenKey, payload: Payload) -> Payload:
        path = "" if peer.request is None else peer.request.path.partition("?")[0]
        text = payload.decode() if isinstance(payload, bytes) else payload
        is_combined = path.endswith("/stream")
        return f'{{"stream":"{key.text}","data":{text}}}' if is_combined else text

    # Events

    def news(self, account: Account, change: OrderChange) -> Iterator[tuple[str, Payload]]:
        now = milliseconds()
        if change.kind == "filled":
            held = {"a": "USDT", "wb": str(account.balance("USDT")), "bc": "0"}
            position = {"s": change.order.symbol, "pa": str(_position(account, change))}
            report = {"m": "ORDER", "B": [held], "P": [position]}
            yield "ACCOUNT_UPDATE", encode({"e": "ACCOUNT_UPDATE", "E": now, "T": now, "a": report})
        event = {"e": "ORDER_TRADE_UPDATE", "E": now, "T": change.order.updated_at}
        order = report_of(change, _CHANGES[change.kind], no_trade=0)
        order |= {"ap": str(change.order.average), "sp": "0"}
        yield "ORDER_TRADE_UPDATE", encode({**event, "o": order})

    def _numbers(self, first: int, last: int) -> dict[str, int]:
        return {"U": first, "u": last, "pu": first - 1}


def _refused(status: int, code: int, text: str) -> RestError:
    return RestError(status, encode({"code": code, "msg": text}).encode())


def _position(account: Account, change: OrderChange) -> Decimal:
    orders = (o for o in account.orders.values() if o.symbol == change.order.symbol)
    return sum((o.filled if o.side == "buy" else -o.filled for o in orders), Decimal(0))
