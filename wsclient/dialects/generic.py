"""The default protocol: one JSON object per text frame; its ``type`` says what it is.

::

    out  {"type": "subscribe", "channel": C}, {"type": "unsubscribe", "channel": C}
    in   {"type": "subscription", "channel": C, ...}   an answer. Without a channel it answers the
         oldest request; with the "status" unsubscribed it answers an unsubscribe. It is a refusal
         if "status" is error, rejected or failed, if "success" is false, or if it has an "error".
         If "limit" is true, the connection has as many channels as it may have
    in   {"type": "market_data", "channel": C, "sequence": N, ...}   data; N rises by 1 per channel,
         and is the same on all connections. A field "connection" may say which one this is, and
         "gateway_time" when it was sent there
    in   {"type": "ending", "reason": R, "within": S}   the venue will end this connection, in S
         seconds if it says so, and wants another one before
    in   {"type": "response", "id": N, ...}   the answer to a request(), which had this "id". It is
         a refusal as above. It may have one in "responses" for each of several items
    in   {"type": "system" | "heartbeat" | "ping" | "pong" | "status", ...}   filtered
    in   anything else   unhandled

The names of fields and types are parameters, so a similar protocol needs no class of its own.

With ``routes`` a venue has several addresses, which end in the name of a route
(``wss://acme.example/feed/spot``). The channel C of another route than that of the client's address
is ``spot:C`` for the client, and C for the venue.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from wsclient.dialect import (
    Ack,
    ConfigurationError,
    DataFields,
    Dialect,
    Ending,
    Heartbeat,
    Item,
    Limits,
    Message,
    Rejection,
    Reply,
    RouteAddresses,
    Unhandled,
)

__all__ = ["Generic"]

_REFUSED = frozenset({"error", "rejected", "failed"})


class Generic(Dialect):
    """Dialect of the default protocol and of protocols similar to it.

    ``data_types``, ``answer_types`` and ``system_types`` say what an incoming ``type`` means. The
    ``*_field`` parameters name the fields; ``sequence_fields`` are tried in order.
    ``timestamp_field`` is the field in which the venue says when it sent a message, or None if it
    has none. ``silence_timeout`` (s) and ``limits`` are the venue's, if it has any.
    ``response_types`` are the types of answers to ``client.request()``, which gives a request the
    field ``id``. ``ending_types`` are the types of an announced end. ``connection_fields`` are
    fields of data that differ between two connections; so do numbers without
    ``numbers_are_shared``. ``routes`` are the names of the venue's routes.

    Raises ConfigurationError if a collection of names is not a collection of text, and for a route
    that cannot stand in an address and before a colon.
    """

    name: ClassVar[str] = "generic"
    client_order_id = "client_id"
    _routes: RouteAddresses | None = None

    def __init__(
        self,
        *,
        type_field: str = "type",
        channel_field: str = "channel",
        sequence_fields: Sequence[str] = ("sequence", "seq"),
        subscribe_type: str = "subscribe",
        unsubscribe_type: str = "unsubscribe",
        answer_types: Collection[str] = ("subscription",),
        data_types: Collection[str] = ("market_data",),
        system_types: Collection[str] = ("system", "heartbeat", "ping", "pong", "status"),
        limits: Limits | None = None,
        silence_timeout: float | None = None,
        timestamp_field: str | None = None,
        ending_types: Collection[str] = ("ending",),
        connection_fields: Collection[str] = ("connection", "gateway_time"),
        numbers_are_shared: bool = True,
        routes: Collection[str] = (),
        response_types: Collection[str] = ("response",),
    ) -> None:
        given = {
            "sequence_fields": sequence_fields,
            "answer_types": answer_types,
            "data_types": data_types,
            "system_types": system_types,
            "ending_types": ending_types,
            "connection_fields": connection_fields,
            "routes": routes,
            "response_types": response_types,
        }
        for name, texts in given.items():
            if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
                raise ConfigurationError(f"{name} must be a collection of text, not {texts!r}")
        if found := [route for route in routes if not route or not set(route).isdisjoint("/:?#")]:
            raise ConfigurationError(f"a route cannot be called {found[0]!r}")
        self._type_field = type_field
        self._channel_field = channel_field
        self._types = {"subscribe": subscribe_type, "unsubscribe": unsubscribe_type}
        self._answer_types = frozenset(answer_types)
        self._data_types = frozenset(data_types)
        self._system_types = frozenset(system_types)
        self._ending_types = frozenset(ending_types)
        self._response_types = frozenset(response_types)
        self._connection_fields = frozenset(connection_fields)
        self._routes = RouteAddresses({name: name for name in routes}) if routes else None
        self._sequence_fields = tuple(sequence_fields)
        self.data_fields = DataFields(
            self._data_types, type_field, channel_field, self._sequence_fields
        )
        self.silence_timeout = silence_timeout
        self.numbers_are_shared = numbers_are_shared
        if timestamp_field is not None:
            self.timestamp_fields = ((timestamp_field,),)
        if limits is not None:
            self.limits = limits

    def default_route(self, url: str) -> str:
        return self._routes.of(url) if self._routes else ""

    def route(self, channel: str, url: str) -> str:
        route = channel.partition(":")[0] if channel != self.wire_name(channel) else None
        route = self.default_route(url) if route is None else route
        self.address(url, route)  # raises if the address has no routes
        return route

    def address(self, url: str, route: str) -> str:
        return self._routes.address(url, route) if self._routes else url

    def wire_name(self, channel: str) -> str:
        route, colon, name = channel.partition(":")
        return name if colon and self._routes and route in self._routes else channel

    def batches(self, channels: Sequence[str]) -> Iterable[Sequence[str]]:
        return [[channel] for channel in channels]  # one channel per message

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        (channel,) = channels
        request = {self._type_field: self._types[verb], self._channel_field: channel}
        if clash := sorted(request.keys() & options.keys()):
            raise ConfigurationError(f"the option {clash[0]!r} is a field of the protocol's own")
        return {**request, **options}

    def read(self, message: Any) -> Item:
        if type(message) is not dict:
            raise TypeError("not a JSON object")
        kind = message.get(self._type_field)
        channel = message.get(self._channel_field)
        if not (kind is None or type(kind) is str) or not (channel is None or type(channel) is str):
            raise TypeError(f"{self._type_field} or {self._channel_field} is not text")
        if kind in self._data_types:
            for field in self._sequence_fields:
                sequence = message.get(field)
                if type(sequence) is int:
                    return Message(channel or "", kind, sequence)
            return Message(channel or "", kind)
        if kind in self._answer_types:
            return self._answer(message, channel or None)
        if kind in self._system_types:
            return Heartbeat()
        if kind in self._ending_types:
            return _ending(message)
        if kind in self._response_types and message.get("id") is not None:
            return Reply(message["id"], message, _refusal(message), _failed(message))
        return Unhandled(kind or "", channel or "")

    def _answer(self, answer: dict[str, Any], channel: str | None) -> Item:
        reason = _refusal(answer)
        if reason is None:
            status = answer.get("status")
            is_end = isinstance(status, str) and status.lower() == "unsubscribed"
            return Ack(channel=channel, verb="unsubscribe" if is_end else None)
        return Rejection(reason, channel=channel, is_limit=answer.get("limit") is True)

    def request(self, payload: Any, request_id: int) -> Any:
        return {**payload, "id": request_id}

    def identity(self, message: Message) -> Hashable:
        """Return the payload without the fields that differ between two connections."""
        if message.item is not None or not self.is_json:  # in a class derived from this one
            return super().identity(message)
        fields = msgspec.json.decode(message.raw, type=dict[str, msgspec.Raw])
        own = self._connection_fields
        return tuple((name, bytes(value)) for name, value in fields.items() if name not in own)


def _failed(message: Mapping[str, Any]) -> dict[int, str] | None:
    """Return what was refused of a request with several items, None if nothing was."""
    rows = message.get("responses")
    answers = enumerate(rows if isinstance(rows, list) else ())
    refused = {n: _refusal(answer) for n, answer in answers if isinstance(answer, dict)}
    return {n: reason for n, reason in refused.items() if reason is not None} or None


def _refusal(answer: Mapping[str, Any]) -> str | None:
    """Return why an answer refuses a request, None if it does not."""
    error, status = answer.get("error"), answer.get("status")
    refused = isinstance(status, str) and status.lower() in _REFUSED
    if error is None and not refused and answer.get("success") is not False:
        return None
    reasons = (error, answer.get("reason"), answer.get("message"), str(error or ""), status)
    return next((r for r in reasons if isinstance(r, str) and r), "refused without a reason")


def _ending(message: dict[str, Any]) -> Ending:
    reason, within = message.get("reason"), message.get("within")
    words = reason if isinstance(reason, str) and reason else "no reason given"
    if not isinstance(within, (int, float)) or type(within) is bool or within <= 0:
        return Ending(words)
    return Ending(words, float(within))
