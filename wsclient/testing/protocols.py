"""What a `FakeVenue` speaks: greeting, answers to requests, shape of the data."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

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


class ScriptedProtocol:
    """Answers nothing: the test does. A base for protocols of a few lines."""

    def greeting(self, peer: Peer) -> Iterable[Payload]:
        return ()

    def received(self, peer: Peer, payload: Payload) -> Iterable[Payload]:
        return ()

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        message = {"type": "market_data", "channel": channel, "sequence": sequence}
        return encode({**message, **fields})


class GenericProtocol(ScriptedProtocol):
    """Subscriptions by channel and numbered data, one JSON object a frame.

    Messages other than `subscribe` and `unsubscribe` go unanswered.
    """

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = _object(payload)
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


class KrakenProtocol(ScriptedProtocol):
    """Kraken v2. A channel is called `book:BTC/USD`, or `instrument` where it has no symbol.

    `heartbeat` is the interval in seconds of heartbeats to a client with a subscription; None
    sends none. A book in `snapshots` is sent right after the ack of a subscribe that wants it.
    """

    DEPTHS = (10, 25, 100, 500, 1000)
    HEARTBEAT = '{"channel":"heartbeat"}'

    def __init__(self, *, heartbeat: float | None = None) -> None:
        self.heartbeat = heartbeat
        self.snapshots: dict[str, Payload] = {}

    def set_snapshot(self, channel: str, **fields: Any) -> None:
        """Send `fields` to each later subscriber of `channel`, as a message of type snapshot."""
        self.snapshots[channel] = self.data(channel, 0, {"type": "snapshot", **fields})

    def channel_of(self, message: Mapping[str, Any]) -> str | None:
        """The channel of a message of the venue; None for an answer to a request."""
        name = message.get("channel")
        for item in message.get("data", ()):
            if isinstance(item, dict) and "symbol" in item:
                return f"{name}:{item['symbol']}"
        return name

    def greeting(self, peer: Peer) -> Iterator[Payload]:
        if self.heartbeat is not None:
            peer.call_later(self.heartbeat, functools.partial(self._beat, peer, self.heartbeat))
        status = {
            "version": "2.0.10",
            "system": "online",
            "api_version": "v2",
            "connection_id": 7204881492680171915 + peer.id,
        }
        yield encode({"channel": "status", "type": "update", "data": [status]})

    def _beat(self, peer: Peer, interval: float) -> None:
        if peer.live:
            if peer.subscriptions:
                peer.send(self.HEARTBEAT)
            peer.call_later(interval, functools.partial(self._beat, peer, interval))

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = _object(payload)
        req_id = {"req_id": request["req_id"]} if "req_id" in request else {}
        method = request.get("method")
        if method == "ping":
            yield encode({"method": "pong", **req_id, **_times()})
        if method not in ("subscribe", "unsubscribe"):
            return
        params = request.get("params", {})
        name = str(params.get("channel", ""))
        options: dict[str, Any] = {}
        if name == "book":
            options["depth"] = params.get("depth", 10)
            if options["depth"] not in self.DEPTHS:
                if not peer.venue.muted(name):  # Kraken tells no symbol here
                    yield _refusal(method, "Subscription depth not supported", {}, req_id)
                return
        for symbol in params.get("symbol", [None]):
            which = {} if symbol is None else {"symbol": symbol}
            channel = name if symbol is None else f"{name}:{symbol}"
            result = {"channel": name, **options, **which}
            wants_snapshot = params.get("snapshot", name != "trade")
            if method == "subscribe":
                result["snapshot"] = wants_snapshot
                error = peer.subscribe(channel, **options)
            else:
                error = self._unsubscribe(peer, channel, options)
            if peer.venue.muted(channel):
                continue
            if error is not None:
                yield _refusal(method, error, which, req_id)
                continue
            yield encode(
                {"method": method, **req_id, "result": result, "success": True, **_times()}
            )
            if method == "subscribe" and wants_snapshot and channel in self.snapshots:
                yield self.snapshots[channel]

    def _unsubscribe(self, peer: Peer, channel: str, options: dict[str, Any]) -> str | None:
        if channel not in peer.subscriptions or peer.options(channel) != options:
            return "Subscription Not Found"
        peer.unsubscribe(channel)
        return None

    def data(self, channel: str, sequence: int, fields: Mapping[str, Any]) -> Payload:
        name, _, symbol = channel.partition(":")
        item = {key: value for key, value in fields.items() if key != "type"}
        if symbol:
            item = {"symbol": symbol, **item}
        return encode({"channel": name, "type": fields.get("type", "update"), "data": [item]})


PROTOCOLS: dict[str | None, Callable[[], VenueProtocol]] = {
    None: ScriptedProtocol,
    "generic": GenericProtocol,
    "kraken": KrakenProtocol,
}


def _object(payload: Payload) -> dict[str, Any]:
    try:
        message = json.loads(payload)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _refusal(
    method: str, error: str, which: Mapping[str, Any], req_id: Mapping[str, Any]
) -> Payload:
    return encode(
        {"error": error, "method": method, **req_id, "success": False, **which, **_times()}
    )


def _times() -> dict[str, str]:
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"time_in": now, "time_out": now}
