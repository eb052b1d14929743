"""OKX v5: ``wss://ws.okx.com:8443/ws/v5/public`` (or ``/private``, ``/business``).

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
* 3 connects per second per IP address, and 480 subscribes, unsubscribes and logins per hour per
  connection ("Connect"), whose args have at most 64 KB ("Subscribe"). The client neither paces by
  the hour nor counts these bytes: batches of 50 args, our choice, keep far below the hourly limit.
* ``login`` must come within 30 s of its timestamp ("Login"). The error codes: "Error Code".
* Notice 64008 comes a minute before an upgrade ("Notification").
* ``prevSeqId`` is the ``seqId`` of the message before; it is -1 in a snapshot, equal to ``seqId``
  if nothing has changed for a minute, and higher than ``seqId`` after maintenance ("Order book
  channel"). Older recordings have neither.
* ``channel-conn-count-error`` follows the ack of a private channel that 30 connections have
  already: the venue then ends the channel ("Connection count limit").
* ``checksum`` is deprecated and fixed at 0; it was a CRC32 before ("Order book channel").
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
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
    Rejection,
    Row,
    Unhandled,
    Verb,
    levels,
    sign_in_base64,
)

__all__ = ["OKX", "OKXBook"]

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


_head = msgspec.json.Decoder(_Head).decode
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


class OKX(Dialect):
    """Dialect of OKX v5.

    ``credentials``, for private channels, have ``api_key``, ``secret`` and ``passphrase``. The
    silence timeout is the one after which the venue itself closes.
    """

    name: ClassVar[str] = "okx"
    book = OKXBook()
    limits = Limits(channels_per_message=50, connects=(3, 1.0))
    keepalive = ("ping", 20.0)
    silence_timeout = 30.0
    #: Private channels, and rare events: liquidations, block trades, maintenance, delivery.
    quiet_channels = (
        "account",
        "adl-warning",
        "algo-",
        "balance_and_position",
        "block-tickers",
        "copytrading-",
        "deposit-info",
        "economic-calendar",
        "estimated-price",
        "fills",
        "grid-",
        "liquidation-",
        "orders",
        "positions",
        "public-block-trades",
        "public-struc-block-trades",
        "quotes",
        "rfqs",
        "sprd-orders",
        "sprd-trades",
        "status",
        "struc-block-trades",
        "withdrawal-info",
    )
    timestamp_fields = (("data", 0, "ts"),)
    #: The numbers of a frame with several rows are not read.
    heads = Heads(
        _Key,
        ("event", "arg", "action", "data.second.__class__"),
        [("data.first.prevSeqId", "data.first.seqId")],
    )

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

    def peek(self, frame: bytes) -> Item:
        if frame == b"pong":
            return Heartbeat()
        head = _head(frame)
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
        return Notice(reason)
    if head.event == "channel-conn-count-error":
        reason = f"too many connections for the channel {head.channel!r}: {head.connCount}"
        return Ended(reason, name=head.channel)
    if head.event == "channel-conn-count":
        return Heartbeat()
    return Unhandled(head.event or "")


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
