"""Binance USD-M futures: market data, and the events of an account.

Address: ``wss://fstream.binance.com``. It has the routes ``public``, ``market`` and ``private``,
which are the next part of its path: ``wss://fstream.binance.com/public``. Channels, answers and
errors are those of spot: see the module ``binance``. What differs:

* Routes exist since 2026-04-23. Which streams each route has, and that an address without a route
  acknowledges all streams but sends only those of ``/public``: the "Important WebSocket Change
  Notice" on developers.binance.com. ``rpiDepth`` and ``tradingSession``: the venue's client
  binance-connector-python. That ``trade`` is on ``/public``: seen on the wire by other clients.
* Limits: 10 messages per second, and 1024 streams, per connection, which lasts 24 hours
  (developers.binance.com). That ``serverShutdown`` comes here too is our assumption.
* Messages of ``@depth`` name the ``u`` of the message before them, ``pu`` (seen on the wire).
* The update whose ``u`` is the snapshot's ``lastUpdateId`` is applied (developers.binance.com, "How
  to manage a local order book correctly"; seen on the wire).
* The events of an account are the channel ``userData``; the type of a message is the event's name
  (``ORDER_TRADE_UPDATE``, ``ACCOUNT_UPDATE``). With ``credentials``, a listen key is requested
  before each connect to ``private``, by a POST with the header ``X-MBX-APIKEY``, which returns the
  live key if there is one. It is valid for 60 minutes, and each PUT extends that; a dead key is
  refused by the error -1125 (developers.binance.com, "Start User Data Stream" and "Keepalive User
  Data Stream"). The interval of 25 minutes is our choice. The key is never deleted: other programs
  with the same API key share it.
* The address names the key and the events, ``/private/ws?listenKey=...&events=A/B`` (the change
  notice). Without ``events``, and with the key in the path, the venue was seen to send nothing,
  without an error (pull request 445 of oliver-zehentleitner/unicorn-binance-websocket-api); the
  venue's own client subscribes to the key instead. So all events that the documents name are
  named. What a name does that the venue does not know is not documented: none is sent.
* A wrong key completes the handshake and is silent (seen on the wire). So the silence of
  ``private`` shows nothing: neither that the key works, nor that the connection is dead. Compare
  orders by REST.
* After ``listenKeyExpired`` nothing follows, although the connection stays open
  (developers.binance.com, "User Data Streams"): it is replaced, with a new key. Events are not
  sent again: what happens between two connections is missed, and marked as a gap.
* A key of your own, as the name of a channel or in the address, works too, as before: you renew it,
  and a channel that is the key has its events.
* Sizes of USD-M are in the base currency, those of COIN-M in contracts. A ``ticker`` has no best
  bid and ask here (seen on the wire).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from wsclient.dialect import (
    Ack,
    ConfigurationError,
    Credentials,
    Expired,
    HandshakeRejected,
    Heads,
    Item,
    Limits,
    LinkedMessage,
    Message,
    RestRequest,
    Snapshot,
    Wrapped,
)
from wsclient.dialects.binance import (
    KEY_LENGTH,
    Binance,
    BinanceBook,
    BinanceViews,
    combined,
    decode_changes,
    kind_of,
    streams_in,
)

__all__ = ["EVENTS", "USER_DATA", "BinanceFutures", "BinanceFuturesBook"]

#: The channel of an account's events.
USER_DATA = "userData"
#: The events of an account that the venue's documents name.
EVENTS = (
    "ORDER_TRADE_UPDATE",
    "ACCOUNT_UPDATE",
    "ALGO_UPDATE",
    "TRADE_LITE",
    "MARGIN_CALL",
    "ACCOUNT_CONFIG_UPDATE",
    "STRATEGY_UPDATE",
    "GRID_UPDATE",
    "listenKeyExpired",
)
#: The time (s) between two renewals of a listen key, which is valid for 3600 s.
RENEW_EVERY = 1500.0
_EXPIRED = "listenKeyExpired"
_KEY = re.compile(r"[\w-]+")
#: The venue's code for a listen key that does not exist.
_NO_SUCH_KEY = -1125

_ROUTES = frozenset({"public", "market", "private"})
#: The parts of a query that name streams.
_NAMING = frozenset({"events", "listenKey", "streams"})
#: Also ``depth``, with a number or without; all other market data is on ``/market``.
_PUBLIC = frozenset({"bookTicker", "rpiDepth", "trade"})


class _Numbers(msgspec.Struct, gc=False):
    last: Any = msgspec.field(default=None, name="u")
    previous: Any = msgspec.field(default=None, name="pu")


class _FuturesUpdate(msgspec.Struct, gc=False):
    last: int = msgspec.field(name="u")
    previous: int = msgspec.field(name="pu")


class _Head(msgspec.Struct, gc=False):
    """The head of a frame, but for a stream that may be a listen key: its events differ in type."""

    stream: Annotated[str, msgspec.Meta(max_length=KEY_LENGTH - 1)] | None = None
    data: _Numbers | list[msgspec.Raw] | None = None
    event: str | None = msgspec.field(default=None, name="e")


class _Event(msgspec.Struct, gc=False):
    event: str = msgspec.field(name="e")


class _Error(msgspec.Struct, gc=False):
    code: int


_event = msgspec.json.Decoder(_Event).decode
_wrapped = msgspec.json.Decoder(Wrapped[msgspec.Raw]).decode
_error = msgspec.json.Decoder(_Error).decode
_futures_update = msgspec.json.Decoder(_FuturesUpdate).decode


class BinanceFuturesBook(BinanceBook):
    """The order books of Binance futures, with snapshots from ``rest``."""

    max_levels: ClassVar[int] = 1000

    def _partial(self, raw: bytes) -> Any:
        return decode_changes(raw).data

    def snapshot(self, channel: str, answer: Any) -> Snapshot:
        return super().snapshot(channel, answer)._replace(has_last=False)


class BinanceFutures(Binance):
    """Dialect of Binance USD-M futures.

    Each stream belongs to one route, and a connection has one route: ``public`` sends ``@depth``,
    ``@bookTicker`` and ``@trade``, ``private`` the account, ``market`` all others (``@aggTrade``,
    ``@markPrice``, ``@kline_1m``). One client can have channels of all. A connection without
    channels has the route of the address, or else of the streams that the address names, or else
    ``public``.

    COIN-M futures have no routes: ``wss://dstream.binance.com`` is left unchanged. They need their
    own ``rest``, and for ``userData`` their own ``account``: by the venue's documents
    ``"/ws/{key}"``, which newer documents contradict. The all-market streams (``!ticker@arr``,
    ``!bookTicker``) carry USD-M and COIN-M together, at both addresses: the field ``st`` of an
    event is 1 for USD-M, 2 for COIN-M.

    The sequence numbers of a book do not rise one by one: each message names the number of the one
    before it. The REST address, its 1000 levels and the limit of connects, which is that of spot,
    are our assumptions.

    ``credentials`` have ``api_key``, for the channel ``userData``: its events need no signature.
    ``listen_key`` is the REST address of listen keys, by default beside ``rest``; ``account`` is
    the path and the query of the connection, and ``renew_every`` the time (s) between two renewals
    of a key.
    """

    name: ClassVar[str] = "binance_futures"
    limits = Limits(
        channels_per_message=100,
        messages_per_second=9.0,
        channels_per_connection=1024,
        connects=(300, 300.0),
        max_age=86_400.0 - 300.0,
    )
    retired: ClassVar[Mapping[str, str]] = {}
    views = BinanceViews("bookTicker", "!bookTicker")
    heads = Heads(_Head, ("stream", "event"), [("data.previous", "data.last")])
    timestamp_fields = (*Binance.timestamp_fields, ("E",))
    quiet_channels = (USER_DATA,)
    takes_credentials = True

    def __init__(
        self,
        *,
        rest: str = "https://fapi.binance.com/fapi/v1/depth",
        listen_key: str | None = None,
        account: str = "/private/ws?listenKey={key}&events={events}",
        renew_every: float | None = RENEW_EVERY,
    ) -> None:
        self.book = BinanceFuturesBook(rest)
        self._listen_key = listen_key or f"{rest.rpartition('/')[0]}/listenKey"
        self._account = account
        self.renewal_interval = renew_every

    def default_route(self, url: str) -> str:
        base, query = combined(url)
        if _has_no_routes(base):
            return ""
        return _own_route(base) or min(_routes_in(query), default="public")

    def route(self, channel: str, url: str) -> str:
        is_routed = channel == USER_DATA or self.default_route(url)
        return _route(channel) if is_routed else ""

    def needs_credentials(self, channel: str, options: Mapping[str, Any]) -> bool:
        return channel == USER_DATA

    def request_route(self, payload: Any, url: str) -> str:
        """Return the route of the streams that a request names: others only acknowledge it."""
        default = self.default_route(url)
        named = payload.get("params") if isinstance(payload, Mapping) else None
        streams = named if isinstance(named, (list, tuple)) else []
        routes = {_route(stream) for stream in streams if isinstance(stream, str)}
        return routes.pop() if default and len(routes) == 1 else default

    def address(self, url: str, route: str) -> str:
        if route == self.default_route(url):
            return url
        base, query = combined(url)
        own = _own_route(base)
        options = [part for part in query.split("&") if part.partition("=")[0] not in _NAMING]
        query = f"?{'&'.join(options)}" if any(options) else ""
        return f"{base.removesuffix(f'/{own}')}/{route}/stream{query}"

    def url_request(self, url: str, credentials: Credentials | None) -> RestRequest | None:
        base, query = combined(url)
        has_own_key = "private" in _routes_in(query)
        if credentials is None or _own_route(base) != "private" or has_own_key:
            return None
        return self._request("POST", credentials)

    def token_from(self, answer: Any) -> Any:
        key = answer.get("listenKey") if isinstance(answer, Mapping) else None
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise HandshakeRejected("Binance's answer to the REST request has no listen key", 200)
        return key

    def renewal(self, url: str, credentials: Credentials) -> RestRequest | None:
        return self._request("PUT", credentials)

    def _request(self, method: str, credentials: Credentials) -> RestRequest:
        headers = {"X-MBX-APIKEY": credentials["api_key"]}
        return RestRequest(self._listen_key, method=method, headers=headers)

    def has_expired(self, refusal: HandshakeRejected) -> bool:
        try:
            return _error(refusal.excerpt).code == _NO_SUCH_KEY
        except msgspec.MsgspecError:
            return False

    def url(self, url: str, credentials: Credentials | None) -> str:
        base, query = combined(url)
        if credentials is not None and credentials.token is not None:
            account = self._account.format(key=credentials.token, events="/".join(EVENTS))
            options = f"{'&' if '?' in account else '?'}{query}" if query else ""
            return f"{base.removesuffix('/private')}{account}{options}"
        if not _has_no_routes(base):
            base = _routed(base, _routes_in(query))
        return super().url(f"{base}/stream?{query}", credentials)

    def refusal(self, channel: str, address: str) -> str | None:
        wanted = _route(channel)
        base = address.removesuffix("/stream")
        root, _, route = base.rpartition("/")
        if route in _ROUTES and route != wanted and not _has_no_routes(base):
            return (
                f"the route /{route} of this connection does not send this stream, "
                f"which is at {root}/{wanted}"
            )
        # A name without an @ has no symbol that could be in upper case.
        return super().refusal(channel, address) if "@" in channel else None

    def group(self, channel: str) -> Any:
        return channel == USER_DATA

    def access(self, channels: Sequence[str], credentials: Credentials) -> Mapping[str, Any]:
        key = credentials.token
        return {} if key is None or channels[0] not in (USER_DATA, key) else {"listenKey": key}

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        key = options.get("listenKey")
        if key is not None:  # the address has it; wrapped events name their stream by it
            return Ack(alias=key)
        if USER_DATA in channels:
            raise ConfigurationError(
                f"{USER_DATA} needs a listen key that the client requests: give none in the address"
            )
        return super().change(verb, channels, request_id, options)

    def peek(self, frame: bytes) -> Item | Sequence[Item]:
        found = super().peek(frame)
        if isinstance(found, Message) and found.type == found.channel and _is_key(found.channel):
            found.type = _event(_wrapped(frame).data).event
            if found.type == _EXPIRED:  # an own key too: a new connection shows that it is dead
                return [found, _expired()]
        return found

    def _unwrapped(self, event: Any, frame: bytes) -> Item | Sequence[Item]:
        if not isinstance(event, str):
            return super()._unwrapped(event, frame)
        return _expired() if event == _EXPIRED else Message(USER_DATA, event)

    def _depth(self, stream: str, data: msgspec.Raw) -> Message:
        update = _futures_update(data)
        return LinkedMessage(
            stream, "depth", update.last, follows=update.previous, is_counted=False
        )


def _expired() -> Expired:
    return Expired("the listen key has expired")


def _is_key(stream: str) -> bool:
    return len(stream) >= KEY_LENGTH and "@" not in stream


def _has_no_routes(base: str) -> bool:
    """Return whether the address is one of COIN-M or of an account's portfolio margin."""
    host, _, path = base.partition("://")[2].partition("/")
    return "dstream" in host.lower() or path == "pm"


def _own_route(base: str) -> str:
    """Return the route at the end of an address; ``""`` if there is none."""
    place, _, route = base.partition("://")[2].rpartition("/")
    return route if place and route in _ROUTES else ""


def _routes_in(query: str) -> set[str]:
    """Return the routes of the streams that a query names."""
    routes = {_route(stream) for stream in streams_in(query)}
    return routes | {"private"} if "&listenKey=" in f"&{query}" else routes


def _routed(base: str, wanted: Collection[str]) -> str:
    """Return ``base`` with a route: its own, or the one of the streams that it names.

    Raises ConfigurationError if the streams need another route.
    """
    route = _own_route(base)
    if not route:
        route = min(wanted, default="public")
        base = f"{base}/{route}"
    if others := sorted(set(wanted) - {route}):
        raise ConfigurationError(
            f"the address names streams of the route /{others[0]}, which Binance would not send at "
            f"/{route}: name streams of one route there, and subscribe to the others"
        )
    return base


def _route(stream: str) -> str:
    if stream == USER_DATA:
        return "private"
    kind = kind_of(stream).removeprefix("!")
    if kind in _PUBLIC or kind.startswith("depth"):
        return "public"
    return "private" if kind == stream and _is_key(stream) else "market"
