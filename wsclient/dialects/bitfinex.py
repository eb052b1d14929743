"""Bitfinex, WebSocket API v2: ``wss://api-pub.bitfinex.com/ws/2``.

A channel is ``name:SYMBOL`` (``book:tBTCUSD``, ``trades:tETHUSD``), or ``name:KEY`` for
``candles`` and ``status`` (``candles:trade:1m:tBTCUSD``). Options of ``subscribe`` become its
fields (``prec="P0"``, ``freq="F0"``, ``len="25"``). With credentials, at
``wss://api.bitfinex.com/ws/2``, the channel ``account`` arrives without a subscription.

Sources, under docs.bitfinex.com/docs unless another is named:

* A message takes one channel. The ``subId`` sent is echoed (bitfinex-api-py). Data carries only the
  number that the answer gave to the channel, and an unsubscribe must carry it too (page
  ``ws-general``).
* The answers to 21 subscribes took 13 s on the wire: an ``ack_timeout`` below 20 s is too short.
* ``conf`` flags: 65536 numbers each data frame and heartbeat of the connection, behind the payload
  (seen on the wire); 131072 sends a checksum after each update of a book (page
  ``ws-websocket-checksum``).
* A channel sends a heartbeat after 15 s without data (seen on the wire). Our choices: the ping,
  which is for a connection without channels, and 45 s of silence as the sign of a dead connection.
  That a ``ping`` is answered, with its ``cid``, is not confirmed.
* Sizes of books are absolute, a count of 0 removes a level (page ``ws-public``). A level that falls
  out of ``len`` is removed too (seen on the wire).
* The error of a subscribe repeats the ``channel``, with or without the symbol, and with or without
  ``subId`` (seen on the wire).
* Codes: 10001, 10300 to 10302, 10305, which says that a connection has as many channels as it may
  have, and 10400 (page ``ws-general``). The others of 10300 to 10499 are not confirmed.
* Info 20051 announces that the server stops or restarts, and asks for another connection; it states
  no time. 20060 and 20061 are the begin and the end of maintenance, during which the connection
  stays: they are logged (page ``ws-general``).
* 25 channels per connection (page ``ws-public``), of which one is the account after a login (page
  ``ws-general``); 5 connects in 15 s (page ``ws-auth``; this keeps within the 20 per minute of
  ``ws-public``). No limit of connections is documented.
* Two connections give a channel different numbers, and number their frames independently.
* A trade is sent twice, as ``te`` and then as ``tu``, with equal fields (seen on the wire): its
  trades are those of ``te``. A positive amount was bought and a negative one sold, by the order
  that caused the trade (page ``ws-public-trades``). Amounts are in the base currency. The sizes of
  a ``ticker`` are sums over 25 levels, not those of the best bid and ask (page
  ``rest-public-ticker``). The same channels of funding, whose symbols begin with ``f``, have other
  fields, which are not read. That a price of ten digits in a book is the number of an order, of a
  channel with ``prec="R0"``, is our assumption.
* ``auth``, and the account's channel 0: page ``ws-auth``. The answer to it, and that frames of
  channel 0 carry a number of their own behind that of the connection: the client bitfinex-api-node.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import islice, zip_longest
from typing import Any, ClassVar

import msgspec

from wsclient.dialect import (
    Ack,
    BookFormat,
    BookUpdate,
    ConfigurationError,
    Counted,
    Credentials,
    Dialect,
    Ending,
    Heads,
    Heartbeat,
    Item,
    Levels,
    Limits,
    LoginAccepted,
    LoginRefused,
    Message,
    Notice,
    NotSupported,
    Quote,
    Rejection,
    Reply,
    Trade,
    Unhandled,
    Views,
    nanoseconds,
    sign,
)

__all__ = ["Bitfinex", "BitfinexBook", "BitfinexViews"]

_SEQ_ALL, _OB_CHECKSUM = 65536, 131072
#: Channels that are named by a key instead of a symbol.
_BY_KEY = frozenset({"candles", "status"})
#: The name for the channel of number 0.
_ACCOUNT = "account"
_SUBSCRIBED_ALREADY = 10301
#: The connection has as many channels as it may have.
_FULL = 10305
#: The server stops or restarts.
_RESTARTS = 20051
#: Number of levels per side in the checksum.
_CHECKED = 25
#: Numbers of orders are higher, and prices lower.
_ORDER = 10**9

_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode
_integer = msgspec.json.Decoder(int, strict=True).decode
_text = msgspec.json.Decoder(str).decode


class _Word(enum.Enum):
    """The kinds of messages that are written in words, of those that come often."""

    TRADE_EXECUTED = "te"
    TRADE_UPDATED = "tu"
    CHECKSUM = "cs"


class _Update(msgspec.Struct, array_like=True, gc=False):
    """The payload of any other message but a snapshot, whose first element is an array."""

    first: float | str | None
    value: ClassVar[str] = "update"


class _Key(msgspec.Struct, array_like=True, gc=False):
    number: int
    payload: _Word | _Update
    third: int | list[msgspec.Raw] | None = None
    fourth: int | None = None


class _Row(msgspec.Struct, array_like=True, gc=False):
    """A level of a book. Further fields are ignored: the venue may add some at the end."""

    price: Decimal
    count: int
    amount: Decimal


class _Trade(msgspec.Struct, array_like=True, gc=False):
    id: int
    time: int
    amount: Decimal
    price: Decimal


class _Ticker(msgspec.Struct, array_like=True, gc=False):
    bid_price: Decimal | None
    bid_sizes: Decimal | None
    ask_price: Decimal | None


_row = msgspec.json.Decoder(_Row).decode
_rows = msgspec.json.Decoder(list[_Row]).decode
_trade = msgspec.json.Decoder(_Trade).decode
_trades = msgspec.json.Decoder(list[_Trade]).decode
_ticker = msgspec.json.Decoder(_Ticker).decode


class BitfinexBook(BookFormat):
    """The order books of Bitfinex."""

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        if options.get("prec") == "R0":
            raise NotSupported("prec='R0' is a list of orders, not an order book of price levels")
        return f"book:{symbol}"

    def update(self, message: Message) -> BookUpdate | None:
        parts = _parts(message.raw)
        if message.type == "checksum":
            return BookUpdate(False, [], [], _integer(parts[2]))
        is_snapshot = message.type == "snapshot"
        bids: list[tuple[Decimal, Decimal]] = []
        asks: list[tuple[Decimal, Decimal]] = []
        for row in _rows(parts[1]) if is_snapshot else [_row(parts[1])]:
            if row.price >= _ORDER:
                raise ValueError("a list of orders, as of prec='R0', not an order book")
            side = bids if row.amount > 0 else asks
            side.append((row.price, row.amount.copy_abs() if row.count else Decimal(0)))
        return BookUpdate(is_snapshot, bids, asks)

    def checksum(self, bids: Levels, asks: Levels) -> int | None:
        """Return the checksum as a signed number, over bids and asks in alternation."""
        # Unlike copy_negate, the minus operator rounds to the program's decimal context.
        negative = ((price, size.copy_negate()) for price, size in islice(asks, _CHECKED))
        both = zip_longest(islice(bids, _CHECKED), negative)
        levels: Iterable[tuple[Decimal, Decimal]] = filter(None, (x for pair in both for x in pair))
        text = ":".join(javascript_number(number) for level in levels for number in level)
        checksum = zlib.crc32(text.encode())
        return checksum - 2**32 if checksum >= 2**31 else checksum


class BitfinexViews(Views):
    """The plain views of Bitfinex."""

    def trades(self, message: Message) -> list[Trade] | None:
        symbol = _symbol("trades", message)
        if symbol is None or message.type not in ("te", "tu", "snapshot"):
            return None
        if message.type == "tu":
            return []  # its ``te`` has come
        parts = _parts(message.raw)
        is_snapshot = message.type == "snapshot"
        return [
            Trade(
                symbol,
                row.price,
                row.amount.copy_abs(),
                "buy" if row.amount > 0 else "sell",
                str(row.id),
                nanoseconds(row.time),
                is_snapshot,
            )
            for row in (_trades(parts[1]) if is_snapshot else [_trade(parts[2])])
        ]

    def quote(self, message: Message) -> Quote | None:
        symbol = _symbol("ticker", message)
        if symbol is None or message.type != "update":
            return None
        ticker = _ticker(_parts(message.raw)[1])
        return Quote(symbol, ticker.bid_price, None, ticker.ask_price, None)

    def book_symbol(self, message: Message) -> str | None:
        return _symbol("book", message)


def _symbol(name: str, message: Message) -> str | None:
    """Return the symbol of a channel of this name; None for another channel, and for funding."""
    found, _, symbol = message.channel.partition(":")
    return symbol if found == name and symbol.startswith("t") else None


class Bitfinex(Dialect):
    """Dialect of Bitfinex, API v2.

    ``sequences`` has the venue number all frames; ``checksums`` has it send checksums of order
    books. ``credentials``, for the account, have ``api_key`` and ``secret``.
    """

    name: ClassVar[str] = "bitfinex"
    book = BitfinexBook()
    views = BitfinexViews()
    quiet_channels = ("status:liq:",)
    client_order_id = "cid"
    limits = Limits(channels_per_connection=25, connects=(5, 15.0))
    silence_timeout = 45.0
    heads = Heads(_Key, ("number", "payload.value"), counts=("third", "fourth"))
    keepalive = ({"event": "ping"}, 15.0)

    def __init__(self, *, sequences: bool = True, checksums: bool = True) -> None:
        self._counts = sequences
        flags = _SEQ_ALL * sequences + _OB_CHECKSUM * checksums
        if flags:
            self.opening = [{"event": "conf", "flags": flags}]

    def login(self, credentials: Credentials) -> Any:
        nonce = str(int(credentials.clock() * 1e6))
        payload = f"AUTH{nonce}"
        return {
            "event": "auth",
            "apiKey": credentials["api_key"],
            "authSig": sign(credentials["secret"], payload, "sha384").hex(),
            "authPayload": payload,
            "authNonce": nonce,
        }

    def subscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        (channel,) = channels
        name, _, symbol = channel.partition(":")
        message = {"event": "subscribe", "channel": name, "subId": str(request_id)}
        if symbol:
            message["key" if name in _BY_KEY else "symbol"] = symbol
        if clash := sorted(message.keys() & options.keys()):
            raise ConfigurationError(f"the option {clash[0]!r} is a field of the protocol's own")
        return {**message, **options}

    def unsubscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        (alias,) = channels
        if not alias.startswith("#"):
            raise NotSupported(
                f"cannot unsubscribe from {alias!r} yet: Bitfinex has not given its number"
            )
        return {"event": "unsubscribe", "chanId": int(alias[1:])}

    def request(self, payload: Any, request_id: int) -> Any:
        """Return ``payload`` with our id as ``cid``, which only a ``ping`` takes."""
        return {**payload, "cid": request_id}

    def identity(self, message: Message) -> Hashable:
        """Return the payload, without the number of the channel and those of the connection."""
        parts = [bytes(part) for part in _parts(message.raw)]
        return message.type, *parts[1 : 3 if parts[1][:1] == b'"' else 2]

    def peek(self, frame: bytes) -> Item | Sequence[Item]:
        if frame.lstrip()[:1] == b"{":
            return _event(msgspec.json.decode(frame))
        parts = _parts(frame)
        number, payload = _integer(parts[0]), bytes(parts[1])
        kind = _kind(payload)
        item = Heartbeat() if kind == "hb" else Message(f"#{number}" if number else _ACCOUNT, kind)
        if not self._counts:
            return item
        # A kind in words is followed by its payload; only a heartbeat has none.
        is_in_words = payload[:1] == b'"' and kind != "hb"
        return [Counted(_integer(parts[3 if is_in_words else 2])), item]


def _kind(payload: bytes) -> str:
    if payload[:1] == b'"':
        kind = _text(payload)
        return "checksum" if kind == "cs" else kind
    rows = _parts(payload)
    return "snapshot" if not rows or bytes(rows[0])[:1] == b"[" else "update"


def _event(message: dict[str, Any]) -> Item:
    event, number = message["event"], message.get("chanId")
    alias = None if number is None else f"#{number}"
    code = message.get("code", 0)
    reason = f"{message.get('msg') or 'no reason given'} ({code})"
    if event == "subscribed":
        return Ack(message.get("subId"), _channel(message), alias=alias, verb="subscribe")
    if event == "unsubscribed":
        return Ack(channel=alias, verb="unsubscribe")
    if event == "error":
        is_there, is_full = code == _SUBSCRIBED_ALREADY, code == _FULL
        if "subId" in message:  # it was sent for one channel
            return Rejection(reason, message["subId"], keeps_active=is_there, is_limit=is_full)
        channel = _channel(message)
        if channel is not None and channel == message.get("channel"):
            return Rejection(reason, name=channel, is_limit=is_full)  # without its symbol
        if channel or alias or code == 10001 or 10300 <= code < 10500:
            channel = channel or alias
            return Rejection(reason, channel=channel, keeps_active=is_there, is_limit=is_full)
        return Notice(reason)
    if event == "auth":
        return LoginAccepted() if message.get("status") == "OK" else LoginRefused(reason)
    if event == "info":
        if code:
            return Ending(reason) if code == _RESTARTS else Notice(reason)
        is_up = message.get("platform", {}).get("status", 1) == 1
        return Heartbeat() if is_up else Notice("the platform is in maintenance")
    if event == "conf":
        return Heartbeat() if message.get("status") == "OK" else Notice(f"conf refused: {message}")
    if event == "pong":
        return Reply(message["cid"], message) if "cid" in message else Heartbeat()
    return Unhandled(str(event), alias or "")


def _channel(message: dict[str, Any]) -> str | None:
    name, symbol = message.get("channel"), message.get("symbol") or message.get("key")
    return f"{name}:{symbol}" if name and symbol else name


def javascript_number(number: Decimal) -> str:
    """Return a number as JavaScript prints it: ``2500``, ``0.000001``, ``6e-8``."""
    if not number:
        return "0"
    exponent = number.adjusted()
    if -7 < exponent < 21:
        text = f"{number:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    sign, digits, _ = number.as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    fraction = f".{text[1:]}" if text[1:] else ""
    return f"{'-' if sign else ''}{text[0]}{fraction}e{exponent:+d}"
