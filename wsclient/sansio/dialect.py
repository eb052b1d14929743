"""What a venue speaks. A dialect is stateless: it translates, and the session decides.

A dialect answers three questions: how to ask for channels (:meth:`Dialect.subscribe`), what an
incoming message is (:meth:`Dialect.read`), and what limits hold (:attr:`Dialect.limits`). All else
has a default.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import msgspec

from wsclient.errors import NotSupported
from wsclient.messages import Message
from wsclient.sansio.codec import decoder

__all__ = [
    "Ack",
    "DataFields",
    "Dialect",
    "Heartbeat",
    "Item",
    "Limits",
    "LoginAccepted",
    "LoginRefused",
    "Notice",
    "Rejection",
    "Reply",
    "Respond",
    "Subscribed",
    "Unhandled",
]


class Ack(msgspec.Struct, gc=False):
    """A request for channels was accepted.

    By id (all of its channels, or the ``channel`` named), by channel alone, or, with neither, the
    oldest request outstanding. Ids are compared as text: venues answer ``"1"`` to ``1``.
    ``symbol`` instead of ``channel`` names the channel of that request that ends in ``:symbol``.
    """

    request_id: Any = None
    channel: str | None = None
    symbol: str | None = None


class Rejection(msgspec.Struct, gc=False):
    """A request for channels was refused; matched as an :class:`Ack`."""

    reason: str
    request_id: Any = None
    channel: str | None = None
    symbol: str | None = None


class Subscribed(msgspec.Struct, gc=False):
    """The cumulative answer: all channels that are subscribed now, in any order."""

    channels: Sequence[str]


class Heartbeat(msgspec.Struct, gc=False):
    """A sign of life, a greeting, a status: filtered."""


class Notice(msgspec.Struct, gc=False):
    """Words of the venue that a person should read (maintenance, an error of no request)."""

    text: str


class Respond(msgspec.Struct, gc=False):
    """A heartbeat that must be answered: ``payload`` is sent."""

    payload: Any


class Reply(msgspec.Struct, gc=False):
    """The answer to a ``client.request()``, decoded. ``error`` is set where it was refused."""

    request_id: Any
    payload: Any
    error: str | None = None


class LoginAccepted(msgspec.Struct, gc=False):
    """The login was accepted."""


class LoginRefused(msgspec.Struct, gc=False):
    """The login was refused: fatal."""

    reason: str


class Unhandled(msgspec.Struct, gc=False):
    """A well-formed frame of a type that the dialect does not know."""

    type: str
    channel: str = ""


#: What an incoming message can be: market data, or one of the above.
Item = (
    Message
    | Ack
    | Rejection
    | Subscribed
    | Heartbeat
    | Notice
    | Respond
    | Reply
    | LoginAccepted
    | LoginRefused
    | Unhandled
)


class DataFields(NamedTuple):
    """Where a data message says what it is: JSON objects with these fields at their top level.

    The ``type`` field is one of ``types``; the ``channel`` field is text, and is the channel; the
    first of the ``sequences`` fields that is an integer counts +1 a channel.
    """

    types: Collection[str]
    type: str = "type"
    channel: str = "channel"
    sequences: Sequence[str] = ("sequence",)


@dataclass(frozen=True)
class Limits:
    """What the venue allows.

    ``connects`` is (attempts, seconds); ``max_age`` (seconds) of a connection, after which the
    client makes a new one by itself.
    """

    channels_per_message: int = 1
    messages_per_second: float | None = None
    channels_per_connection: int | None = None
    connects: tuple[int, float] | None = (60, 60.0)
    max_age: float | None = None


class Dialect:
    """Base of all dialects. Override :meth:`subscribe`, :meth:`unsubscribe` and :meth:`read`.

    Attributes: ``limits``; ``acknowledges`` (False where the venue never answers a subscribe: a
    channel's first data then confirms it); ``silence_timeout`` (s without any frame but pongs after
    which the link is dead, for venues that send heartbeats); ``keepalive`` (payload and interval in
    s of a ping in the venue's own words); ``data_fields`` and ``peek``, for speed.
    """

    name: ClassVar[str] = "custom"
    limits: Limits = Limits()
    acknowledges: bool = True
    #: The client's option of the same name overrides it.
    silence_timeout: float | None = None
    keepalive: tuple[Any, float] | None = None

    def url(self, url: str, credentials: Mapping[str, Any] | None) -> str:
        """The address for this attempt. May block (a token by REST); called anew at each."""
        return url

    def login(self, credentials: Mapping[str, Any]) -> Any:
        """The login message, sent first on each connection; None where there is no login."""
        return None

    def batches(self, channels: Sequence[str]) -> Iterable[Sequence[str]]:
        """Split channels of one ``subscribe`` into messages, within the limits."""
        size = self.limits.channels_per_message
        return [channels[i : i + size] for i in range(0, len(channels), size)]

    def subscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        """One message that subscribes to ``channels``: text, bytes, or an object for JSON."""
        raise NotImplementedError

    def unsubscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        """The reverse, with the options that the channels were subscribed with."""
        raise NotImplementedError

    def decoder(self, decimal: bool) -> Callable[[bytes], Any]:
        """How a frame is decoded: as JSON, by default (:func:`wsclient.sansio.codec.decoder`)."""
        return decoder(decimal)

    def read(self, message: Any) -> Item | Sequence[Item]:
        """What a decoded frame is: one item, or several.

        Raise anything for a frame that makes no sense: it is counted, logged and skipped.
        """
        raise NotImplementedError

    #: Where data messages are plain enough, the fields by which they are known: :meth:`read` need
    #: then be asked of the others only. It must say the same of them.
    data_fields: DataFields | None = None

    #: ``peek(frame: bytes)`` says the same as :meth:`read` of a frame that is not decoded yet. A
    #: dialect that looks only at what it needs (with a ``msgspec`` Struct) spares the reader most
    #: of the work on large frames. None where there is no such shortcut. A dialect that has it may
    #: do without :meth:`read`.
    peek: Callable[[bytes], Item | Sequence[Item]] | None = None

    def item(self, decoded: Any, index: int) -> Any:
        """The ``index``-th message of a decoded frame that holds several."""
        return decoded[index]

    def request(self, payload: Any, request_id: int) -> Any:
        """``payload`` with the id by which its answer will be known."""
        raise NotSupported(
            f"the {self.name} dialect cannot correlate answers, so request() does not work; "
            "use send(), or a dialect with a request() method"
        )
