"""The messages that a dialect reads from a frame, by both ways of reading, which must agree."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from support.making import entries_of
from wsclient.dialect.base import Dialect
from wsclient.messages import Message
from wsclient.stream.inbound import Inbound
from wsclient.stream.incoming import Invalid


class Data(NamedTuple):
    """A dialect's description of a message."""

    channel: str
    type: str = "update"
    sequence: int | None = None
    item: int | None = None


def shape(entry: Any) -> Any:
    if isinstance(entry, Message):
        return Data(entry.channel, entry.type, entry.sequence, entry.item)
    return Invalid if isinstance(entry, Invalid) else entry


def read(dialect: Dialect, frame: Any) -> list[Any]:
    """Return the shapes of what a frame holds; ``Invalid`` for one that cannot be read."""
    raw = frame if isinstance(frame, bytes) else msgspec.json.encode(frame)
    ahead, later = Inbound(dialect), Inbound(dialect)
    later.ahead = False
    decoded = [shape(entry) for entry in entries_of(ahead, raw)]
    peeked = [shape(entry) for entry in entries_of(later, raw)]
    assert decoded == peeked, "the two ways of reading a frame disagree"
    return decoded


def read_one(dialect: Dialect, frame: Any) -> Any:
    """Return the shape of the one item that a frame holds."""
    (item,) = read(dialect, frame)
    return item


def message_in(dialect: Dialect, frame: Any) -> Message:
    """Return the one message of a frame."""
    raw = frame if isinstance(frame, bytes) else msgspec.json.encode(frame)
    (message,) = entries_of(Inbound(dialect), raw)
    assert isinstance(message, Message)
    return message
