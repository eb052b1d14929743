"""Coinbase Exchange.

Addresses: ``wss://ws-feed.exchange.coinbase.com``, or, with credentials,
``wss://ws-direct.exchange.coinbase.com``.

A channel is ``channel:product`` (``level2_batch:BTC-USD``, ``ticker:BTC-USD``, ``matches:BTC-USD``,
``heartbeat:BTC-USD``), or ``status``. Coinbase ends a connection on which nothing is subscribed
within 5 s: subscribe right after ``connect``.

Sources, under docs.cdp.coinbase.com/exchange/websocket-feed:

* Each ``subscribe`` and ``unsubscribe`` is answered by a list of all channels that are subscribed
  now, in any order (page ``overview``). The list has ``level2_batch`` as ``level2_50`` (seen on the
  wire).
* An error has no id (page ``overview``). Its reason may name a product (seen on the wire): then it
  refuses that product alone.
* ``user`` has the messages of ``full`` that concern the orders of the client's account, which then
  carry its ``user_id`` (page ``channels``). With ``trades="full"`` those of the channel ``full`` do
  so too, and are not told apart.
* ``level2`` and ``full`` need a signed subscribe (page ``channels``; how to sign: the client
  tardis-node). ``level2_batch`` does not.
* ``sequence`` numbers the ``full`` feed of a product, and rises by 1 only there (page
  ``overview``): on ``ticker`` and ``matches`` it jumps. The ``trade_id`` of a trade rises by 1 on
  ``matches``, from ``last_match`` on (seen on the wire). ``level2`` has no number; the venue
  guarantees delivery.
* ``side`` of a match is the side of the maker (page ``channels``), so the aggressor's is the other
  one. ``last_match`` is the last match before the subscribe. Sizes are in the base currency. The
  sizes of the best bid and ask in a ``ticker`` are younger than the recordings.
* 8 connects and 100 messages per second, both per IP address, so that all connections share them;
  10 subscriptions of a product on a channel per account, all connections together (page
  ``rate-limits``). No limit of channels per connection or of connections is documented. The client
  counts messages per connection, so 50 per second and batches of at most 100 products are our
  choices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Literal

import msgspec

from wsclient.dialect import (
    BookFormat,
    BookUpdate,
    ConfigurationError,
    Credentials,
    Dialect,
    Heads,
    Item,
    Limits,
    Message,
    Notice,
    Quote,
    Rejection,
    Row,
    SubscribedChannels,
    Trade,
    Unhandled,
    Views,
    amount,
    from_base64,
    levels,
    nanoseconds,
    sign_in_base64,
)

__all__ = ["CoinbaseExchange", "CoinbaseExchangeBook", "CoinbaseExchangeViews"]

_FULL = ("received", "open", "done", "change", "activate")
#: Errors after which the venue closes the connection; they answer no request.
_CONNECTION_ERRORS = ("ErrSlowConsume", "ErrSlowRead", "Message too big")
_NAMED = re.compile(r"(\S+) is (?:not a valid product|delisted)")


class _Channel(msgspec.Struct, gc=False):
    name: str
    product_ids: list[str] | None = None


class _Head(msgspec.Struct, gc=False):
    type: str
    product_id: str = ""
    sequence: int | None = None
    trade_id: int | None = None
    channels: list[_Channel] = []
    message: str = ""
    reason: str = ""
    user_id: str | None = None


class _Snapshot(msgspec.Struct, tag="snapshot", gc=False):
    bids: list[Row]
    asks: list[Row]


class _Change(msgspec.Struct, array_like=True, gc=False):
    side: Literal["buy", "sell"]
    price: Decimal
    size: Decimal


class _Update(msgspec.Struct, tag="l2update", gc=False):
    changes: list[_Change]


class _Match(msgspec.Struct, gc=False):
    product_id: str
    trade_id: int
    side: Literal["buy", "sell"]
    price: Decimal
    size: Decimal
    time: str


class _Ticker(msgspec.Struct, gc=False):
    product_id: str
    best_bid: str
    best_ask: str
    best_bid_size: str | None = None
    best_ask_size: str | None = None


_head = msgspec.json.Decoder(_Head).decode
_match = msgspec.json.Decoder(_Match).decode
_ticker = msgspec.json.Decoder(_Ticker).decode
_book = msgspec.json.Decoder(_Snapshot | _Update).decode


class CoinbaseExchangeBook(BookFormat):
    """The order books of Coinbase Exchange: the channel ``name``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        return f"{self._name}:{symbol}"

    def update(self, message: Message) -> BookUpdate | None:
        frame = _book(message.raw)
        if isinstance(frame, _Snapshot):
            return BookUpdate(True, levels(frame.bids), levels(frame.asks))
        bids, asks = (
            [(change.price, change.size) for change in frame.changes if change.side == wanted]
            for wanted in ("buy", "sell")
        )
        return BookUpdate(False, bids, asks)


