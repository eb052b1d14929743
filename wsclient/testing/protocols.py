"""The protocols of a `FakeVenue`: its greeting, its answers to requests, the shape of its data."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, ClassVar

from wsclient.dialect import Dialect
from wsclient.testing.accounts import Account, OrderChange
from wsclient.testing.delivery import Update
from wsclient.testing.frames import Payload, encode
from wsclient.testing.limits import ChannelRefusal
from wsclient.testing.market import MarketEvent, MarketLevels
from wsclient.testing.peer import Peer, VenueProtocol
from wsclient.testing.rest import RestCall
from wsclient.testing.routes import Route

__all__ = [
    "MarketProtocol",
    "Payload",
    "ScriptedProtocol",
    "VenueProtocol",
    "as_json",
    "as_object",
    "encode",
    "is_muted",
    "level_texts",
    "milliseconds",
    "newest",
    "now_text",
    "repeat",
    "subscribe_all",
    "texts",
    "unsubscribe_all",
]


class ScriptedProtocol:
    """A protocol that leaves all answers to the test. Also a base for small protocols."""

    #: The routes of the venue by name, and that of a path without one: see `RouteTable`.
    routes: Mapping[str, Route] = {}
    default_route: str | None = None
    #: Code and reason of the close frame at the maximum age and after a notice; None: a FIN only.
    end: tuple[int, str] | None = (1001, "")
    #: Code and reason of the close frame for a client that sends too many messages.
    too_fast: tuple[int, str] = (1008, "Too many requests")
    #: Finds the time (ms) that each gateway of the venue writes itself, in group 2.
    gateway_time: re.Pattern[str] | None = None
    #: An answer is sent under the venue's lock, so that nothing is published amid it.
    answers_whole: bool = False
    #: The fields of a client's credentials, and which fields of an `Account` they are.
    credential_fields: Mapping[str, str] = {}

    def greeting(self, peer: Peer) -> Iterable[Payload]:
        return ()

    def received(self, peer: Peer, payload: Payload) -> Iterable[Payload]:
        return ()

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        message = {"type": "market_data", "channel": channel, "sequence": sequence}
        return encode({**message, **fields})

    def http(self, path: str) -> bytes | None:
        return None

    def rest(self, call: RestCall, accounts: Sequence[Account]) -> bytes | None:
        """Return the JSON that answers a request by REST that is no GET, None for a status 404."""
        return None

    def is_private(self, channel: str) -> bool:
        """Return whether a client must log in to subscribe to a channel."""
        return False

    def news(
        self, account: Account, change: OrderChange
    ) -> Iterable[tuple[str, Payload | Mapping[str, Any]]]:
        """Return the private channels that report a change of an order, each with its message.

        Or with the fields of one, which `data` then numbers and writes.
        """
        return ()

    def pair(self, symbol: str) -> tuple[str, str] | None:
        """Return the currencies that a symbol trades, None if balances do not change with it."""
        return None

    def shutdown_notice(self, peer: Peer) -> Payload | None:
        """Return the notice that `announce_shutdown` sends, None if the venue has none."""
        return None

    def join(self, channel: str, updates: Sequence[Update]) -> Payload | None:
        """Return one message for several updates that follow each other.

        None if the venue's messages of this channel do not hold several: they go out one by one.
        """
        return None

    def personal(self, peer: Peer, channel: str, payload: Payload) -> Payload | None:
        """Return a published message with what differs on each connection, such as its count.

        None if this client does not get it. Called once for each message and subscriber, in order.
        """
        return payload


class MarketProtocol(ScriptedProtocol):
    """A base for the protocols of dialects, which can also write the events of a made-up market.

    A payload in `snapshots`, or the one that a function there returns, is sent to each later
    subscriber of the channel, right after the answer, if the venue sends snapshots there.
    """

    answers_whole = True
    #: The dialect of the client, which reads what this protocol writes.
    dialect: ClassVar[Dialect]
    #: The names of channels and the events that they carry; `{}` stands for the symbol. The first
    #: match counts.
    kinds: ClassVar[Mapping[str, type[MarketEvent]]]
    #: The default channels: each of these patterns with each of these symbols.
    patterns: ClassVar[Sequence[str]]
    symbols: ClassVar[Sequence[str]]
    #: A heartbeat that goes to all peers with a subscription.
    heartbeat_payload: ClassVar[bytes | None] = None
    #: Whether recordings can be replayed: their messages are the same on all connections.
    has_recordings: ClassVar[bool] = True
    #: The path at which `http` answers with snapshots of order books. The dialect takes its address
    #: as the argument `rest`. None if snapshots come in the stream.
    rest_path: ClassVar[str | None] = None
    #: Whether the dialect takes the venue's REST address as the argument `rest` for tokens.
    has_rest: ClassVar[bool] = False
    #: Whether requests about orders are answered on its connections.
    takes_orders: ClassVar[bool] = False

    @classmethod
    def served(cls) -> MarketProtocol:
        """Return the protocol as `wsclient serve` speaks it, such as with heartbeats."""
        return cls()

    def __init__(self) -> None:
        self.snapshots: dict[str, Payload | Callable[[], Payload]] = {}

    def listing(self, channel: str) -> tuple[str, type[MarketEvent]] | None:
        """Return the symbol and kind of event of a channel, or None if it does not exist."""
        for pattern, kind in self.kinds.items():
            head, _, end = pattern.partition("{}")
            symbol = channel.removeprefix(head).removesuffix(end)
            if channel == head + symbol + end and symbol:
                return symbol, kind
        return None

    @classmethod
    def channels(cls) -> list[str]:
        """Return the default channels."""
        return [pattern.format(symbol) for symbol in cls.symbols for pattern in cls.patterns]

    def fields(self, channel: str, event: MarketEvent, is_snapshot: bool = False) -> dict[str, Any]:
        """Return the fields that `data` needs to write `event`."""
        raise NotImplementedError

    def messages(self, channel: str, event: MarketEvent) -> Iterable[dict[str, Any]]:
        """Return the fields of each message that the venue sends for `event`."""
        return [self.fields(channel, event)]

    def snapshot(self, channel: str, peer: Peer | None = None) -> Iterator[Payload]:
        """Yield the snapshot of `channel`, if there is one, for the route of `peer`."""
        route = None if peer is None else peer.route
        snapshot = self.snapshots.get(f"{route}:{channel}", self.snapshots.get(channel))
        if snapshot is not None:
            yield snapshot() if callable(snapshot) else snapshot


def as_object(payload: Payload) -> dict[str, Any]:
    """Return a request as a dictionary, an empty one if it is not a JSON object."""
    message = as_json(payload)
    return message if isinstance(message, dict) else {}


def as_json(payload: Payload) -> Any:
    """Return a request decoded, None if it is no JSON.

    Half a character in it, such as ``"\\ud800"``, could not be sent back, and is no JSON either.
    """
    try:
        message = json.loads(payload)
        if "\\ud" in (payload if isinstance(payload, str) else payload.decode()).lower():
            json.dumps(message, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return message


def texts(value: Any) -> list[str]:
    """Return a list in a request as texts, an empty list if `value` is not a list."""
    return [str(item) for item in value] if isinstance(value, list) else []


def repeat(peer: Peer, interval: float, function: Callable[[], object]) -> None:
    """Call `function` every `interval` (s), as long as the peer is live."""

    def call() -> None:
        if peer.live:
            function()
            peer.call_later(interval, call)

    peer.call_later(interval, call)


def subscribe_all(peer: Peer, channels: Sequence[str]) -> ChannelRefusal | None:
    """Subscribe the peer to all channels, or to none if one is refused; return the reason."""
    reason = peer.refusal(*channels)
    if reason is None:
        for channel in channels:
            peer.subscribe(channel)
    return reason


def unsubscribe_all(peer: Peer, channels: Sequence[str]) -> str | None:
    """Unsubscribe the peer from all channels; return which ones it was not subscribed to."""
    unknown = [channel for channel in channels if not peer.unsubscribe(channel)]
    return f"not subscribed to {', '.join(unknown)}" if unknown else None


def is_muted(peer: Peer, channels: Sequence[str]) -> bool:
    """Return True if a request for these channels gets no answer."""
    return any(peer.venue.muted(channel) for channel in channels)


def newest(*groups: Iterable[Sequence[Any]], key: int = 1) -> list[Any]:
    """Return the rows of successive updates of a book, of each level the last one.

    The first `key` fields of a row say which level it is.
    """
    return list({tuple(row[:key]): row for rows in groups for row in rows}.values())


def level_texts(levels: MarketLevels) -> list[list[str]]:
    """Return price and size of each level as texts."""
    return [[str(price), str(size)] for price, size in levels]


def milliseconds() -> int:
    """Return the time (ms since the epoch)."""
    return time.time_ns() // 10**6


def now_text() -> str:
    """Return the time as an ISO 8601 text with microseconds."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
