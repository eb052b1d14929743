"""OKX v5: ``wss://ws.okx.com:8443/ws/v5/public`` (or ``/private``, ``/business``).

Each of these addresses is a route: one client has channels of all three, at the host of its
address, and the name of a channel says which route it is of. A channel that is not known here is
taken to be of the client's address. An address that does not end as above has one route.

A channel is ``channel:instId`` (``books:BTC-USDT``, ``tickers:BTC-USDT``), ``channel:sprdId`` for
spreads (``sprd-tickers:BTC-USDT_BTC-USDT-SWAP``), ``channel:instFamily`` where OKX takes a family
(``opt-summary:BTC-USD``, ``option-trades:BTC-USD``), or a bare name where it takes none of these.
Options of ``subscribe`` become further fields of the args (``instType="SPOT"``). Where a symbol
might be an instrument or a family, ``instFamily="BTC-USD"`` makes ``orders:BTC-USD`` the family.

Sources, in OKX's API guide (www.okx.com/docs-v5/en), section "WebSocket" unless another is named:

* There is one ack for each arg, with the ``id`` of the request. An error carries the ``id`` and no
  arg ("Subscribe"). That a 60018 names the arg in its text: seen on the wire by other clients. Any
  other error refuses one arg, the one that remains when the others are answered; a few errors
  refuse the whole request.
* The keepalive is the text ``ping``, not JSON, answered by the text ``pong``. A connection without
  data for 30 s is closed ("Connect").
* The route of each channel: the "URL Path" in its own section, which also says whether it needs a
  login. ``public`` takes a login only for ``books-l2-tbt`` and ``books50-l2-tbt``, which get a
  connection of their own for it: the route ``public_login``. So a refused login ends no other
  public channel.
* 3 connects per second per IP address, and 480 subscribes, unsubscribes and logins per hour per
  connection ("Connect"), whose args have at most 64 KB ("Subscribe"). The client neither paces by
  the hour nor counts these bytes. Batches of 50 args, which keep far below the hourly limit, and at
  most 500 channels per connection, whose args then may have 131 bytes on average, are our choices.
  More channels than a connection may have end it with the code 4008 or 4009 ("Error Code"): no
  refusal says so.
* At most 30 connections may have one private channel ("Connection count limit"), per sub-account;
  there is no documented limit of all connections.
* ``login`` must come within 30 s of its timestamp ("Login"). The error codes: "Error Code".
* Notice 64008 comes 60 s before an upgrade, on ``public`` and ``private`` ("Notification").
* ``prevSeqId`` is the ``seqId`` of the message before; it is -1 in a snapshot, equal to ``seqId``
  if nothing has changed for a minute, and higher than ``seqId`` after maintenance ("Order book
  channel"). Older recordings have neither.
* ``channel-conn-count-error`` follows the ack of a private channel that 30 connections have
  already: the venue then ends the channel ("Connection count limit").
* ``side`` of a trade is that of the taker ("Trades channel"). Sizes are in the base currency for
  spot, else in contracts. A best bid or ask that is not there is empty (seen on the wire).
* ``checksum`` is deprecated and fixed at 0; it was a CRC32 before ("Order book channel").
* A request about orders has an ``id`` of its own, which the answer repeats, with a ``code`` and one
  row per order ("Place order", "Place multiple orders"): 1 says that all have failed, 2 that some
  have. So the ids of requests begin with a letter, those of subscribes do not.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import islice, zip_longest
from typing import Any, ClassVar, Literal

import msgspec

from wsclient.dialect import (
    Ack,
    BookFormat,
    BookUpdate,
    ConfigurationError,
    Credentials,
    Dialect,
    Ended,
    Ending,
    Heads,
    Heartbeat,
    Item,
    Levels,
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
    Unhandled,
    Verb,
    Views,
    Wrapped,
    amount,
    best,
    levels,
    nanoseconds,
    sign_in_base64,
)

__all__ = ["OKX", "OKXBook", "OKXViews"]

#: The id of a caller's request, as the client makes it.
_OURS = re.compile(r"r(\d+)")
#: The code of an answer to a batch of which some have failed.
_PARTLY = "2"
#: Wrong timestamp, key, signature, whole login, passphrase; unknown key.
_LOGIN_CODES = frozenset({"60004", "60005", "60006", "60007", "60009", "60024", "60031"})
#: Invalid, too frequent, unknown operation: errors that refuse a request as a whole.
_REQUEST_CODES = frozenset({"60012", "60014", "60019"})
#: Not logged in, no such channel, fee tier, two books at once: they refuse a subscribe, even
#: without an id.
_CHANNEL_CODES = frozenset({"60011", "60018", "64003", "64004"})
_NAMED = re.compile(r"channel:([^,\s]+)((?:,\w+:[^,\s]+)*) doesn't exist")
#: Fields that name what a channel is of, the most specific first.
_SYMBOLS = ("instId", "sprdId", "instFamily")
#: Channels that take a family, which has one dash, or an instrument, which has more.
_BY_FAMILY = frozenset({"adl-warning", "estimated-price", "opt-summary", "option-trades"})
#: Channels without an action: each message is the whole order book.
_WHOLE = ("books5", "bbo-tbt")
#: Number of levels per side in the checksum.
_CHECKED = 25
#: The routes, and the ends of their addresses.
_ROUTES = RouteAddresses(
    {
        "public": "public",
        "private": "private",
        "business": "business",
        "public_login": "public",
    },
    "/ws/v5/",
)
#: Channels that need a login, by route. A name that ends in a dash stands for all such names.
_PRIVATE = {
    "private": (
        "account",
        "account-greeks",
        "balance_and_position",
        "fills",
        "liquidation-warning",
        "orders",
        "positions",
    ),
    "business": (
        "algo-",
        "copytrading-",
        "deposit-info",
        "economic-calendar",
        "grid-",
        "orders-algo",
        "quotes",
        "rfqs",
        "sprd-orders",
        "sprd-trades",
        "struc-block-trades",
        "withdrawal-info",
    ),
    "public_login": ("books-l2-tbt", "books50-l2-tbt"),
}
#: Channels that need no login, by route.
_PUBLIC = {
    "public": (
        "adl-warning",
        "bbo-tbt",
        "books",
        "books-elp",
        "books5",
        "call-auction-details",
        "estimated-price",
        "event-contract-markets",
        "funding-rate",
        "index-tickers",
        "instruments",
        "liquidation-orders",
        "mark-price",
        "open-interest",
        "opt-summary",
        "option-trades",
        "price-limit",
        "status",
        "tickers",
        "trades",
    ),
    "business": (
        "block-tickers",
        "public-block-trades",
        "public-struc-block-trades",
        "sprd-",
        "trades-all",
    ),
}
_CANDLES = re.compile(r"(?:index-|mark-price-)?candle\w+")
#: Requests about orders, but for spreads.
_ORDERS = frozenset(
    {
        "amend-order",
        "batch-amend-orders",
        "batch-cancel-orders",
        "batch-orders",
        "cancel-order",
        "mass-cancel",
        "order",
    }
)
#: The code of the notice before an upgrade, and the time (s) until then.
_UPGRADE, _UPGRADE_WITHIN = "64008", 60.0


class _Arg(msgspec.Struct, frozen=True, gc=False):
    channel: str
    instId: str | None = None
    sprdId: str | None = None
    instFamily: str | None = None


class _Row(msgspec.Struct, gc=False):
    seqId: int | None = None
    prevSeqId: int | None = None


class _Head(msgspec.Struct, gc=False):
    event: str | None = None
    arg: _Arg | None = None
    action: str = "update"
    data: list[_Row | list[msgspec.Raw]] = []
    id: str | None = None
    code: str = ""
    msg: str = ""
    channel: str = ""
    connCount: str = ""


class _Rows(msgspec.Struct, array_like=True, gc=False):
    first: _Row | list[msgspec.Raw]
    second: _Row | list[msgspec.Raw] | None = None


class _Key(msgspec.Struct, gc=False):
    data: _Rows
    arg: _Arg
    event: str | None = None
    action: str = "update"


class _Book(msgspec.Struct, gc=False):
    asks: list[Row]
    bids: list[Row]
    checksum: int = 0


class _BookFrame(msgspec.Struct, gc=False):
    data: tuple[_Book]
    action: Literal["snapshot", "update"] | None = None


class _Trade(msgspec.Struct, gc=False):
    instId: str
    tradeId: str
    px: Decimal
    sz: Decimal
    side: Literal["buy", "sell"]
    ts: str


class _Ticker(msgspec.Struct, gc=False):
    instId: str
    bidPx: str
    bidSz: str
    askPx: str
    askSz: str


_head = msgspec.json.Decoder(_Head).decode
_trades = msgspec.json.Decoder(Wrapped[list[_Trade]]).decode
_ticker = msgspec.json.Decoder(Wrapped[tuple[_Ticker]]).decode
_book = msgspec.json.Decoder(_BookFrame).decode


class OKXBook(BookFormat):
    """The order books of OKX."""

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        """Return the channel of an order book.

        The default is ``books``, which has 400 levels; ``channel="books5"`` (or another) takes
        its place.
        """
        return f"{options.get('channel', 'books')}:{symbol}"

    def update(self, message: Message) -> BookUpdate | None:
        frame = _book(message.raw)
        (book,) = frame.data
        is_snapshot = frame.action == "snapshot"
        if frame.action is None:
            is_snapshot = message.channel.partition(":")[0].endswith(_WHOLE)
            if not is_snapshot:
                raise ValueError("a book message without an action")
        return BookUpdate(is_snapshot, levels(book.bids), levels(book.asks), book.checksum or None)

    def checksum(self, bids: Levels, asks: Levels) -> int | None:
        sides = (
            [f"{price:f}:{size:f}" for price, size in islice(side, _CHECKED)]
            for side in (bids, asks)
        )
        text = ":".join(level for pair in zip_longest(*sides) for level in pair if level)
        unsigned = zlib.crc32(text.encode())
        return unsigned - (unsigned >> 31 << 32)


class OKXViews(Views):
    """The plain views of OKX."""

    def trades(self, message: Message) -> list[Trade] | None:
        if message.channel.partition(":")[0] not in ("trades", "trades-all", "option-trades"):
            return None
        return [
            Trade(row.instId, row.px, row.sz, row.side, row.tradeId, nanoseconds(row.ts))
            for row in _trades(message.raw).data
        ]

    def quote(self, message: Message) -> Quote | None:
        name, _, symbol = message.channel.partition(":")
        if name == "bbo-tbt":
            (book,) = _book(message.raw).data
            return Quote(symbol, *best(book.bids), *best(book.asks))
        if name != "tickers":
            return None
        (row,) = _ticker(message.raw).data
        bid, ask = amount(row.bidPx), amount(row.askPx)
        return Quote(row.instId, bid, amount(row.bidSz), ask, amount(row.askSz))

    def book_symbol(self, message: Message) -> str | None:
        name, _, symbol = message.channel.partition(":")
        return symbol if name.removeprefix("sprd-").startswith(("books", "bbo-tbt")) else None


class OKX(Dialect):
    """Dialect of OKX v5.

    ``credentials``, for private channels, have ``api_key``, ``secret`` and ``passphrase``. The
    silence timeout is the one after which the venue itself closes.
    """

    name: ClassVar[str] = "okx"
    book = OKXBook()
    views = OKXViews()
    client_order_id = "clOrdId"
    limits = Limits(channels_per_message=50, channels_per_connection=500, connects=(3, 1.0))
    keepalive = ("ping", 20.0)
    silence_timeout = 30.0
    #: Private channels, and rare events: liquidations, block trades, maintenance, delivery.
    quiet_channels = (
        *_PRIVATE["private"],
        *_PRIVATE["business"],
        "adl-warning",
        "block-tickers",
        "estimated-price",
        "liquidation-",
        "public-block-trades",
        "public-struc-block-trades",
        "status",
    )
    timestamp_fields = (("data", 0, "ts"),)
    #: The numbers of a frame with several rows are not read.
    heads = Heads(
        _Key,
        ("event", "arg", "action", "data.second.__class__"),
        [("data.first.prevSeqId", "data.first.seqId")],
    )

    def default_route(self, url: str) -> str:
        return _ROUTES.of(url)

    def route(self, channel: str, url: str) -> str:
        default = self.default_route(url)
        return _route(channel) or default if default else ""

    def request_route(self, payload: Any, url: str) -> str:
        default = self.default_route(url)
        operation = payload.get("op") if isinstance(payload, Mapping) else None
        if not default or not isinstance(operation, str):
            return default
        if operation in _ORDERS:
            return "private"
        return "business" if operation.startswith("sprd-") else default

    def address(self, url: str, route: str) -> str:
        return _ROUTES.address(url, route)

    def logs_in(self, route: str) -> bool:
        return route != "public"

    def needs_credentials(self, channel: str, options: Mapping[str, Any]) -> bool:
        return _among(channel, _PRIVATE) is not None

    def login(self, credentials: Credentials) -> Any:
        timestamp = str(int(credentials.clock()))
        arg = {
            "apiKey": credentials["api_key"],
            "passphrase": credentials["passphrase"],
            "timestamp": timestamp,
            "sign": sign_in_base64(credentials["secret"], f"{timestamp}GET/users/self/verify"),
        }
        return {"op": "login", "args": [arg]}

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        return {"id": str(request_id), "op": verb, "args": [_arg(c, options) for c in channels]}

    def request(self, payload: Any, request_id: int) -> Any:
        return {**payload, "id": f"r{request_id}"}

    def peek(self, frame: bytes) -> Item:
        if frame == b"pong":
            return Heartbeat()
        head = _head(frame)
        if head.id is not None and (ours := _OURS.fullmatch(head.id)):
            return _reply(ours[1], head, frame)
        if head.event is not None:
            return _answer(head)
        if head.arg is None:
            return Unhandled("")
        channel = _channel(head.arg)
        row = head.data[0] if len(head.data) == 1 else None
        if not isinstance(row, _Row) or row.seqId is None or row.prevSeqId is None:
            return Message(channel, head.action)
        follows = None if row.prevSeqId == -1 else row.prevSeqId
        return LinkedMessage(channel, head.action, row.seqId, follows=follows, is_counted=False)


def _reply(request_id: str, head: _Head, frame: bytes) -> Item:
    answer = msgspec.json.decode(frame)
    rows = enumerate(answer.get("data") or ())
    failed = {n: _refusal(row) for n, row in rows if isinstance(row, dict) and _code(row) != "0"}
    if head.event != "error" and not failed and head.code in ("", _PARTLY):
        text = "the answer does not say what has failed"
        return Reply(request_id, answer, text, is_unknown=True)
    reason = None
    if head.event == "error" or head.code not in ("0", _PARTLY):
        reason = next(iter(failed.values()), f"{head.msg} ({head.code})")
    return Reply(request_id, answer, reason, failed or None)


def _code(row: dict[str, Any]) -> str:
    return str(row.get("sCode") or 0)


def _refusal(row: dict[str, Any]) -> str:
    return f"{row.get('sMsg') or 'refused without a reason'} ({_code(row)})"


def _answer(head: _Head) -> Item:
    if head.event in ("subscribe", "unsubscribe"):
        verb: Verb = "subscribe" if head.event == "subscribe" else "unsubscribe"
        return Ack(head.id, _channel(head.arg) if head.arg else None, verb=verb)
    if head.event == "login":
        return LoginAccepted()
    reason = f"{head.msg} ({head.code})"
    if head.event == "error":
        if head.code in _LOGIN_CODES:
            return LoginRefused(reason)
        if named := _NAMED.search(head.msg):
            return Rejection(reason, head.id, _named(*named.groups()))
        if head.id is None and head.code not in _CHANNEL_CODES and "subscri" not in head.msg:
            return Notice(reason)
        return Rejection(reason, head.id, is_one=head.code not in _REQUEST_CODES)
    if head.event == "notice":
        is_end = head.code == _UPGRADE
        return Ending(reason, _UPGRADE_WITHIN) if is_end else Notice(reason)
    if head.event == "channel-conn-count-error":
        reason = f"too many connections for the channel {head.channel!r}: {head.connCount}"
        return Ended(reason, name=head.channel)
    if head.event == "channel-conn-count":
        return Heartbeat()
    return Unhandled(head.event or "")


def _among(channel: str, routes: Mapping[str, Sequence[str]]) -> str | None:
    """Return the route among ``routes`` that has the channel; None if none has."""
    name = channel.partition(":")[0]
    for route, names in routes.items():
        if name in names or any(n[-1] == "-" and name.startswith(n) for n in names):
            return route
    return None


def _route(channel: str) -> str | None:
    """Return the route of a channel; None for an unknown channel."""
    if _CANDLES.fullmatch(channel.partition(":")[0]):
        return "business"
    return _among(channel, _PRIVATE) or _among(channel, _PUBLIC)


def _arg(channel: str, options: Mapping[str, Any]) -> dict[str, Any]:
    name, _, symbol = channel.partition(":")
    arg = {**options, "channel": name}
    if symbol:
        if symbol not in (arg.get("sprdId"), arg.get("instFamily")):
            arg[_field(name, symbol)] = symbol
    elif given := [field for field in _SYMBOLS if field in arg]:
        raise ConfigurationError(
            f"{given[0]} is a part of the channel's name: subscribe to '{name}:{arg[given[0]]}'"
        )
    return arg


def _field(name: str, symbol: str) -> str:
    if name.startswith("sprd-"):
        return "sprdId"
    return "instFamily" if name in _BY_FAMILY and symbol.count("-") < 2 else "instId"


def _channel(arg: _Arg) -> str:
    symbol = arg.instId or arg.sprdId or arg.instFamily
    return f"{arg.channel}:{symbol}" if symbol else arg.channel


def _named(name: str, fields: str) -> str:
    """Return the channel that an error names.

    ``fields`` is its rest, such as ``,instType:OPTION,instFamily:BTC-USD``.
    """
    found = dict(field.split(":", 1) for field in fields.split(",")[1:])
    symbol = next((found[field] for field in _SYMBOLS if field in found), None)
    return f"{name}:{symbol}" if symbol else name
