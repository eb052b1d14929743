"""Bybit v5.

Addresses: ``wss://stream.bybit.com/v5/public/spot`` (or ``linear``, ``inverse``, ``option``,
``spread``), and with credentials ``wss://stream.bybit.com/v5/private``.

A channel is what Bybit calls a "topic": ``orderbook.50.BTCUSDT``, ``publicTrade.BTCUSDT``.

Sources, under bybit-exchange.github.io/docs/v5:

* The answer to ``auth`` has ``success`` and ``ret_msg``, or ``retCode`` and ``retMsg`` (page
  ``ws/connect``, page ``websocket/trade/guideline``). That an answer to a subscribe may have the
  latter two as well is our assumption.
* Each request has one answer, with its ``req_id`` if it had one. The answer at ``option`` has none,
  but lists the channels that succeeded and those that failed (page ``ws/connect``).
* ``{"op":"ping"}`` is sent every 20 s; the ``op`` of the pong is ``ping`` or ``pong`` (page
  ``ws/connect``). The silence timeout of 30 s is our choice.
* Limits: on spot 10 channels per request; 500 connects in 5 minutes; the channels of a connection
  have at most 21,000 characters, which the client does not count. These and ``auth``: page
  ``ws/connect``.
* A snapshot of a book may come at any time. A message with ``u`` of 1 is one too: the service has
  restarted. Level 1 is sent in snapshots only, the same one again after 3 s (page
  ``websocket/public/orderbook``).
* ``u`` rises by 1 per message in the history that Bybit publishes. Its documentation does not
  promise this: hence ``sequenced``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    Rejection,
    Row,
    Unhandled,
    levels,
    sign,
)

__all__ = ["Bybit", "BybitBook"]

_RESTARTED = 1
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
        "spread",
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


class _Book(msgspec.Struct, gc=False):
    b: list[Row]
    a: list[Row]
    u: int


class _BookFrame(msgspec.Struct, gc=False):
    type: Literal["snapshot", "delta"]
    data: _Book


_head = msgspec.json.Decoder(_Head).decode
_book = msgspec.json.Decoder(_BookFrame).decode


class BybitBook(BookFormat):
    """The order books of Bybit."""

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        """Return the channel of an order book; ``depth`` is 1, 50 (the default), 200 or 1000."""
        return f"orderbook.{options.get('depth', 50)}.{symbol}"

    def update(self, message: Message) -> BookUpdate | None:
        frame = _book(message.raw)
        is_snapshot = frame.type == "snapshot" or frame.data.u == _RESTARTED
        return BookUpdate(is_snapshot, levels(frame.data.b), levels(frame.data.a))


class Bybit(Dialect):
    """Dialect of Bybit v5.

    With ``sequenced`` a jump of the ``u`` of a book is a gap. ``credentials``, for private
    channels, have ``api_key`` and ``secret``.
    """

    name: ClassVar[str] = "bybit"
    book = BybitBook()
    limits = Limits(channels_per_message=10, connects=(500, 300.0))
    keepalive = ({"op": "ping"}, 20.0)
    silence_timeout = 30.0
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

    def peek(self, frame: bytes) -> Item | Sequence[Item]:
        head = _head(frame)
        if head.topic is None:
            return _answer(head)
        update = head.data.u if isinstance(head.data, _Data) else None
        if not self._sequenced or not head.topic.startswith("orderbook."):
            update = None
        if update is None or head.topic.startswith("orderbook.1."):
            return Message(head.topic, head.type)
        if head.type == "snapshot" or update == _RESTARTED:
            return LinkedMessage(head.topic, head.type, update)
        return Message(head.topic, head.type, update)


def _answer(head: _Head) -> Item | Sequence[Item]:
    if head.op in ("ping", "pong"):
        return Heartbeat()
    words = head.ret_msg or head.retMsg
    is_change, is_accepted = head.op in ("subscribe", "unsubscribe"), head.success
    if is_accepted is None and head.retCode is not None and (is_change or head.op == "auth"):
        is_accepted = head.retCode == 0
    if head.op == "auth":
        return LoginAccepted() if is_accepted else LoginRefused(words or "no reason given")
    reason = words or "refused without a reason"
    if isinstance(head.data, _Data):  # an answer at ``option``: it has neither an id nor an op
        accepted = [Ack(channel=topic) for topic in head.data.successTopics]
        return [*accepted, *(Rejection(reason, channel=topic) for topic in head.data.failTopics)]
    if is_accepted is None:
        return Unhandled(head.op or head.type)
    request_id = head.req_id or None
    if request_id is None and not is_change:
        return Unhandled(head.op or head.type) if is_accepted else Notice(reason)
    return Ack(request_id) if is_accepted else Rejection(reason, request_id)
