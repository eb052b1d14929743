"""Binance spot, market data. The module ``binance_futures`` has the futures.

Addresses: ``wss://stream.binance.com:9443``, ``wss://data-stream.binance.vision``. A channel is the
name of a stream (``btcusdt@depth@100ms``, ``btcusdt@bookTicker``). Only a wrapped event carries the
name of its stream. So the address of raw streams (``/ws/...``) is turned into that of combined
streams (``/stream``): raw events of ``@depth`` and ``@depth@100ms`` look the same.

The events of an account, and orders, are at another address: see the module ``binance_ws_api``.

Sources: ``web-socket-streams.md`` of binance/binance-spot-api-docs, unless another is named.

* ``{"result": null, "id": N}`` accepts a whole request. Errors are ``{"code", "msg"}``, some
  without an id. Errors wrapped in ``"error"`` are understood too.
* Limits: 5 messages per second including pings and pongs, and 1024 streams, per connection; 300
  connects in 5 minutes per IP address. There is no limit of connections at a time. More streams are
  refused by the error of code 4, "Too many subscriptions" (seen on the wire: issue 17 of
  oliver-zehentleitner/unicorn-binance-websocket-api); the venue's list of codes has no 4.
* A connection lasts 24 hours. A ``serverShutdown`` event precedes a planned end; how long before,
  the venue does not say (``CHANGELOG.md`` of that repository has withdrawn the 10 minutes that it
  once stated).
* ``@depth`` numbers its updates: a message is the range ``U..u``, and the next one begins with
  ``u + 1``.
* ``!ticker@arr`` was retired on 2026-03-26 (the changelog of that repository).
* An order book begins with a snapshot by REST. A book from a snapshot of 100 levels was seen to go
  wrong within 90 s on BTCUSDT, one of 1000 levels was not (GarethCooke/DepthCharge,
  ``NOTES-binance.md``): the venue sends nothing about levels that do not change. The option
  ``limit`` is the number of levels; the default is the most that the venue gives.
* The update whose ``u`` is the snapshot's ``lastUpdateId`` is dropped (developers.binance.com, "How
  to manage a local order book correctly"; seen on the wire).
* ``m`` of ``aggTrade`` and ``trade`` is true if the buyer is the maker: then the aggressor sells.
  ``T`` is the time of the trade. Sizes are in the base currency. A ``bookTicker`` and a ``ticker``
  have the best bid and ask, the former without a time.
"""

from __future__ import annotations

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
    Item,
    Limits,
    LinkedMessage,
    Message,
    Notice,
    Quote,
    Rejection,
    Reply,
    RestRequest,
    Row,
    Snapshot,
    Trade,
    TradeSide,
    Unhandled,
    Views,
    Wrapped,
    levels,
    nanoseconds,
)

__all__ = [
    "KEY_LENGTH",
    "Binance",
    "BinanceBook",
    "BinanceViews",
    "combined",
    "decode_changes",
    "kind_of",
    "streams_in",
]

_BOOK_OPTIONS = frozenset({"limit", "speed"})
#: A listen key is longer than any name of a stream without an ``@`` (our assumption).
KEY_LENGTH = 40
#: The only codes that can answer a subscribe. The others are about properties and broken JSON.
_INVALID_REQUEST, _TOO_MANY_STREAMS = 2, 4
#: Streams of rare events: liquidations, and new and changed contracts.
_QUIET = frozenset({"contractInfo", "forceOrder"})
_ESCAPES = {"%21": "!", "%2F": "/", "%2f": "/", "%40": "@"}


class _Frame(msgspec.Struct, gc=False):
    """A wrapped event, an answer, or an event that comes unwrapped."""

    stream: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    event: Any = msgspec.field(default=None, name="e")


class _Numbers(msgspec.Struct, gc=False):
    """The numbers of an update of a book, spot and futures; other events have other fields."""

    first: Any = msgspec.field(default=None, name="U")
    last: Any = msgspec.field(default=None, name="u")
    previous: Any = msgspec.field(default=None, name="pu")


class _Head(msgspec.Struct, gc=False):
    stream: str | None = None
    data: _Numbers | list[msgspec.Raw] | None = None
    event: str | None = msgspec.field(default=None, name="e")


class _Update(msgspec.Struct, gc=False):
    first: int = msgspec.field(name="U")
    last: int = msgspec.field(name="u")


class _Changes(msgspec.Struct, gc=False):
    event: Literal["depthUpdate"] = msgspec.field(name="e")
    bids: list[Row] = msgspec.field(name="b")
    asks: list[Row] = msgspec.field(name="a")


