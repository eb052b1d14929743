"""Deribit, JSON-RPC 2.0: ``wss://www.deribit.com/ws/api/v2``, ``wss://test.deribit.com/ws/api/v2``.

A channel has Deribit's own name: ``book.BTC-PERPETUAL.100ms``, ``ticker.ETH-PERPETUAL.raw``.

Sources: pages of docs.deribit.com, unless another is named.

* An answer carries the id of its request, text or number as it was sent (the notes on JSON-RPC).
  The result of a subscribe lists its channels, in another order (seen on the wire). That a channel
  which is not listed was refused is not documented: see ``missing_is_refused``.
* ``heartbeat`` calls ``public/set_heartbeat``, with at least 10 s. A ``test_request`` must be
  answered by ``public/test`` at once (page ``session-management/public-set_heartbeat``). That the
  connection is dead after twice the interval without a frame is our choice.
* The first message of a book is a snapshot. From there on ``prev_change_id`` is the ``change_id``
  of the message before (pages ``notifications``, ``subscriptions/orderbook``). Each message of a
  grouped book (``book.X.none.20.100ms``) is a snapshot.
* ``.raw`` channels need a login by ``public/auth`` (the clients tardis-node and nautilus_trader).
  The code of too many requests is from other clients too.
* Limits: 32 connections at a time per IP address, requests by REST included; any further one is
  refused with HTTP 429. 16 sessions per key, among which logins like ours do not count (page
  ``connection-management-best-practices``). About 3.3 subscribes per second (page
  ``public-subscribe``), which is counted per account, or per IP address without a login: while two
  connections subscribe at once, Deribit may refuse some. No limit of channels per connection is
  documented.
* ``direction`` of a trade is the side of the aggressor (the clients nautilus_trader and OpenBB). An
  ``amount`` is in USD for inverse futures and perpetuals, else in the base currency (page
  ``subscriptions/trades``). A ``ticker`` and a ``quote`` have the best bid and ask; where there is
  none, its price and amount are 0 (seen on the wire).
* ``private/subscribe`` for ``user.`` channels is not confirmed. 250 channels per message are our
  choice: a message with many more was refused as too large (seen on the wire: issue 439 of
  tmatic-trading/crypto-platform). ``limits`` sets another number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    Respond,
    Row,
    Trade,
    Unhandled,
    Views,
    levels,
    nanoseconds,
)

__all__ = ["Deribit", "DeribitBook", "DeribitViews"]

#: ``too_many_requests`` is no refusal of a login: the login then times out and is retried later.
_TOO_MANY = 10028


class _Params(msgspec.Struct, frozen=True, gc=False):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")
    type: str = ""


class _Push(msgspec.Struct, gc=False):
    method: str | None = None
    params: _Params = _Params()


class _BookHead(msgspec.Struct, gc=False):
    type: str | None = None
    change_id: int | None = None
    prev_change_id: int | None = None


class _Numbers(msgspec.Struct, gc=False):
    type: Any = None
    change_id: Any = None
    prev_change_id: Any = None


class _Payload(msgspec.Struct, gc=False):
    channel: str
    data: _Numbers | list[msgspec.Raw]


class _Key(msgspec.Struct, gc=False):
    method: str
    params: _Payload


class _Change(msgspec.Struct, array_like=True, gc=False):
    action: Literal["new", "change", "delete"]
    price: Decimal
    size: Decimal


class _Book(msgspec.Struct, gc=False):
    bids: list[_Change]
    asks: list[_Change]


class _GroupedBook(msgspec.Struct, gc=False):
    bids: list[Row]
    asks: list[Row]


class _Trade(msgspec.Struct, gc=False):
    instrument_name: str
    trade_id: str
    direction: Literal["buy", "sell"]
    price: Decimal
    amount: Decimal
    timestamp: int


class _Ticker(msgspec.Struct, gc=False):
    instrument_name: str
    best_bid_price: Decimal | None
    best_bid_amount: Decimal | None
    best_ask_price: Decimal | None
    best_ask_amount: Decimal | None


_push = msgspec.json.Decoder(_Push).decode
_trades = msgspec.json.Decoder(list[_Trade]).decode
_ticker = msgspec.json.Decoder(_Ticker).decode
_book_head = msgspec.json.Decoder(_BookHead).decode
_book = msgspec.json.Decoder(_Book).decode
_grouped_book = msgspec.json.Decoder(_GroupedBook).decode


class DeribitBook(BookFormat):
    """The order books of Deribit."""

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        """Return the channel of an order book.

        ``interval`` is ``"100ms"`` (the default), ``"agg2"`` or ``"raw"``.
        """
        return f"book.{symbol}.{options.get('interval', '100ms')}"

    def update(self, message: Message) -> BookUpdate | None:
        data = _push(message.raw).params.data
        if message.sequence is None:
            grouped = _grouped_book(data)
            return BookUpdate(True, levels(grouped.bids), levels(grouped.asks))
        if message.type not in ("snapshot", "change"):
            raise ValueError(f"a book message of the unknown type {message.type!r}")
        book = _book(data)
        return BookUpdate(message.type == "snapshot", _levels(book.bids), _levels(book.asks))


class DeribitViews(Views):
    """The plain views of Deribit."""

    def trades(self, message: Message) -> list[Trade] | None:
        if not message.channel.startswith("trades."):
            return None
        return [
            Trade(
                row.instrument_name,
                row.price,
                row.amount,
                row.direction,
                row.trade_id,
                nanoseconds(row.timestamp),
            )
            for row in _trades(_push(message.raw).params.data)
        ]

    def quote(self, message: Message) -> Quote | None:
        if not message.channel.startswith(("quote.", "ticker.")):
            return None
        row = _ticker(_push(message.raw).params.data)
        return Quote(
            row.instrument_name,
            row.best_bid_price,
            row.best_bid_amount,
            row.best_ask_price,
            row.best_ask_amount,
        )

    def book_symbol(self, message: Message) -> str | None:
        kind, _, rest = message.channel.partition(".")
        return rest.partition(".")[0] if kind == "book" else None


class Deribit(Dialect):
    """Dialect of Deribit.

    ``heartbeat`` (s, at least 10) requests heartbeats at that interval; None requests none. With
    ``missing_is_refused`` a channel that the answer to its subscribe does not list counts as
    refused. ``credentials`` have ``client_id`` and ``client_secret``.

    Raises ConfigurationError for a ``heartbeat`` below 10.
    """

    name: ClassVar[str] = "deribit"
    book = DeribitBook()
    views = DeribitViews()
    client_order_id = "label"
    #: Private channels, block trades, and states that seldom change.
    quiet_channels = (
        "announcements",
        "block_",
        "instrument.state.",
        "platform_state",
        "rfq.",
        "user.",
    )
    #: The second one is for trades, which come as a list.
    timestamp_fields = (("params", "data", "timestamp"), ("params", "data", 0, "timestamp"))
    heads = Heads(
        _Key,
        ("method", "params.channel"),
        [("params.data.prev_change_id", "params.data.change_id", "params.data.type")],
        may_begin_to_count=("book.",),
    )

    def __init__(
        self,
        *,
        heartbeat: int | None = None,
        missing_is_refused: bool = True,
        limits: Limits | None = None,
    ) -> None:
        self._missing_is_refused = missing_is_refused
        self.limits = limits or Limits(
            channels_per_message=250, messages_per_second=3, connections=32
        )
        if heartbeat is not None:
            if not isinstance(heartbeat, int) or heartbeat < 10:
                raise ConfigurationError(
                    f"heartbeat must be a whole number of at least 10 (s), not {heartbeat!r}"
                )
            params = {"interval": heartbeat}
            self.opening = [_call("public/set_heartbeat", params, "heartbeat")]
            self.silence_timeout = 2.0 * heartbeat

    def login(self, credentials: Credentials) -> Any:
        params = {
            "grant_type": "client_credentials",
            "client_id": credentials["client_id"],
            "client_secret": credentials["client_secret"],
        }
        return _call("public/auth", params, "login")

    def needs_credentials(self, channel: str, options: Mapping[str, Any]) -> bool:
        return _is_private(channel)

    def group(self, channel: str) -> Any:
        """Keep ``.raw`` channels apart: without a login, one has its whole message refused."""
        return _is_private(channel), channel.endswith(".raw")

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        scope = "private" if _is_private(channels[0]) else "public"
        params = {name: value for name, value in options.items() if name != "interval"}
        params = {"channels": list(channels), **params}
        # An answer does not say what it answers: the id is a number for a subscribe, else text.
        id = request_id if verb == "subscribe" else str(request_id)
        return _call(f"{scope}/{verb}", params, id)

    def request(self, payload: Any, request_id: int) -> Any:
        return {"jsonrpc": "2.0", **payload, "id": str(request_id)}

    def peek(self, frame: bytes) -> Item | Sequence[Item]:
        push = _push(frame)
        if push.method == "subscription":
            return _message(push.params.channel, push.params.data)
        if push.method == "heartbeat":
            if push.params.type == "test_request":
                return Respond(_call("public/test", {}, "test"))
            return Heartbeat()
        if push.method is not None:
            return Unhandled(push.method)
        return self._answer(msgspec.json.decode(frame))

    def _answer(self, answer: dict[str, Any]) -> Item | Sequence[Item]:
        request_id = answer.get("id")
        error = answer.get("error")
        reason = _reason(error) if "error" in answer else None
        if request_id == "login":
            if reason is None:
                return LoginAccepted()
            is_passing = isinstance(error, dict) and error.get("code") == _TOO_MANY
            return Notice(reason) if is_passing else LoginRefused(reason)
        if request_id in (None, "heartbeat", "test"):
            if reason is not None:
                return Notice(reason)
            return Unhandled("") if request_id is None else Heartbeat()
        if type(request_id) is str:
            reply = Reply(request_id, answer, reason)
            if reason is None:
                return [reply, Ack(request_id)]
            return [reply, Rejection(reason, request_id, is_rest=True)]
        if reason is not None:
            return Rejection(reason, request_id)
        if not self._missing_is_refused:
            return Ack(request_id)
        rest = Rejection("not among the channels of the answer", request_id, is_rest=True)
        return [*(Ack(request_id, channel) for channel in answer["result"]), rest]


def _call(method: str, params: Mapping[str, Any], request_id: int | str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def _is_private(channel: str) -> bool:
    return channel.startswith("user.")


def _message(channel: str, data: msgspec.Raw) -> Message:
    if not channel.startswith("book."):
        return Message(channel)
    head = _book_head(data)
    if head.type is None:
        if head.prev_change_id is not None:
            raise ValueError("an order book update without a type")
        return Message(channel, "snapshot")
    if head.change_id is None or (head.prev_change_id is None and head.type != "snapshot"):
        raise ValueError("an order book update without change_id or prev_change_id")
    follows = None if head.type == "snapshot" else head.prev_change_id
    return LinkedMessage(channel, head.type, head.change_id, follows=follows, is_counted=False)


def _levels(rows: Iterable[_Change]) -> list[tuple[Decimal, Decimal]]:
    return [(row.price, Decimal(0) if row.action == "delete" else row.size) for row in rows]


def _reason(error: Any) -> str:
    """Return an error as one text.

    For example ``Invalid params (-32602): {'reason': 'invalid format', 'param': 'nonce'}``.
    """
    if not isinstance(error, dict):
        return str(error)
    data = f": {error['data']}" if error.get("data") else ""
    return f"{error.get('message')} ({error.get('code')}){data}"
