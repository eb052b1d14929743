"""Kraken spot, WebSocket API v2: ``wss://ws.kraken.com/v2``.

A channel is ``name:SYMBOL`` (``ticker:BTC/USD``, ``book:ETH/USD``), or a bare name where Kraken
takes no symbol (``instrument``). Options of ``subscribe`` become its params (``depth=100``,
``snapshot=False``).

Three addresses are the routes ``public`` (``wss://ws.kraken.com/v2``), ``auth``
(``wss://ws-auth.kraken.com/v2``) and ``l3`` (``wss://ws-l3.kraken.com/v2``), and one client has
channels of all. Behind another host, ``ws``, ``ws-auth`` and ``ws-l3`` may be the part of the path
before ``/v2``, as in ``wss://proxy.example/ws/v2``. Any other address has one route.

Sources, under docs.kraken.com/api/docs/websocket-v2:

* One message takes one channel name and a list of symbols, and is acknowledged once per symbol.
  Partial failures carry the symbol; a refused depth carries only ``req_id`` (pages ``book``,
  ``ticker``; the latter seen on the wire).
* An unsubscribe needs the same params as the subscribe, including ``depth`` (page ``book``).
* ``{"channel":"heartbeat"}`` comes about once per second while anything is subscribed (page
  ``heartbeat``), and not otherwise. So the client sends a ``ping`` (page ``ping``), which also
  keeps the venue from closing an idle connection after a minute. The silence timeout of 15 s is
  our choice.
* Book messages carry no sequence number, but a checksum of the ten best levels of each side, asks
  first: the CRC32 of the digits of price and size, without the point and leading zeros. No removal
  is sent for levels that fall out of the subscribed depth (guide ``book-checksum-v2``).
* ``side`` of a trade is that of the taker (page ``trade``). Sizes are in the base currency. A
  snapshot has the last trades before the subscribe; an update of ``ticker`` has all fields.
* About 150 connects in a rolling 10 minutes per IP address; the hosts of the routes, and the beta
  hosts of ``public`` and ``auth`` (guide ``spot-ws-intro``). 200 symbols of ``level3`` per
  connection (page ``level3``, which also names its host). No other limit of channels, of
  connections or of a connection's age is documented, nor how more channels are refused.
* Private channels need a token (pages ``executions``, ``balances``, ``level3``), to be used within
  15 minutes (REST page ``get-websockets-token``). The request for it is signed (guide
  ``spot-rest-auth``), and may be refused with HTTP 200 (guide ``errors``). So do orders, which are
  sent to ``auth`` (page ``add_order``). The orders of a ``batch_add`` may fail one by one (page
  ``batch_add``), and a ``cancel_order`` has one answer for each order (page ``cancel_order``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Literal
from zlib import crc32

import msgspec

from wsclient.dialect import (
    Ack,
    AuthenticationError,
    BookFormat,
    BookUpdate,
    ConfigurationError,
    Credentials,
    Dialect,
    HandshakeRejected,
    Heads,
    Heartbeat,
    Item,
    Levels,
    Limits,
    Message,
    Notice,
    Quote,
    Rejection,
    Reply,
    RestRequest,
    RouteAddresses,
    Trade,
    Unhandled,
    Views,
    Wrapped,
    find_timestamp,
    from_base64,
    nanoseconds,
    sign_in_base64,
)

__all__ = ["Kraken", "KrakenBook", "KrakenViews"]

_FILTERED = frozenset({"heartbeat", "status"})
#: Channels that are subscribed to by symbol; any other carries all symbols.
_BY_SYMBOL = frozenset({"book", "level3", "ohlc", "ticker", "trade"})
#: The routes of private channels, and the requests for ``auth``.
_ROUTE_OF = {"balances": "auth", "executions": "auth", "level3": "l3"}
_ORDERS = frozenset(
    {
        "add_order",
        "amend_order",
        "batch_add",
        "batch_cancel",
        "cancel_all",
        "cancel_all_orders_after",
        "cancel_order",
        "edit_order",
    }
)
_PARTS = {"public": "ws", "auth": "ws-auth", "l3": "ws-l3"}
#: The addresses of the venue, the beta included, and of its proxies.
_HOSTS = RouteAddresses(
    _PARTS, before=r"(?i:wss?)://(?:beta-)?", behind=r"(?i:\.kraken\.com)(?:[:/?].*)?"
)
_PATHS = RouteAddresses(
    _PARTS, before=r"(?i:wss?)://[^/?#]+/(?:[^?#]*/)?", behind=r"/v2/?(?:\?.*)?"
)
#: The room of the route ``l3``.
_MOST_BY_ORDER = 200
_TOKEN_PATH = "/0/private/GetWebSocketsToken"
#: Errors that another attempt cannot mend. After several of them Kraken locks the account for a
#: while.
_REFUSED = ("EAPI:Invalid key", "EAPI:Invalid signature", "EGeneral:Permission denied")
#: No other text of the venue appears in errors: it might quote the request.
_ERRORS = (
    *_REFUSED,
    "EAPI:Invalid nonce",
    "EAPI:Rate limit exceeded",
    "EGeneral:Temporary lockout",
    "EService:Unavailable",
)


class _Row(msgspec.Struct, gc=False):
    symbol: str | None = None


class _Head(msgspec.Struct, gc=False):
    channel: str | None = None
    type: str = ""
    data: list[_Row] | _Row = []


_head = msgspec.json.Decoder(_Head).decode


class _Symbol(msgspec.Struct, frozen=True, gc=False):
    symbol: str | None = None


class _Key(msgspec.Struct, gc=False):
    channel: str | None = None
    type: str = ""
    # Bounded: what frames with many rows mean is not remembered, since their keys are as long.
    data: _Symbol | Annotated[tuple[_Symbol, ...], msgspec.Meta(max_length=32)] | None = None
    method: str | None = None


class _Level(msgspec.Struct, gc=False):
    price: Decimal
    qty: Decimal


class _Book(msgspec.Struct, gc=False):
    bids: list[_Level]
    asks: list[_Level]
    checksum: int | None = None


class _BookFrame(msgspec.Struct, gc=False):
    data: list[_Book]


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: Decimal
    qty: Decimal
    trade_id: int
    timestamp: str


class _Ticker(msgspec.Struct, gc=False):
    symbol: str
    bid: Decimal
    bid_qty: Decimal
    ask: Decimal
    ask_qty: Decimal


_book_frame = msgspec.json.Decoder(_BookFrame).decode
_rows = msgspec.json.Decoder(Wrapped[list[msgspec.Raw]]).decode
_trade = msgspec.json.Decoder(_Trade).decode
_ticker = msgspec.json.Decoder(_Ticker).decode


class KrakenBook(BookFormat):
    """The order books of Kraken."""

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        return f"book:{symbol}"

    def depth(self, options: Mapping[str, Any]) -> int | None:
        depth = options.get("depth", 10)
        if type(depth) is not int or depth < 1:
            raise ConfigurationError(f"depth must be a whole number from 1 up, not {depth!r}")
        return depth

    def update(self, message: Message) -> BookUpdate | None:
        if message.item is None:
            raise ValueError("a book message without a row")
        if message.type not in ("snapshot", "update"):
            raise ValueError(f"a book message of the unknown type {message.type!r}")
        row = _book_frame(message.raw).data[message.item]
        return BookUpdate(
            message.type == "snapshot",
            [(level.price, level.qty) for level in row.bids],
            [(level.price, level.qty) for level in row.asks],
            row.checksum,
        )

    def checksum(self, bids: Levels, asks: Levels) -> int | None:
        digits = [_digits(n) for side in (asks, bids) for level in islice(side, 10) for n in level]
        return crc32("".join(digits).encode())


class KrakenViews(Views):
    """The plain views of Kraken; a message is one row of a frame."""

    def trades(self, message: Message) -> list[Trade] | None:
        if message.channel.partition(":")[0] != "trade":
            return None
        if message.item is None:
            return []  # a frame without rows
        row = _trade(_rows(message.raw).data[message.item])
        time, is_snapshot = nanoseconds(row.timestamp), message.type == "snapshot"
        number = str(row.trade_id)
        return [Trade(row.symbol, row.price, row.qty, row.side, number, time, is_snapshot)]

    def quote(self, message: Message) -> Quote | None:
        if message.channel.partition(":")[0] != "ticker" or message.item is None:
            return None
        row = _ticker(_rows(message.raw).data[message.item])
        return Quote(row.symbol, row.bid, row.bid_qty, row.ask, row.ask_qty)

    def book_symbol(self, message: Message) -> str | None:
        name, _, symbol = message.channel.partition(":")
        return symbol if name == "book" else None


class Kraken(Dialect):
    """Dialect of Kraken spot, API v2.

    Batches of at most 100 symbols per message are our choice: Kraken states no limit there.

    ``credentials`` have ``api_key`` and ``secret``: with them a token is requested before each
    connect to a route that needs one, at the address ``rest``. Private channels are
    ``executions``, ``balances`` and ``level3``.
    """

    name: ClassVar[str] = "kraken"
    book = KrakenBook()
    views = KrakenViews()
    quiet_channels = ("balances", "executions")
    client_order_id = "cl_ord_id"
    limits = Limits(channels_per_message=100, connects=(150, 600.0))
    silence_timeout = 15.0
    timestamp_fields = (("data", 0, "timestamp"),)
    keepalive = ({"method": "ping"}, 10.0)
    heads = Heads(_Key, ("method", "channel", "type", "data"))

    def __init__(self, *, rest: str = "https://api.kraken.com") -> None:
        self._rest = rest

    def default_route(self, url: str) -> str:
        return _HOSTS.of(url) or _PATHS.of(url)

    def route(self, channel: str, url: str) -> str:
        route = _ROUTE_OF.get(self.group(channel), "public") if self.default_route(url) else ""
        if route == "l3" and "://beta-" in url:
            raise ConfigurationError(
                "Kraken has no beta address for level3: use wss://ws-l3.kraken.com/v2"
            )
        return route

    def request_route(self, payload: Any, url: str) -> str:
        default = self.default_route(url)
        method = payload.get("method") if isinstance(payload, Mapping) else None
        is_order = isinstance(method, str) and method in _ORDERS
        return "auth" if default and is_order else default

    def address(self, url: str, route: str) -> str:
        routes = _HOSTS if _HOSTS.of(url) else _PATHS
        return routes.address(url, route)

    def room(self, route: str) -> int | None:
        return _MOST_BY_ORDER if route == "l3" else super().room(route)

    def needs_credentials(self, channel: str, options: Mapping[str, Any]) -> bool:
        return self.group(channel) in _ROUTE_OF and "token" not in options

    def url_request(self, url: str, credentials: Credentials | None) -> RestRequest | None:
        if credentials is None or self.default_route(url) == "public":
            return None
        nonce = int(credentials.clock() * 1000)
        body = f"nonce={nonce}"
        digest = hashlib.sha256(f"{nonce}{body}".encode()).digest()
        secret = from_base64(credentials["secret"])
        headers = {
            "API-Key": credentials["api_key"],
            "API-Sign": sign_in_base64(secret, _TOKEN_PATH.encode() + digest, "sha512"),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return RestRequest(f"{self._rest}{_TOKEN_PATH}", {}, "POST", headers, body)

    def token_from(self, answer: Any) -> Any:
        if errors := answer.get("error"):
            reason = next((e for e in _ERRORS if str(errors[0]).startswith(e)), "no known reason")
            text = f"Kraken refused the token for private channels: {reason}"
            raise AuthenticationError(text) if reason in _REFUSED else HandshakeRejected(text, 200)
        return answer["result"]["token"]

    def access(self, channels: Sequence[str], credentials: Credentials) -> Mapping[str, Any]:
        is_private = self.group(channels[0]) in _ROUTE_OF
        return {"token": credentials.token} if is_private else {}

    def authorize(self, payload: Any, credentials: Credentials) -> Any:
        """Return a request about orders with the token of the connection, unless it has one."""
        method = payload.get("method") if isinstance(payload, Mapping) else None
        if method not in _ORDERS or credentials.token is None:
            return payload
        return {**payload, "params": {"token": credentials.token, **payload.get("params", {})}}

    def group(self, channel: str) -> Any:
        return channel.partition(":")[0]

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        params: dict[str, Any] = {"channel": channels[0].partition(":")[0]}
        symbols = [symbol for _, _, symbol in (c.partition(":") for c in channels) if symbol]
        if symbols:
            params["symbol"] = symbols
        params.update(options)
        return {"method": verb, "params": params, "req_id": request_id}

    def request(self, payload: Any, request_id: int) -> Any:
        return {**payload, "req_id": request_id}

    def answers(self, payload: Any) -> int:
        """Return the number of orders of a ``cancel_order``: each has an answer of its own."""
        params = payload.get("params") if isinstance(payload, Mapping) else None
        if not isinstance(params, Mapping) or payload.get("method") != "cancel_order":
            return 1
        ids = [params.get(name) for name in ("order_id", "cl_ord_id", "order_userref")]
        return max([1, *(len(values) for values in ids if isinstance(values, (list, tuple)))])

    def read(self, message: Any) -> Item | Sequence[Item]:
        if "method" in message:
            return self._answer(message)
        name = message.get("channel")
        if name is not None and not isinstance(name, str):
            raise TypeError("'channel' is not text")
        if name is None:
            error = message.get("error")
            return Unhandled("") if error is None else Notice(str(error))
        if name in _FILTERED:
            return Heartbeat()
        return _messages(name, message.get("type", ""), message.get("data"), _symbol_of)

    def peek(self, frame: bytes) -> Item | Sequence[Item]:
        head = _head(frame)
        if head.channel not in _BY_SYMBOL:
            return self.read(msgspec.json.decode(frame))
        return _messages(head.channel, head.type, head.data, _symbol)

    def timestamp(self, message: Message) -> int | None:
        if message.channel.startswith("ohlc:"):  # the time in its rows is the end of the candle
            return find_timestamp(message.raw, (("timestamp",),))
        # The trades of a snapshot were made long ago.
        return None if message.type == "snapshot" else super().timestamp(message)

    def item(self, decoded: Any, index: int) -> Any:
        return decoded["data"][index]

    def _answer(self, answer: dict[str, Any]) -> Item:
        request_id = answer.get("req_id")
        success = answer.get("success")
        refused = success is False or (success is not True and bool(answer.get("error")))
        reason = str(answer.get("error") or "refused without a reason")
        if answer["method"] not in ("subscribe", "unsubscribe"):
            if request_id is None and refused:
                return Notice(reason)  # of a message that was sent without an id
            failed = _failed(answer.get("result")) or None
            return Reply(request_id, answer, reason if refused else None, failed)
        result = answer.get("result") or {}
        channel = _channel(result["channel"], result.get("symbol")) if "channel" in result else None
        if refused:
            symbol = answer.get("symbol")
            return Rejection(reason, request_id, channel, symbol, verb=answer["method"])
        return Ack(request_id, channel, verb=answer["method"])


def _failed(result: Any) -> dict[int, str]:
    """Return the orders of a ``batch_add`` that were refused, though the batch was accepted."""
    orders = result.get("orders") if isinstance(result, dict) else result
    rows = enumerate(orders if isinstance(orders, list) else [])
    return {n: str(row["error"]) for n, row in rows if isinstance(row, dict) and row.get("error")}


def _digits(number: Decimal) -> str:
    return f"{number:f}".replace(".", "").lstrip("0")


_symbol = attrgetter("symbol")


def _symbol_of(row: Any) -> Any:
    return row.get("symbol")


def _messages(
    name: str, kind: str, rows: Any, symbol: Callable[[Any], Any]
) -> Message | list[Message]:
    """Return one message per row of a frame, or one for all of it if its rows have no symbol."""
    if name not in _BY_SYMBOL or not rows or isinstance(rows, (dict, _Row)):
        return Message(name, kind)
    if not isinstance(rows, list):
        raise TypeError("'data' is not a list of rows")
    if len(rows) == 1:
        return Message(_channel(name, symbol(rows[0])), kind, None, 0)
    return [Message(_channel(name, symbol(row)), kind, None, i) for i, row in enumerate(rows)]


def _channel(name: str, symbol: str | None) -> str:
    return f"{name}:{symbol}" if symbol else name