class _Book(msgspec.Struct, gc=False):
    """A snapshot by REST."""

    sequence: int = msgspec.field(name="lastUpdateId")
    bids: list[Row]
    asks: list[Row]


class _Wrapped(msgspec.Struct, gc=False):
    data: _Changes


class _Top(msgspec.Struct, gc=False):
    """A message of partial depth, which is always complete."""

    bids: list[Row]
    asks: list[Row]


class _WrappedTop(msgspec.Struct, gc=False):
    data: _Top


class _Trade(msgspec.Struct, gc=False):
    symbol: str = msgspec.field(name="s")
    price: Decimal = msgspec.field(name="p")
    size: Decimal = msgspec.field(name="q")
    time: int = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")
    aggregate: int | None = msgspec.field(default=None, name="a")
    id: int | None = msgspec.field(default=None, name="t")


class _Ticker(msgspec.Struct, gc=False):
    symbol: str = msgspec.field(name="s")
    bid_price: Decimal = msgspec.field(name="b")
    bid_size: Decimal = msgspec.field(name="B")
    ask_price: Decimal = msgspec.field(name="a")
    ask_size: Decimal = msgspec.field(name="A")


_frame = msgspec.json.Decoder(_Frame).decode
_update = msgspec.json.Decoder(_Update).decode
decode_changes = msgspec.json.Decoder(_Wrapped).decode
_top = msgspec.json.Decoder(_WrappedTop).decode
_trade = msgspec.json.Decoder(Wrapped[_Trade]).decode
_ticker = msgspec.json.Decoder(Wrapped[_Ticker]).decode


class BinanceBook(BookFormat):
    """The order books of Binance spot, with snapshots from ``rest``."""

    #: The most levels per side that the venue's REST snapshot of a book has.
    max_levels: ClassVar[int] = 5000

    def __init__(self, rest: str) -> None:
        self._rest = rest

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        return f"{symbol.lower()}@depth@{options.get('speed', '100ms')}"

    def update(self, message: Message) -> BookUpdate | None:
        kind = kind_of(message.channel)
        if not kind.startswith("depth"):
            return None
        if kind == "depth":
            changes = decode_changes(message.raw).data
            return BookUpdate(False, levels(changes.bids), levels(changes.asks))
        top = self._partial(message.raw)
        return BookUpdate(True, levels(top.bids), levels(top.asks))

    def _partial(self, raw: bytes) -> Any:
        """Return the decoded event of partial depth."""
        return _top(raw).data

    def request(self, channel: str, options: Mapping[str, Any]) -> RestRequest | None:
        if kind_of(channel) != "depth":
            return None
        limit = options.get("limit", self.max_levels)
        symbol = channel.partition("@")[0].upper()
        return RestRequest(self._rest, {"symbol": symbol, "limit": str(limit)})

    def snapshot(self, channel: str, answer: Any) -> Snapshot:
        book = msgspec.convert(answer, _Book)
        return Snapshot(book.sequence, levels(book.bids), levels(book.asks))


class BinanceViews(Views):
    """The plain views of Binance; ``tickers`` are the streams with the best bid and ask."""

    def __init__(self, *tickers: str) -> None:
        self._tickers = frozenset(tickers)

    def trades(self, message: Message) -> list[Trade] | None:
        kind = kind_of(message.channel)
        if kind not in ("aggTrade", "trade"):
            return None
        row = _trade(message.raw).data
        number = row.aggregate if kind == "aggTrade" else row.id
        side: TradeSide = "sell" if row.buyer_is_maker else "buy"
        time = nanoseconds(row.time)
        return [
            Trade(
                row.symbol, row.price, row.size, side, None if number is None else str(number), time
            )
        ]

    def quote(self, message: Message) -> Quote | None:
        if kind_of(message.channel) not in self._tickers:
            return None
        row = _ticker(message.raw).data
        return Quote(row.symbol, row.bid_price, row.bid_size, row.ask_price, row.ask_size)

    def book_symbol(self, message: Message) -> str | None:
        symbol, _, stream = message.channel.partition("@")
        return symbol.upper() if stream.startswith("depth") else None