class CoinbaseExchangeViews(Views):
    """The plain views of Coinbase Exchange."""

    def trades(self, message: Message) -> list[Trade] | None:
        if message.type not in ("match", "last_match"):
            return None
        row = _match(message.raw)
        return [
            Trade(
                row.product_id,
                row.price,
                row.size,
                "sell" if row.side == "buy" else "buy",
                str(row.trade_id),
                nanoseconds(row.time),
                message.type == "last_match",
            )
        ]

    def quote(self, message: Message) -> Quote | None:
        if message.type != "ticker":
            return None
        row = _ticker(message.raw)
        bid, ask = amount(row.best_bid), amount(row.best_ask)
        return Quote(row.product_id, bid, amount(row.best_bid_size), ask, amount(row.best_ask_size))

    def book_symbol(self, message: Message) -> str | None:
        is_book = message.type in ("snapshot", "l2update")
        return message.channel.partition(":")[2] if is_book else None


class CoinbaseExchange(Dialect):
    """Dialect of Coinbase Exchange.

    Frames name their product, but not their channel. So ``book`` says which channel frames of
    order books belong to (``level2_batch`` or ``level2``), and ``trades`` which one matches belong
    to (``matches`` or ``full``). The orders of the account are the channel ``user``.

    With ``credentials`` (``api_key``, ``secret``, ``passphrase``) each subscribe is signed.
    """

    name: ClassVar[str] = "coinbase_exchange"
    #: Private channels, auctions, and requests for quotes.
    quiet_channels = ("auctionfeed", "balance", "rfq_matches", "user")
    limits = Limits(channels_per_message=100, messages_per_second=50.0, connects=(8, 1.0))
    timestamp_fields = (("time",),)
    views = CoinbaseExchangeViews()
    heads = Heads(
        _Head, ("type", "product_id", "user_id.__class__"), [("trade_id",), ("sequence",)]
    )

    def __init__(self, *, book: str = "level2_batch", trades: str = "matches") -> None:
        self.book = CoinbaseExchangeBook(book)
        self._trades = trades
        self._channels = {
            "heartbeat": "heartbeat",
            "l2update": book,
            "last_match": trades,
            "match": trades,
            "snapshot": book,
            "status": "status",
            "ticker": "ticker",
            "user": "user",
        }
        if trades == "full":
            self._channels |= dict.fromkeys(_FULL, "full")

    def needs_credentials(self, channel: str, options: Mapping[str, Any]) -> bool:
        return channel.partition(":")[0] == "user"

    def access(self, channels: Sequence[str], credentials: Credentials) -> Mapping[str, Any]:
        timestamp = str(int(credentials.clock()))
        secret = from_base64(credentials["secret"])
        return {
            "signature": sign_in_base64(secret, f"{timestamp}GET/users/self/verify"),
            "key": credentials["api_key"],
            "passphrase": credentials["passphrase"],
            "timestamp": timestamp,
        }

    def group(self, channel: str) -> Any:
        """Put one channel name in a message, so that its refusal affects no other name."""
        return channel.partition(":")[0]

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        name = channels[0].partition(":")[0]
        if name not in self._channels.values():
            known = ", ".join(sorted(set(self._channels.values())))
            raise ConfigurationError(
                f"the channel must be one of {known} (see CoinbaseExchange), not {name!r}"
            )
        products = [product for _, _, product in (c.partition(":") for c in channels) if product]
        return {**options, "type": verb, "channels": [{"name": name, "product_ids": products}]}

    def peek(self, frame: bytes) -> Item:
        head = _head(frame)
        if head.type == "subscriptions":
            return SubscribedChannels([channel for row in head.channels for channel in _named(row)])
        if head.type == "error":
            return _error(head)
        name = self._channels.get(head.type)
        if head.user_id is not None and self._trades != "full":
            name = "user"
        if name is None:
            return Unhandled(head.type)
        number = {"matches": head.trade_id, "full": head.sequence}.get(name)
        return Message(_channel(name, head.product_id), head.type, number)

    def timestamp(self, message: Message) -> int | None:
        # The last match may have been long ago.
        return None if message.type == "last_match" else super().timestamp(message)


def _named(row: _Channel) -> list[str]:
    name = "level2_batch" if row.name == "level2_50" else row.name
    return [_channel(name, product) for product in row.product_ids or [""]]


def _error(head: _Head) -> Item:
    text = f"{head.message}: {head.reason}" if head.reason else head.message
    if any(error in text for error in _CONNECTION_ERRORS):
        return Notice(text)
    named = _NAMED.match(head.reason)
    return Rejection(text, symbol=named[1] if named else None)


def _channel(name: str, product: str) -> str:
    return f"{name}:{product}" if product else name
