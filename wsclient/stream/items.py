"""The items of a frame: what a dialect says that a frame means."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from wsclient.messages import Message

__all__ = [
    "Ack",
    "Counted",
    "DataFields",
    "Ended",
    "Ending",
    "Expired",
    "Heads",
    "Heartbeat",
    "Item",
    "LoginAccepted",
    "LoginRefused",
    "Notice",
    "Rejection",
    "Reply",
    "Respond",
    "SubscribedChannels",
    "Unhandled",
    "Verb",
]

#: The kind of a request.
Verb = Literal["subscribe", "unsubscribe"]


class Ack(msgspec.Struct, gc=False):
    """An answer: a request for channels was accepted.

    The request is found by ``request_id`` (all of its channels, or only ``channel``), or by
    ``channel`` alone; without either it is the oldest outstanding request. Ids are compared as
    text, as venues answer ``"1"`` to ``1``. ``symbol`` instead of ``channel`` selects the channel
    of that request that ends in ``:symbol``.

    ``alias`` is the venue's name for ``channel`` on this connection from now on. Messages and
    answers may contain the alias instead of the channel, and :meth:`Dialect.unsubscribe` receives
    it. ``verb`` is the kind of request that is answered, if the answer contains it. If the verb is
    ``"unsubscribe"``, and the Ack has no id and matches no request, the venue has ended
    ``channel``.
    """

    request_id: Any = None
    channel: str | None = None
    symbol: str | None = None
    alias: str | None = None
    verb: Verb | None = None


class Rejection(msgspec.Struct, gc=False):
    """An answer: a request for channels was refused. It is matched like an :class:`Ack`.

    ``name`` instead of ``channel`` selects the oldest subscribe for a channel whose name, or its
    part before the first colon, is ``name``. ``is_one``: one channel of the request was refused,
    and the venue does not say which; it is the one that remains when the others are answered.
    ``is_rest``: the channels that the Acks of the same answer left over, possibly none. ``verb``:
    as in :class:`Ack`.

    A Rejection that matches no request, has no id and names an active ``channel`` means that the
    venue has ended the channel. Exceptions: ``verb`` is ``"unsubscribe"``, or ``keeps_active`` is
    set, as the channel was already subscribed and remains subscribed. With ``keeps_active``, the
    answer to a resubscription confirms the channel.

    ``is_limit``: the venue refused because this connection has as many channels as it may have.
    """

    reason: str
    request_id: Any = None
    channel: str | None = None
    symbol: str | None = None
    is_rest: bool = False
    name: str | None = None
    is_one: bool = False
    verb: Verb | None = None
    keeps_active: bool = False
    is_limit: bool = False


class Ended(msgspec.Struct, gc=False):
    """The venue has ended an active ``channel`` without an unsubscribe.

    ``name`` instead of ``channel`` selects all active channels whose name, or its part before the
    first colon, is ``name``.
    """

    reason: str
    channel: str | None = None
    name: str | None = None


class Ending(msgspec.Struct, gc=False):
    """The venue will end this connection by itself soon, and asks for another one.

    ``within`` is the time (s) that is left, if the venue states it.
    """

    reason: str
    within: float | None = None


class Expired(msgspec.Struct, gc=False):
    """The venue sends nothing more on this connection, although it stays open: a key has expired.

    The connection is replaced at once, and the next message of each of its channels carries a gap
    mark.
    """

    reason: str


class SubscribedChannels(msgspec.Struct, gc=False):
    """A cumulative answer: all channels that are subscribed now, in any order."""

    channels: Sequence[str]


class Counted(msgspec.Struct, gc=False):
    """The number of this frame, if the venue counts all frames that it sends on a connection.

    That includes answers and heartbeats. It precedes the frame's other items: after a jump, the
    next message of each channel carries a gap mark.
    """

    sequence: int


class Heartbeat(msgspec.Struct, gc=False):
    """A sign of life, a greeting or a status; not delivered."""


class Notice(msgspec.Struct, gc=False):
    """A text of the venue for people, which is logged (maintenance, an error of no request)."""

    text: str


class Respond(msgspec.Struct, gc=False):
    """A heartbeat that must be answered by sending ``payload``."""

    payload: Any


class Reply(msgspec.Struct, gc=False):
    """The decoded answer to a ``client.request()``.

    ``error`` is set if the venue refused the request, and ``is_unknown`` if the error means that
    the venue does not know whether it has acted on it. ``failed`` maps each item that was refused,
    by its index in the request, to the reason, if the answer is about several items. Otherwise the
    answers to each item are one ``Reply`` each: see :meth:`Dialect.answers`.
    An error without a ``request_id`` answers the oldest request that waits, a subscribe too.
    """

    request_id: Any
    payload: Any
    error: str | None = None
    failed: Mapping[int, str] | None = None
    is_unknown: bool = False


class LoginAccepted(msgspec.Struct, gc=False):
    """The login was accepted."""


class LoginRefused(msgspec.Struct, gc=False):
    """The login was refused; the client fails for good."""

    reason: str


class Unhandled(msgspec.Struct, gc=False):
    """A well-formed frame of a type that the dialect does not know."""

    type: str
    channel: str = ""


#: What ``Dialect.read()`` returns: market data, or one of the classes above.
Item = (
    Message
    | Ack
    | Counted
    | Rejection
    | Ended
    | Ending
    | Expired
    | SubscribedChannels
    | Heartbeat
    | Notice
    | Respond
    | Reply
    | LoginAccepted
    | LoginRefused
    | Unhandled
)


class Heads(NamedTuple):
    """How the heads of data frames are read, which is much faster than to read whole frames.

    ``struct`` is a ``msgspec.Struct`` of the few fields that are needed. ``key`` names those of its
    attributes (dotted for nested ones) that say what a frame means: the client calls
    :meth:`Dialect.peek` or :meth:`Dialect.read` for the first frame with a key, and takes all later
    frames with an equal key to mean the same, except for numbers. So a key must separate data from
    any other frame, and a channel with numbers from one without.

    ``numbers`` names the attributes that may hold the numbers of a message: ``("number",)`` for one
    that rises by 1 per message, ``("first", "last")`` for a range, ``("previous", "number")`` for a
    pointer, or ``("previous", "number", "type")`` if the message's type is not in the key.
    ``counts`` names those that may hold the number of a :class:`Counted`. All are integers.
    ``may_begin_to_count``: the beginnings of the names of channels whose messages may have numbers
    from some time on.
    """

    struct: type[msgspec.Struct]
    key: Sequence[str]
    numbers: Sequence[tuple[str, ...]] = ()
    counts: Sequence[str] = ()
    may_begin_to_count: tuple[str, ...] = ()


class DataFields(NamedTuple):
    """The top-level fields of JSON data messages that contain type, channel and sequence.

    The ``type`` field has one of ``types``; the ``channel`` field is text and is the channel; the
    first of the ``sequences`` fields that is an integer rises by 1 per message of a channel.
    """

    types: Collection[str]
    type: str = "type"
    channel: str = "channel"
    sequences: Sequence[str] = ("sequence",)
