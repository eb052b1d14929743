"""Bybit v5.

Addresses: ``wss://stream.bybit.com/v5/public/spot`` (or ``linear``, ``inverse``, ``option``,
``spread``, ``rfq``), and with credentials ``wss://stream.bybit.com/v5/private``.

A channel is what Bybit calls a "topic": ``orderbook.50.BTCUSDT``, ``publicTrade.BTCUSDT``. Each of
these addresses is a route, and one client has channels of all: ``linear:publicTrade.BTCUSDT`` is
the channel of that route, and a public channel without a route is the one of the client's address.
Private channels (``order``) and ``system.status`` need no route in their names. The other routes
are at the host of the client's address. An address that does not end as above, behind ``/v5/``, has
one route.

Sources, under bybit-exchange.github.io/docs/v5:

* The answer to ``auth`` has ``success`` and ``ret_msg``, or ``retCode`` and ``retMsg`` (page
  ``ws/connect``, page ``websocket/trade/guideline``). That an answer to a subscribe may have the
  latter two as well is our assumption.
* Each request has one answer, with its ``req_id`` if it had one. The answer at ``option`` has none,
  but lists the channels that succeeded and those that failed (page ``ws/connect``).
* ``{"op":"ping"}`` is sent every 20 s; the ``op`` of the pong is ``ping`` or ``pong`` (page
  ``ws/connect``). The silence timeout of 30 s is our choice.
* The routes, which need no login but ``private`` and ``trade``, and ``auth``: page ``ws/connect``.
  Orders are sent to ``trade`` (page ``websocket/trade/guideline``); ``system.status`` is at
  ``public/misc/status`` (page ``websocket/system/system-status``). The host ``stream-demo`` has
  private channels only (page ``demo``).
* Limits: on spot 10 channels per request; 500 connects in 5 minutes to a host; the channels of a
  connection have at most 21,000 characters, on option also at most 2000 channels (page
  ``ws/connect``). 1000 connections per IP address to each of spot, linear, inverse and option (page
  ``rate-limit``). The client does not count characters: at most 500 channels per connection are our
  choice, as they fit if their names have 42 characters on average. How Bybit refuses more is not
  documented.
* The answer to a request at ``trade`` repeats its ``reqId``, which must be new (page
  ``websocket/trade/guideline``). That only those of one connection count is our assumption. A batch
  whose orders have failed has the ``retCode`` 0: ``retExtInfo`` has the code of each.
* ``retCode`` 10019 says that ``trade`` is restarting and takes no more requests on this connection
  (pages ``error``, ``websocket/trade/guideline``). No time until its end is stated.
* A snapshot of a book may come at any time. A message with ``u`` of 1 is one too: the service has
  restarted. Level 1 is sent in snapshots only, the same one again after 3 s (page
  ``websocket/public/orderbook``).
* ``u`` rises by 1 per message in the history that Bybit publishes. Its documentation does not
  promise this: hence ``sequenced``. Nor does it say that two connections have the same ``u``, so it
  is compared within one connection only.
* ``S`` of ``publicTrade`` is the side of the taker, and ``type`` is always ``snapshot`` (page
  ``websocket/public/trade``). Sizes are in the base currency, on inverse in contracts of one USD.
  ``tickers`` of linear, inverse and option have the best bid and ask, those of spot have not. A
  delta leaves out what has not changed: one without all four numbers is no quote (page
  ``websocket/public/ticker``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Literal

import msgspec

from wsclient.dialect import (
    Ack,
    BookFormat,
    BookUpdate,
    ConfigurationError,
    Credentials,
    Dialect,
    Ending,
    Heads,
    Heartbeat,
    Item,
    Limits,
    LinkedMessage,
    LoginAccepted,
    LoginRefused,
    Message,
    Notice,
    Quote,
    Rejection,
    Reply,
    RouteAddresses,
    Row,
    Trade,
    TradeSide,
    Unhandled,
    Views,
    Wrapped,
    amount,
    best,
    levels,
    nanoseconds,
    sign,
)

__all__ = ["Bybit", "BybitBook", "BybitViews"]

_RESTARTED = 1
_SIDES: Mapping[str, TradeSide] = {"Buy": "buy", "Sell": "sell"}
#: The routes, and the ends of their addresses.
_ROUTES = RouteAddresses(
    {
        "spot": "public/spot",
        "linear": "public/linear",
        "inverse": "public/inverse",
        "option": "public/option",
        "spread": "public/spread",
        "rfq": "public/rfq",
        "status": "public/misc/status",
        "private": "private",
        "trade": "trade",
    },
    "/v5/",
)
_WITH_LOGIN = frozenset({"private", "trade"})
#: Channels of ``private``, by their name up to the first dot, or by the whole name.
_PRIVATE = frozenset(
    {
        "dcp",
        "execution",
        "greeks",
        "order",
        "position",
        "strategy",
        "wallet",
        "rfq.open.quotes",
        "rfq.open.rfqs",
        "rfq.open.trades",
        "spread.execution",
        "spread.order",
    }
)
#: Channels of several public routes.
_PUBLIC = frozenset(
    {
        "adlAlert",
        "allLiquidation",
        "insurance",
        "kline",
        "liquidation",
        "orderbook",
        "priceLimit",
        "publicTrade",
        "tickers",
    }
)
#: The id of a caller's request, as the client makes it.
_OURS = re.compile(r"r(\d+)")
#: The host of demo accounts, which has no public channels.
_DEMO = "://stream-demo."
#: The ``retCode`` of a server that is about to restart.
_RESTARTING = 10019
#: Channels that may be silent for any time, by their name up to the first dot: private ones,
#: liquidations, and the state of the venue.
_QUIET = frozenset(
    {
        "adlAlert",
        "allLiquidation",
        "dcp",
        "execution",
        "greeks",
        "liquidation",
        "order",
        "position",
        "rfq",
        "spread",
        "strategy",
        "system",
        "wallet",
    }
)
#: How long (s) a signed login stays valid; our choice.
_LOGIN_LASTS = 10.0


class _Data(msgspec.Struct, gc=False):
    """The fields that are read from the data of a book and from an answer at ``option``."""

    u: int | None = None
    successTopics: list[str] = []
    failTopics: list[str] = []


class _Head(msgspec.Struct, gc=False):
    topic: str | None = None
    type: str = ""
    data: _Data | list[msgspec.Raw] | None = None
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    retMsg: str = ""
    retCode: int | None = None
    req_id: str | None = None
    reqId: str | None = None


class _Book(msgspec.Struct, gc=False):
    b: list[Row]
    a: list[Row]
    u: int


class _BookFrame(msgspec.Struct, gc=False):
    type: Literal["snapshot", "delta"]
    data: _Book


class _Trade(msgspec.Struct, gc=False):
    s: str
    S: Literal["Buy", "Sell"]
    p: Decimal
    v: Decimal
    i: str
    T: int


class _Ticker(msgspec.Struct, gc=False):
    """A ticker of linear and inverse, or one of option, which has other names."""

    symbol: str
    bid1Price: str | None = None
    bid1Size: str | None = None
    ask1Price: str | None = None
    ask1Size: str | None = None
    bidPrice: str | None = None
    bidSize: str | None = None
    askPrice: str | None = None
    askSize: str | None = None


_head = msgspec.json.Decoder(_Head).decode
_trades = msgspec.json.Decoder(Wrapped[list[_Trade]]).decode
_ticker = msgspec.json.Decoder(Wrapped[_Ticker]).decode
_book = msgspec.json.Decoder(_BookFrame).decode


class BybitBook(BookFormat):
    """The order books of Bybit."""

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        """Return the channel of an order book; ``depth`` is 1, 50 (the default), 200 or 1000.

        The symbol may begin with a route: ``linear:BTCUSDT``.
        """
        route, _, name = symbol.rpartition(":")
        channel = f"orderbook.{options.get('depth', 50)}.{name}"
        return f"{route}:{channel}" if route else channel

    def update(self, message: Message) -> BookUpdate | None:
        frame = _book(message.raw)
        is_snapshot = frame.type == "snapshot" or frame.data.u == _RESTARTED
        return BookUpdate(is_snapshot, levels(frame.data.b), levels(frame.data.a))


class BybitViews(Views):
    """The plain views of Bybit."""

    def trades(self, message: Message) -> list[Trade] | None:
        if _topic(message)[0] != "publicTrade":
            return None
        return [
            Trade(row.s, row.p, row.v, _SIDES[row.S], row.i, nanoseconds(row.T))
            for row in _trades(message.raw).data
        ]

    def quote(self, message: Message) -> Quote | None:
        topic = _topic(message)
        if topic[:2] == ("orderbook", "1") and message.type == "snapshot":
            book = _book(message.raw).data
            return Quote(topic[2], *best(book.b), *best(book.a))
        if topic[0] != "tickers":
            return None
        row = _ticker(message.raw).data
        future = row.bid1Price, row.bid1Size, row.ask1Price, row.ask1Size
        numbers = future if any(future) else (row.bidPrice, row.bidSize, row.askPrice, row.askSize)
        if None in numbers:
            return None
        bid_price, bid_size, ask_price, ask_size = map(amount, numbers)
        return Quote(row.symbol, bid_price, bid_size, ask_price, ask_size)

    def book_symbol(self, message: Message) -> str | None:
        kind, _, symbol = _topic(message)
        return symbol if kind == "orderbook" else None


def _topic(message: Message) -> tuple[str, str, str]:
    """Return the parts of a channel's name: its kind, the depth of a book, and the rest."""
    name = message.channel.rpartition(":")[2]
    kind, _, rest = name.partition(".")
    depth, _, symbol = rest.partition(".")
    return kind, depth, symbol


