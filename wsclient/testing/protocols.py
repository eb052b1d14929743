"""What a `FakeVenue` speaks: greeting, answers to requests, shape of the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec

from wsclient.dialects import Generic
from wsclient.sansio.dialect import Dialect

from .market import MarketEvent, Quote, Trade

if TYPE_CHECKING:
    from .peer import Peer

Payload = str | bytes
"""A message: str in a text frame, bytes in a binary one."""

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(message: Any) -> str:
    """Compact JSON. Decimals become numbers; `msgspec.Raw(b"1.10")` keeps a number's text."""
    return _encoder.encode(message).decode()


class VenueProtocol(Protocol):
    """A venue's side of the conversation; all is called under the venue's lock: never block.

    Subscriptions are kept by `peer.subscribe()` and `peer.unsubscribe()`; refusals and muted
    answers are asked of `peer.venue`.
    """

    def greeting(self, peer: Peer) -> Iterable[Payload]:
        """What a new connection is told first."""

    def received(self, peer: Peer, payload: Payload) -> Iterable[Payload]:
        """The answers to a message of the client; subscriptions change as these are made."""

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        """The message that `publish(channel, **fields)` sends."""

    def http(self, path: str) -> bytes | None:
        """The JSON that a GET of `path` is answered with; None: there is nothing."""


class ScriptedProtocol:
    """Answers nothing: the test does. A base for protocols of a few lines."""

    def greeting(self, peer: Peer) -> Iterable[Payload]:
        return ()

    def received(self, peer: Peer, payload: Payload) -> Iterable[Payload]:
        return ()

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        message = {"type": "market_data", "channel": channel, "sequence": sequence}
        return encode({**message, **fields})

    def http(self, path: str) -> bytes | None:
        return None


class MarketProtocol(ScriptedProtocol):
    """A base for the protocols of dialects: they also know how a made-up market is told.

    What is in `snapshots`, or what the function there returns, is sent to each later subscriber of
    the channel, right after the answer, where the venue sends such a thing.
    """

    #: The client's own, which reads what this protocol writes.
    dialect: ClassVar[Dialect]
    #: What a channel is about, and how it is called; `{}` stands for the symbol. The first that
    #: fits counts.
    kinds: ClassVar[Mapping[str, type[MarketEvent]]]
    #: The channels that are worth showing: each of these patterns with each of these symbols.
    patterns: ClassVar[Sequence[str]]
    symbols: ClassVar[Sequence[str]]
    #: A heartbeat that goes to all who are subscribed to anything.
    heartbeat_payload: ClassVar[bytes | None] = None

    def __init__(self) -> None:
        self.snapshots: dict[str, Payload | Callable[[], Payload]] = {}

    def listing(self, channel: str) -> tuple[str, type[MarketEvent]] | None:
        """The symbol of a channel and what is told of it; None when there is no such channel."""
        for pattern, kind in self.kinds.items():
            head, _, end = pattern.partition("{}")
            symbol = channel.removeprefix(head).removesuffix(end)
            if channel == head + symbol + end and symbol:
                return symbol, kind
        return None

    @classmethod
    def channels(cls) -> list[str]:
        return [pattern.format(symbol) for symbol in cls.symbols for pattern in cls.patterns]

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        """The fields that `data` needs to tell `event`."""
        raise NotImplementedError

    def snapshot(self, channel: str) -> Iterator[Payload]:
        """That of `channel`, if there is one."""
        snapshot = self.snapshots.get(channel)
        if snapshot is not None:
            yield snapshot() if callable(snapshot) else snapshot


class GenericProtocol(MarketProtocol):
    """Subscriptions by channel and numbered data, one JSON object a frame.

    Messages other than `subscribe` and `unsubscribe` go unanswered.
    """

    dialect = Generic()
    kinds: ClassVar = {"ticker:{}": Quote, "trades:{}": Trade, "{}": Trade}
    patterns = ("{}", "ticker:{}")
    symbols = ("BTC-USD", "ETH-USD", "SOL-USD")

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        channel = str(request.get("channel", ""))
        match request.get("type"):
            case "subscribe":
                error = peer.subscribe(channel)
            case "unsubscribe":
                error = None if peer.unsubscribe(channel) else "not subscribed"
            case _:
                return
        if peer.venue.muted(channel):
            return
        answer = {"type": "subscription", "channel": channel}
        if error is None:
            yield encode({**answer, "status": "success"})
        else:
            yield encode({**answer, "status": "error", "error": error})

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        if isinstance(event, Quote):
            return {"last": event.last, "bid": event.bid, "ask": event.ask}
        if not isinstance(event, Trade):
            raise TypeError("the protocol has no books")
        return {"price": event.price, "quantity": event.size, "side": event.side}


def as_object(payload: Payload) -> dict[str, Any]:
    """A request; empty when it is no JSON object."""
    try:
        message = json.loads(payload)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def texts(value: Any) -> list[str]:
    """A list of texts in a request; empty when it is none."""
    return [str(item) for item in value] if isinstance(value, list) else []
