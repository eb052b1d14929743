"""The default protocol: one JSON object a text frame, told apart by its ``type``.

::

    out  {"type": "subscribe", "channel": C}, {"type": "unsubscribe", "channel": C}
    in   {"type": "subscription", "channel": C, ...}   an answer; without a channel, to the oldest
         refused: "status" is error, rejected or failed; "success" is false; or "error" is there
    in   {"type": "market_data", "channel": C, "sequence": N, ...}   data; +1 a channel
    in   {"type": "system" | "heartbeat" | "ping" | "pong" | "status", ...}   filtered
    in   anything else: unhandled

Names of fields and of types are parameters, so that a near relative needs no class of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from wsclient.sansio.dialect import (
    Ack,
    Data,
    Dialect,
    Heartbeat,
    Item,
    Limits,
    Rejection,
    Unhandled,
)

__all__ = ["Generic"]

_REFUSED = frozenset({"error", "rejected", "failed"})


class Generic(Dialect):
    """``data_types``, ``answer_types`` and ``system_types`` say what an incoming ``type`` means;
    the ``*_field`` parameters name the fields; ``sequence_fields`` are tried in order."""

    name: ClassVar[str] = "generic"

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
    ) -> None:
        self._type_field = type_field
        self._channel_field = channel_field
        self._subscribe_type = subscribe_type
        self._unsubscribe_type = unsubscribe_type
        self._answer_types = frozenset(answer_types)
        self._data_types = frozenset(data_types)
        self._system_types = frozenset(system_types)
        self._sequences = [f"sequence_{i}" for i in range(len(sequence_fields))]
        self.silence_timeout = silence_timeout
        if limits is not None:
            self.limits = limits
        names = {"type": type_field, "channel": channel_field}
        names.update(zip(self._sequences, sequence_fields, strict=True))
        head = msgspec.defstruct(
            "Head",
            [
                ("type", str | None, None),
                ("channel", str | None, None),
                *((name, Any, None) for name in self._sequences),
            ],
            rename=names,
            gc=False,
        )
        self._peek = msgspec.json.Decoder(head).decode

    def subscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        return self._request(self._subscribe_type, channels, options)

    def unsubscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        return self._request(self._unsubscribe_type, channels, options)

    def _request(
        self, kind: str, channels: Sequence[str], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        (channel,) = channels
        return {self._type_field: kind, self._channel_field: channel, **options}

    def peek(self, frame: bytes) -> Sequence[Item]:
        head: Any = self._peek(frame)
        kind = head.type
        if kind in self._data_types:
            for name in self._sequences:
                sequence = getattr(head, name)
                if type(sequence) is int:
                    return (Data(head.channel or "", kind, sequence),)
            return (Data(head.channel or "", kind),)
        if kind in self._answer_types:
            return (self._answer(frame, head.channel),)
        if kind in self._system_types:
            return (Heartbeat(),)
        return (Unhandled(kind or "", head.channel or ""),)

    def _answer(self, frame: bytes, channel: str | None) -> Item:
        answer = msgspec.json.decode(frame)
        error = answer.get("error")
        status = answer.get("status")
        refused = isinstance(status, str) and status.lower() in _REFUSED
        if error is None and not refused and answer.get("success") is not False:
            return Ack(channel=channel)
        reasons = (error, answer.get("reason"), answer.get("message"), str(error or ""), status)
        reason = next((r for r in reasons if isinstance(r, str) and r), "refused without a reason")
        return Rejection(reason, channel=channel)