class Bybit(Dialect):
    """Dialect of Bybit v5.

    With ``sequenced`` a jump of the ``u`` of a book is a gap. ``credentials``, for private
    channels, have ``api_key`` and ``secret``.
    """

    name: ClassVar[str] = "bybit"
    book = BybitBook()
    views = BybitViews()
    client_order_id = "orderLinkId"
    limits = Limits(
        channels_per_message=10,
        channels_per_connection=500,
        connects=(500, 300.0),
        connections=1000,
    )
    keepalive = ({"op": "ping"}, 20.0)
    silence_timeout = 30.0
    numbers_are_shared = False
    #: The second one is that of private channels.
    timestamp_fields = (("ts",), ("creationTime",))
    heads = Heads(_Head, ("topic", "type"), [("data.u",)])

    def __init__(self, *, sequenced: bool = False) -> None:
        self._sequenced = sequenced
        if sequenced:
            self.heads = self.heads._replace(may_begin_to_count=("orderbook.",))

    def first_message_within(self, channel: str) -> float | None:
        is_quiet = channel.partition(".")[0] in _QUIET
        return None if is_quiet else super().first_message_within(channel)

    def default_route(self, url: str) -> str:
        return _ROUTES.of(url)

    def route(self, channel: str, url: str) -> str:
        default = self.default_route(url)
        route, _, name = channel.rpartition(":")
        if not route:
            route = _route(name, default) if default else ""
        elif route not in _ROUTES:
            raise ConfigurationError(f"Bybit has no route {route!r}, which {channel!r} names")
        if _DEMO in url and route not in ("", *_WITH_LOGIN):
            raise ConfigurationError(
                "Bybit's demo host has private channels only: public ones are at stream.bybit.com"
            )
        self.address(url, route)  # raises if the address has no routes
        return route

    def request_route(self, payload: Any, url: str) -> str:
        default = self.default_route(url)
        operation = payload.get("op") if isinstance(payload, Mapping) else None
        is_order = isinstance(operation, str) and operation.startswith("order.")
        return "trade" if is_order and default else default

    def address(self, url: str, route: str) -> str:
        return _ROUTES.address(url, route)

    def wire_name(self, channel: str) -> str:
        route, _, name = channel.rpartition(":")
        return name if route in _ROUTES else channel

    def logs_in(self, route: str) -> bool:
        return not route or route in _WITH_LOGIN

    def needs_credentials(self, channel: str, options: Mapping[str, Any]) -> bool:
        return _is_private(channel)

    def login(self, credentials: Credentials) -> Any:
        expires = int((credentials.clock() + _LOGIN_LASTS) * 1000)
        signature = sign(credentials["secret"], f"GET/realtime{expires}").hex()
        return {"op": "auth", "args": [credentials["api_key"], expires, signature]}

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        if unknown := sorted(options.keys() - {"depth"}):  # it is in the name of a book's channel
            raise ConfigurationError(f"Bybit takes no options, but {unknown[0]!r} was given")
        return {"req_id": str(request_id), "op": verb, "args": list(channels)}

    def request(self, payload: Any, request_id: int) -> Any:
        return {**payload, "reqId": f"r{request_id}"}

    def peek(self, frame: bytes) -> Item | Sequence[Item]:
        head = _head(frame)
        if head.topic is None:
            ours = _OURS.fullmatch(head.reqId or "")
            return _reply(ours[1], head, frame) if ours else _answer(head)
        update = head.data.u if isinstance(head.data, _Data) else None
        if not self._sequenced or not head.topic.startswith("orderbook."):
            update = None
        if update is None or head.topic.startswith("orderbook.1."):
            return Message(head.topic, head.type)
        if head.type == "snapshot" or update == _RESTARTED:
            return LinkedMessage(head.topic, head.type, update)
        return Message(head.topic, head.type, update)


