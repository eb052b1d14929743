"""The protocol of Bitfinex v2."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from wsclient.dialects.bitfinex import Bitfinex
from wsclient.testing.limits import ChannelRefusal
from wsclient.testing.market import Depth, MarketEvent, MarketLevels, MarketQuote, MarketTrade
from wsclient.testing.peer import Peer
from wsclient.testing.protocols import (
    MarketProtocol,
    Payload,
    as_object,
    encode,
    is_muted,
    milliseconds,
    repeat,
)

__all__ = ["BitfinexProtocol"]

_SEQ_ALL, _OB_CHECKSUM = 65536, 131072
#: Fields of a subscribe that are not repeated in the answer.
_OF_REQUEST = frozenset({"event"})


class _Session:
    """What differs on each connection: numbers of channels, the count of frames, the flags."""

    def __init__(self, peer_id: int) -> None:
        self.numbers: dict[str, int] = {}
        #: When (monotonic s) a channel has last sent something.
        self.sent_at: dict[str, float] = {}
        self.flags = 0
        self._next = peer_id * 1000
        self._count = 0

    def add(self, channel: str) -> int:
        self._next += 1
        self.numbers[channel] = self._next
        self.sent_at[channel] = time.monotonic()
        return self._next

    def write(self, channel: str, body: str) -> str:
        """Return a frame of a channel, numbered if the client wants that."""
        self.sent_at[channel] = time.monotonic()
        count = ""
        if self.flags & _SEQ_ALL:
            self._count += 1
            count = f",{self._count}"
        return f"[{self.numbers[channel]},{body}{count}]"


class BitfinexProtocol(MarketProtocol):
    """Bitfinex v2: data carries a number of its channel that each connection has for itself.

    Frames are counted per connection, and checksums of books sent, if the client has set the flags
    for them. A message of a book has one level.
    """

    dialect = Bitfinex()
    kinds: ClassVar = {"trades:{}": MarketTrade, "ticker:{}": MarketQuote, "book:{}": Depth}
    patterns = tuple(kinds)
    symbols = ("tBTCUSD", "tETHUSD", "tSOLUSD")
    has_recordings = False
    #: The silence (s) after which a channel sends a heartbeat.
    HEARTBEAT = 15.0

    def __init__(self) -> None:
        super().__init__()
        self._sessions: WeakKeyDictionary[Peer, _Session] = WeakKeyDictionary()

    def greeting(self, peer: Peer) -> Iterator[Payload]:
        self._sessions[peer] = _Session(peer.id)
        repeat(peer, self.HEARTBEAT / 5, functools.partial(self._beat, peer))
        yield encode({"event": "info", "version": 2, "serverId": "fake", "platform": {"status": 1}})

    def _beat(self, peer: Peer) -> None:
        session = self._sessions[peer]
        for channel, at in list(session.sent_at.items()):
            if at <= time.monotonic() - self.HEARTBEAT:
                peer.send(session.write(channel, '"hb"'))

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        session = self._sessions[peer]
        match request.get("event"):
            case "conf":
                session.flags = request.get("flags", 0)
                yield encode({"event": "conf", "status": "OK", "flags": session.flags})
            case "ping":
                yield encode({**request, "event": "pong", "ts": milliseconds()})
            case "subscribe":
                yield from self._subscribe(peer, request)
            case "unsubscribe":
                number = request.get("chanId")
                channel = next((c for c, n in session.numbers.items() if n == number), "")
                if not peer.unsubscribe(channel):
                    answer = {"event": "error", "msg": "unsubscribe: invalid", "code": 10400}
                    yield encode({**answer, "chanId": number})
                    return
                del session.numbers[channel], session.sent_at[channel]
                if not is_muted(peer, [channel]):
                    yield encode({"event": "unsubscribed", "status": "OK", "chanId": number})

    def _subscribe(self, peer: Peer, request: Mapping[str, Any]) -> Iterator[Payload]:
        key = request.get("symbol") or request.get("key")
        name = str(request.get("channel"))
        channel = f"{name}:{key}" if key else name
        is_there = channel in peer.subscriptions
        error = None if is_there else peer.subscribe(channel)
        if is_muted(peer, [channel]):
            if error is None and not is_there:
                self._sessions[peer].add(channel)
            return
        echo = {name: value for name, value in request.items() if name not in _OF_REQUEST}
        if is_there or error is not None:
            yield encode({"event": "error", **_error(error), **echo})
            return
        number = self._sessions[peer].add(channel)
        yield encode({"event": "subscribed", "chanId": number, **echo})
        for snapshot in self.snapshot(channel, peer):
            yield self.personal(peer, channel, snapshot) or snapshot

    def shutdown_notice(self, peer: Peer) -> Payload:
        return encode({"event": "info", "code": 20051, "msg": "Stopping. Please try to reconnect"})

    def messages(self, channel: str, event: MarketEvent) -> Iterable[dict[str, Any]]:
        match event:
            case MarketTrade():
                yield {"kind": "te", **self.fields(channel, event)}
                yield {"kind": "tu", **self.fields(channel, event)}
            case Depth(bids, asks, book):
                rows = [*_rows(bids, 1), *_rows(asks, -1)]
                for row in sorted(rows, key=_stays):  # else the book would be crossed in between
                    yield {"payload": row}
                yield {"kind": "cs", "payload": Bitfinex.book.checksum(*book)}
            case _:
                yield self.fields(channel, event)

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        match event:
            case MarketTrade(number, price, size, side):
                amount = size if side == "buy" else size.copy_negate()
                return {"payload": [number, milliseconds(), amount, price]}
            case MarketQuote(bid, bid_size, ask, ask_size, last):
                return {"payload": [bid, bid_size, ask, ask_size, 0, 0, last, 0, last, last]}
            case Depth(bids, asks):
                return {"payload": [*_rows(bids, 1), *_rows(asks, -1)]}

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        parts = [fields["kind"]] if "kind" in fields else []
        return encode([0, *parts, fields["payload"]])

    def personal(self, peer: Peer, channel: str, payload: Payload) -> Payload | None:
        session = self._sessions[peer]
        body = (payload.decode() if isinstance(payload, bytes) else payload)[3:-1]
        if body.startswith('"cs"') and not session.flags & _OB_CHECKSUM:
            return None
        return session.write(channel, body)


def _rows(levels: MarketLevels, sign: int) -> list[list[Any]]:
    """Return levels as rows: price, number of orders, amount, which is negative for an ask."""
    return [
        [price, 1, size if sign > 0 else size.copy_negate()] if size else [price, 0, Decimal(sign)]
        for price, size in levels
    ]


def _stays(row: list[Any]) -> bool:
    """Return whether a row is not one that removes its level."""
    return bool(row[1])


def _error(error: str | None) -> dict[str, Any]:
    """Return text and code of a refused subscribe; without an error it is there already."""
    if error is None:
        return {"msg": "subscribe: dup", "code": 10301}
    if isinstance(error, ChannelRefusal) and error.kind == "limit":
        return {"msg": "subscribe: limit", "code": 10305}
    return {"msg": f"symbol: invalid: {error}", "code": 10300}
