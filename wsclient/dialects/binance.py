"""Binance spot and USD-M futures, market data.

``wss://stream.binance.com:9443``, ``wss://data-stream.binance.vision``, ``wss://fstream.binance.com``.
A channel is a stream's name (``btcusdt@depth@100ms``, ``btcusdt@bookTicker``). Events come wrapped,
with the name of their stream: an address of raw streams (``/ws/...``) is turned into the one of
combined streams, as a raw event does not tell ``@depth`` from ``@depth@100ms``.

Sources, unless another is named: ``web-socket-streams.md`` of binance/binance-spot-api-docs:

* ``{"result": null, "id": N}`` accepts a whole request; errors are ``{"code", "msg"}``, some
  without an id; wrapped in ``"error"`` they are understood too;
* 5 messages a second, pings and pongs among them (futures 10: developers.binance.com), 1024
  streams a connection, 300 connects in 5 minutes, 24 hours a connection, ``serverShutdown`` before
  a planned end;
* ``@depth`` numbers its updates: a message is the range ``U..u``, the next begins with ``u + 1``.
  Futures name the ``u`` before it, ``pu`` (seen on the wire);
* a book begins with a snapshot by REST. From one of 100 levels it was seen to go wrong within 90 s
  on BTCUSDT, from one of 1000 not (GarethCooke/DepthCharge, ``NOTES-binance.md``): the venue tells
  nothing of levels that stay as they are. ``limit=`` says how many; by default as many as it gives;
* the update whose ``u`` is the snapshot's ``lastUpdateId`` is dropped on spot, and applied on
  futures (developers.binance.com, "How to manage a local order book correctly"; seen on the wire).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from wsclient.dialects.rows import Row, levels
from wsclient.errors import ConfigurationError
from wsclient.messages import LinkedMessage, Message
from wsclient.sansio.dialect import (
    Ack,
    BookUpdate,
    Credentials,
    Dialect,
    Item,
    Limits,
    Notice,
    Rejection,
    Reply,
    RestRequest,
    Snapshot,
    Unhandled,
)

__all__ = ["Binance", "BinanceFutures"]

_BOOK_OPTIONS = frozenset({"limit", "speed"})


class _Frame(msgspec.Struct, gc=False):
    """A wrapped event, an answer, or what comes bare."""

    stream: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    event: Any = msgspec.field(default=None, name="e")


class _Update(msgspec.Struct, gc=False):
    first: int = msgspec.field(name="U")
    last: int = msgspec.field(name="u")


class _FuturesUpdate(msgspec.Struct, gc=False):
    last: int = msgspec.field(name="u")
    previous: int = msgspec.field(name="pu")


class _Changes(msgspec.Struct, gc=False):
    event: Literal["depthUpdate"] = msgspec.field(name="e")
    bids: list[Row] = msgspec.field(name="b")
    asks: list[Row] = msgspec.field(name="a")


class _Book(msgspec.Struct, gc=False):
    """By REST."""

    sequence: int = msgspec.field(name="lastUpdateId")
    bids: list[Row]
    asks: list[Row]


class _Wrapped(msgspec.Struct, gc=False):
    data: _Changes


class _Top(msgspec.Struct, gc=False):
    """Partial depth: the whole of it each time."""

    bids: list[Row]
    asks: list[Row]


class _WrappedTop(msgspec.Struct, gc=False):
    data: _Top


_frame = msgspec.json.Decoder(_Frame).decode
_update = msgspec.json.Decoder(_Update).decode
_futures_update = msgspec.json.Decoder(_FuturesUpdate).decode
_changes = msgspec.json.Decoder(_Wrapped).decode
_top = msgspec.json.Decoder(_WrappedTop).decode


class Binance(Dialect):
    """Spot. ``rest``: where books are asked for. The venue counts our pings and pongs too, so
    that one message of its five a second is left to them; batches of 100 are ours.
    """

    name: ClassVar[str] = "binance"
    limits = Limits(
        channels_per_message=100,
        messages_per_second=4.0,
        channels_per_connection=1024,
        connects=(300, 300.0),
        max_age=86_400.0 - 300.0,
    )
    timestamp_fields = (("data", "E"), ("data", 0, "E"))
    #: The most levels a side that the venue gives of a book by REST.
    max_levels: ClassVar[int] = 5000

    def __init__(self, *, rest: str = "https://api.binance.com/api/v3/depth") -> None:
        self._rest = rest

    def url(self, url: str, credentials: Credentials | None) -> str:
        base, mark, query = url.partition("?")
        scheme, _, place = base.partition("://")
        if "/" not in place.rstrip("/"):
            base = f"{scheme}://{place.rstrip('/')}/stream"
        elif base.endswith("/ws"):
            base = base.removesuffix("ws") + "stream"
        elif "/ws/" in place:
            place, _, streams = place.partition("/ws/")
            base, query = f"{scheme}://{place}/stream", f"streams={streams}{mark and '&'}{query}"
            mark = "?"
        return f"{base}{mark}{query}"

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        if unknown := sorted(options.keys() - _BOOK_OPTIONS):
            raise ConfigurationError(f"Binance knows no option {unknown[0]!r} of a subscription")
        for channel in channels:
            symbol = channel.partition("@")[0]
            if symbol != symbol.lower() and not channel.startswith("!"):
                raise ConfigurationError(f"{channel!r}: Binance's streams have lowercase symbols")
        return {"method": verb.upper(), "params": list(channels), "id": request_id}

    def request(self, payload: Any, request_id: int) -> Any:
        return {**payload, "id": request_id}

    def peek(self, frame: bytes) -> Item | Sequence[Item]:
        head = _frame(frame)
        stream = head.stream
        if head.event == "serverShutdown" or stream == "!serverShutdown":
            return Notice("this server will shut down soon")
        if stream is None:
            return _answer(msgspec.json.decode(frame))
        kind = _kind(stream)
        return self._depth(stream, head.data) if kind == "depth" else Message(stream, kind)

    def _depth(self, stream: str, data: msgspec.Raw) -> Message:
        update = _update(data)
        return LinkedMessage(stream, "depth", update.last, follows=update.first - 1)

    def book_channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        return f"{symbol.lower()}@depth@{options.get('speed', '100ms')}"

    def book_update(self, message: Message) -> BookUpdate | None:
        kind = _kind(message.channel)
        if not kind.startswith("depth"):
            return None
        if kind == "depth":
            changes = _changes(message.raw).data
            return BookUpdate(False, levels(changes.bids), levels(changes.asks))
        top = self._partial(message.raw)
        return BookUpdate(True, levels(top.bids), levels(top.asks))

    def _partial(self, raw: bytes) -> _Top | _Changes:
        return _top(raw).data

    def book_request(self, channel: str, options: Mapping[str, Any]) -> RestRequest | None:
        if _kind(channel) != "depth":
            return None
        limit = options.get("limit", self.max_levels)
        symbol = channel.partition("@")[0].upper()
        return RestRequest(self._rest, {"symbol": symbol, "limit": str(limit)})

    def book_snapshot(self, channel: str, answer: Any) -> Snapshot:
        book = msgspec.convert(answer, _Book)
        return Snapshot(book.sequence, levels(book.bids), levels(book.asks))


class BinanceFutures(Binance):
    """USD-M futures, and COIN-M with its own ``rest``. Numbers of a book do not count one by one:
    each message names the one before it. The REST address and its 1000 levels, and that connects
    and ages are bounded as on spot, are assumptions of ours.
    """

    name: ClassVar[str] = "binance_futures"
    limits = Limits(
        channels_per_message=100,
        messages_per_second=9.0,
        connects=(300, 300.0),
        max_age=86_400.0 - 300.0,
    )
    max_levels: ClassVar[int] = 1000

    def __init__(self, *, rest: str = "https://fapi.binance.com/fapi/v1/depth") -> None:
        super().__init__(rest=rest)

    def _depth(self, stream: str, data: msgspec.Raw) -> Message:
        update = _futures_update(data)
        return LinkedMessage(
            stream, "depth", update.last, follows=update.previous, is_counted=False
        )

    def _partial(self, raw: bytes) -> _Top | _Changes:
        return _changes(raw).data

    def book_snapshot(self, channel: str, answer: Any) -> Snapshot:
        return super().book_snapshot(channel, answer)._replace(has_last=False)


def _kind(stream: str) -> str:
    """``depth`` of ``btcusdt@depth@100ms``; the whole name of a stream of no symbol."""
    parts = stream.split("@")
    return parts[1] if len(parts) > 1 else stream


def _answer(answer: dict[str, Any]) -> Item | Sequence[Item]:
    """An answer to subscribe() and to request() look the same: each is known by its id."""
    request_id = answer.get("id")
    error = answer.get("error", answer if "code" in answer else None)
    if error is not None:
        reason = f"{error.get('msg')} (code {error.get('code')})"
        if request_id is None:
            return Rejection(reason)
        return [Rejection(reason, request_id), Reply(request_id, answer, reason)]
    if request_id is None:
        return Unhandled(str(answer.get("e", "")))
    return [Ack(request_id), Reply(request_id, answer)]