def _is_private(channel: str) -> bool:
    return channel in _PRIVATE or channel.partition(".")[0] in _PRIVATE


def _route(channel: str, default: str) -> str:
    """Return the route of a channel whose name has none, at an address of the route ``default``."""
    if _is_private(channel):
        return "private"
    kind = channel.partition(".")[0]
    if kind in ("rfq", "system"):
        return "rfq" if kind == "rfq" else "status"
    if kind in _PUBLIC and default in ("status", *_WITH_LOGIN):
        raise ConfigurationError(
            f"{channel!r} is a channel of several routes of Bybit: name one of them, such as "
            f"'linear:{channel}'"
        )
    return default


def _reply(request_id: str, head: _Head, frame: bytes) -> Item | Sequence[Item]:
    reason = f"{head.retMsg} ({head.retCode})" if head.retCode else None
    answer = msgspec.json.decode(frame)
    if head.retCode is None:
        return Reply(request_id, answer, "the answer has no code", is_unknown=True)
    rows = (answer.get("retExtInfo") or {}).get("list") or ()
    codes = [(n, row, str(row.get("code") or 0)) for n, row in enumerate(rows)]
    failed = {n: f"{row.get('msg')} ({code})" for n, row, code in codes if code != "0"}
    reply = Reply(request_id, answer, reason, failed or None)
    if head.retCode != _RESTARTING:
        return reply
    return [reply, Ending(head.retMsg or "the server is restarting")]


def _answer(head: _Head) -> Item | Sequence[Item]:
    if head.op in ("ping", "pong"):
        return Heartbeat()
    words = head.ret_msg or head.retMsg
    if head.retCode == _RESTARTING:
        return [Unhandled(head.op or head.type), Ending(words or "the server is restarting")]
    is_change, is_accepted = head.op in ("subscribe", "unsubscribe"), head.success
    if is_accepted is None and head.retCode is not None and (is_change or head.op == "auth"):
        is_accepted = head.retCode == 0
    if head.op == "auth":
        return LoginAccepted() if is_accepted else LoginRefused(words or "no reason given")
    reason = words or "refused without a reason"
    if not head.op and isinstance(head.data, _Data):  # an answer at ``option``, without an id
        accepted = [Ack(channel=topic) for topic in head.data.successTopics]
        return [*accepted, *(Rejection(reason, channel=topic) for topic in head.data.failTopics)]
    if is_accepted is None:
        return Unhandled(head.op or head.type)
    request_id = head.req_id or None
    if request_id is None and not is_change:
        return Unhandled(head.op or head.type) if is_accepted else Notice(reason)
    return Ack(request_id) if is_accepted else Rejection(reason, request_id)