class Binance(Dialect):
    """Dialect of Binance spot.

    ``rest`` is the URL from which snapshots of order books are requested. The venue counts pings
    and pongs too, so one of its five messages per second is left for them. Batches of 100
    channels are our choice.
    """

    name: ClassVar[str] = "binance"
    client_order_id = "newClientOrderId"
    limits = Limits(
        channels_per_message=100,
        messages_per_second=4.0,
        channels_per_connection=1024,
        connects=(300, 300.0),
        max_age=86_400.0 - 300.0,
    )
    timestamp_fields: Sequence[tuple[str | int, ...]] = (("data", "E"), ("data", 0, "E"))
    heads = Heads(_Head, ("stream", "event"), [("data.first", "data.last")])
    views = BinanceViews("bookTicker", "!bookTicker", "ticker")
    takes_credentials = False
    #: Streams that the venue no longer sends, and what to use instead.
    retired: ClassVar[Mapping[str, str]] = {"!ticker@arr": "!miniTicker@arr"}

    def __init__(self, *, rest: str = "https://api.binance.com/api/v3/depth") -> None:
        self.book: BookFormat = BinanceBook(rest)

    def url(self, url: str, credentials: Credentials | None) -> str:
        base, query = combined(url)
        for stream in streams_in(query):
            # Anything else may be a listen key, which no error may quote.
            reason = self.refusal(stream, base) if _is_stream(stream) else None
            if reason is not None:
                raise ConfigurationError(f"the address names {stream!r}: {reason}")
        return f"{base}/stream?{query}" if query else f"{base}/stream"

    def first_message_within(self, channel: str) -> float | None:
        words = channel.lstrip("!").split("@")
        is_account = len(words) == 1 and len(channel) >= KEY_LENGTH
        is_quiet = is_account or not _QUIET.isdisjoint(words)
        return None if is_quiet else super().first_message_within(channel)

    def refusal(self, channel: str, address: str) -> str | None:
        if instead := self.retired.get(channel):
            return f"Binance has retired this stream: use {instead!r}"
        symbol = channel.partition("@")[0]
        if symbol != symbol.lower() and not channel.startswith("!"):
            return "Binance's stream names have a lowercase symbol"
        return None

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        if unknown := sorted(options.keys() - _BOOK_OPTIONS):
            raise ConfigurationError(
                f"Binance subscriptions have no option {unknown[0]!r}, only 'limit' and 'speed' "
                "for order books"
            )
        return {"method": verb.upper(), "params": list(channels), "id": request_id}

    def request(self, payload: Any, request_id: int) -> Any:
        return {**payload, "id": request_id}

    def peek(self, frame: bytes) -> Item | Sequence[Item]:
        head = _frame(frame)
        stream = head.stream
        if head.event == "serverShutdown" or stream == "!serverShutdown":
            return Ending("this server will shut down soon")
        if stream is None:
            return self._unwrapped(head.event, frame)
        kind = kind_of(stream)
        return self._depth(stream, head.data) if kind == "depth" else Message(stream, kind)

    def _unwrapped(self, event: Any, frame: bytes) -> Item | Sequence[Item]:
        return _answer(msgspec.json.decode(frame))

    def _depth(self, stream: str, data: msgspec.Raw) -> Message:
        update = _update(data)
        return LinkedMessage(stream, "depth", update.last, follows=update.first - 1)


def kind_of(stream: str) -> str:
    """Return ``depth`` for ``btcusdt@depth@100ms``, and the whole name if it has no symbol."""
    parts = stream.split("@")
    return parts[1] if len(parts) > 1 else stream


def combined(url: str) -> tuple[str, str]:
    """Return the part before ``/stream`` of the address of combined streams, and its query."""
    address, _, query = url.partition("?")
    scheme, _, place = address.rstrip("/").partition("://")
    place, raw, streams = place.partition("/ws/")
    if raw:
        query = f"streams={streams}{'&' if query else ''}{query}"
    return f"{scheme}://{place.removesuffix('/stream').removesuffix('/ws')}", query


def streams_in(query: str) -> list[str]:
    """Return the names of the streams in a query."""
    for escape, character in _ESCAPES.items():
        query = query.replace(escape, character)
    lists = [part.removeprefix("streams=") for part in query.split("&") if part[:8] == "streams="]
    return [name for names in lists for name in names.split("/") if name]


def _is_stream(name: str) -> bool:
    return "@" in name or name.startswith("!")


def _answer(answer: dict[str, Any]) -> Item | Sequence[Item]:
    """Return an answer both as one to a subscribe and as one to a request: the id decides."""
    request_id = answer.get("id")
    error = answer.get("error", answer if "code" in answer else None)
    if error is not None:
        code = error.get("code")
        reason = f"{error.get('msg')} (code {code})"
        if request_id is None and code not in (_INVALID_REQUEST, _TOO_MANY_STREAMS):
            return Notice(reason)
        refusal = Rejection(reason, request_id, is_limit=code == _TOO_MANY_STREAMS)
        return refusal if request_id is None else [refusal, Reply(request_id, answer, reason)]
    if request_id is None:
        return Unhandled(str(answer.get("e", "")))
    return [Ack(request_id), Reply(request_id, answer)]
