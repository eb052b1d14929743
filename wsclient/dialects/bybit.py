"""Bybit v5: ``wss://stream.bybit.com/v5/public/spot`` (or ``linear``, ``inverse``, ``option``,
``spread``), and with credentials ``wss://stream.bybit.com/v5/private``.

A channel is a topic as Bybit writes it: ``orderbook.50.BTCUSDT``, ``publicTrade.BTCUSDT``.

Sources, under bybit-exchange.github.io/docs/v5:

* the answer to ``auth`` has ``success`` and ``ret_msg``, or ``retCode`` and ``retMsg`` (page
  ``ws/connect``, page ``websocket/trade/guideline``); that one to a subscribe may have the latter,
  too, is our assumption;
* one answer a request, by ``req_id`` where there was one; for options without any, with lists of
  the topics that succeeded and failed (page ``ws/connect``);
* ``{"op":"ping"}`` every 20 s; the pong's ``op`` is ``ping`` or ``pong`` (page ``ws/connect``); the
  silence timeout of 30 s is ours;
* spot takes 10 topics a request; 500 connects in 5 minutes; the topics of a connection at most
  21,000 characters, which the client does not count; ``auth`` (page ``ws/connect``);
* a book's snapshot may come at any time, ``u`` of 1 is one too (the service has restarted), and
  level 1 is sent in snapshots only, the same one again after 3 s (page ``websocket/public/
  orderbook``);
* ``u`` was +1 a message in what Bybit publishes of its history. Its documents promise no such
  thing: hence ``sequenced``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from wsclient.dialects.rows import Row, levels
from wsclient.dialects.signing import sign
from wsclient.errors import ConfigurationError
from wsclient.messages import LinkedMessage, Message
from wsclient.sansio.dialect import (
    Ack,
    BookUpdate,
    Credentials,
    Dialect,
    Heartbeat,
    Item,
    Limits,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Unhandled,
)

__all__ = ["Bybit"]

_RESTARTED = 1
#: Topics that may be silent for as long as they like, up to the first dot: private ones,
#: liquidations, and the venue's state.
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
#: So long (s) a login may be on its way; ours.
_LOGIN_LASTS = 10.0


class _Data(msgspec.Struct, gc=False):
    """What we look for in the data of a book, and in the answer to a request for options."""

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


class Bybit(Dialect):
    """``sequenced``: a jump of a book's ``u`` is a gap. ``credentials``, for private topics, have
    ``api_key`` and ``secret``."""

    name: ClassVar[str] = "bybit"
    limits = Limits(channels_per_message=10, connects=(500, 300.0))
    keepalive = ({"op": "ping"}, 20.0)
    silence_timeout = 30.0
    #: The second is of private topics.
    timestamp_fields = (("ts",), ("creationTime",))

    def __init__(self, *, sequenced: bool = False) -> None:
        self._sequenced = sequenced

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
        if unknown := sorted(options.keys() - {"depth"}):  # a book's, and in its topic already
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

    def book_channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        """``depth``: 1, 50 (the default), 200 or 1000."""
        return f"orderbook.{options.get('depth', 50)}.{symbol}"

    def book_update(self, message: Message) -> BookUpdate | None:
        frame = _book(message.raw)
        is_snapshot = frame.type == "snapshot" or frame.data.u == _RESTARTED
        return BookUpdate(is_snapshot, levels(frame.data.b), levels(frame.data.a))


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
    if isinstance(head.data, _Data):  # of options: neither id nor op
        accepted = [Ack(channel=topic) for topic in head.data.successTopics]
        return [*accepted, *(Rejection(reason, channel=topic) for topic in head.data.failTopics)]
    if is_accepted is None:
        return Unhandled(head.op or head.type)
    request_id = head.req_id or None
    if request_id is None and not is_change:
        return Unhandled(head.op or head.type) if is_accepted else Notice(reason)
    return Ack(request_id) if is_accepted else Rejection(reason, request_id)
