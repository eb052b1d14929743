"""The base class of dialects. A dialect translates between a venue's protocol and the client.

It is stateless: the client decides. A dialect defines three things: how to ask for channels
(:meth:`Dialect.subscribe`), what an incoming message means (:meth:`Dialect.read`), and the venue's
limits (:attr:`Dialect.limits`). Everything else has a default.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from wsclient.errors import ConfigurationError, NotSupported
from wsclient.messages import Message
from wsclient.sansio.codec import decoder
from wsclient.sansio.timestamps import Path, find_timestamp

__all__ = [
    "Ack",
    "BookFormat",
    "BookUpdate",
    "Counted",
    "Credentials",
    "DataFields",
    "Dialect",
    "Ended",
    "Heartbeat",
    "Item",
    "Levels",
    "Limits",
    "LoginAccepted",
    "LoginRefused",
    "Notice",
    "Rejection",
    "Reply",
    "Respond",
    "RestRequest",
    "Snapshot",
    "SubscribedChannels",
    "Unhandled",
]

#: The kind of a request.
Verb = Literal["subscribe", "unsubscribe"]

#: The time (s) after its confirmation within which a public channel's first message is expected.
FIRST_MESSAGE_WITHIN = 60.0


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


class Ended(msgspec.Struct, gc=False):
    """The venue has ended an active ``channel`` without an unsubscribe.

    ``name`` instead of ``channel`` selects all active channels whose name, or its part before the
    first colon, is ``name``.
    """

    reason: str
    channel: str | None = None
    name: str | None = None


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
    """The decoded answer to a ``client.request()``; ``error`` is set if the venue refused it."""

    request_id: Any
    payload: Any
    error: str | None = None


class LoginAccepted(msgspec.Struct, gc=False):
    """The login was accepted."""


class LoginRefused(msgspec.Struct, gc=False):
    """The login was refused; the client fails for good."""

    reason: str


class Unhandled(msgspec.Struct, gc=False):
    """A well-formed frame of a type that the dialect does not know."""

    type: str
    channel: str = ""


#: What :meth:`Dialect.read` returns: market data, or one of the classes above.
Item = (
    Message
    | Ack
    | Counted
    | Rejection
    | Ended
    | SubscribedChannels
    | Heartbeat
    | Notice
    | Respond
    | Reply
    | LoginAccepted
    | LoginRefused
    | Unhandled
)


#: (price, size) of each level.
Levels = Iterable[tuple[Decimal, Decimal]]


class BookUpdate(NamedTuple):
    """A change of an order book: sizes are absolute, and size 0 removes the level.

    ``is_snapshot``: the levels replace the whole book. ``checksum``: the venue's checksum of the
    book after the update; None if the venue sends none.
    """

    is_snapshot: bool
    bids: Levels
    asks: Levels
    checksum: int | None = None


class RestRequest(NamedTuple):
    """An HTTP request to ``url``: query parameters, method, headers and body."""

    url: str
    params: Mapping[str, str] = {}
    method: str = "GET"
    headers: Mapping[str, str] = {}
    body: str = ""

    def __repr__(self) -> str:
        """Return a text without secrets: keys and signatures are in headers, tokens in queries."""
        return f"RestRequest({self.method} {self.url.partition('?')[0]})"


class Credentials(dict[str, Any]):
    """The client's option ``credentials``, as resolved for one connection; ``repr`` hides all.

    ``clock()`` returns the time (s since the epoch), for signatures that include one. ``token`` is
    the result of :meth:`Dialect.token_from` before this connect. Reading a missing field raises
    ConfigurationError.
    """

    def __init__(
        self, given: Mapping[str, Any], clock: Callable[[], float], token: Any = None
    ) -> None:
        super().__init__(given)
        self.clock = clock
        self.token = token

    def __missing__(self, name: str) -> Any:
        raise ConfigurationError(
            f"the credentials must have {name!r}: the dialect needs it to log in"
        )

    def __repr__(self) -> str:
        return "Credentials(...)"


class Snapshot(NamedTuple):
    """An order book fetched by REST; ``sequence`` is the number of the last message in it.

    ``has_last``: that message is completely in it. False if the venue's rule is to apply that
    message again.
    """

    sequence: int
    bids: Levels
    asks: Levels
    has_last: bool = True


class DataFields(NamedTuple):
    """The top-level fields of JSON data messages that contain type, channel and sequence.

    The ``type`` field has one of ``types``; the ``channel`` field is text and is the channel; the
    first of the ``sequences`` fields that is an integer rises by 1 per message of a channel.
    """

    types: Collection[str]
    type: str = "type"
    channel: str = "channel"
    sequences: Sequence[str] = ("sequence",)


@dataclass(frozen=True)
class Limits:
    """The limits of the venue; None for no limit.

    ``connects`` limits connection attempts: (count, seconds). ``max_age`` (s) is the age at which
    the client replaces a connection by itself.
    """

    channels_per_message: int = 1
    messages_per_second: float | None = None
    channels_per_connection: int | None = None
    connects: tuple[int, float] | None = (60, 60.0)
    max_age: float | None = None


def _missing(what: object, methods: str) -> NotImplementedError:
    return NotImplementedError(f"{type(what).__name__} must define {methods}")


class BookFormat:
    """The base class of a venue's order books: how its messages and snapshots change a book.

    Override :meth:`channel` and :meth:`update`, and :meth:`request` and :meth:`snapshot` if a book
    begins with a snapshot by REST. An object of it is the :attr:`Dialect.book` of the dialect.
    """

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        """Return the channel of an order book, for ``client.order_book(symbol, **options)``."""
        raise _missing(self, "channel()")

    def update(self, message: Message) -> BookUpdate | None:
        """Return the update in a message of an order book's channel; None if it has none.

        It must have exactly the venue's digits, so decode ``message.raw``: ``message.data`` may
        hold floats. Raise for an invalid payload: the book is then out of sync.
        """
        raise _missing(self, "update()")

    def depth(self, options: Mapping[str, Any]) -> int | None:
        """Return how many levels per side the venue keeps up to date; None for all.

        The venue sends no removal for a level that falls out of this depth.
        """
        return None

    def checksum(self, bids: Levels, asks: Levels) -> int | None:
        """Return the checksum of a book as the venue computes it; None if the venue has none.

        ``bids`` and ``asks`` are best levels first.
        """
        return None

    def request(self, channel: str, options: Mapping[str, Any]) -> RestRequest | None:
        """Return the REST request for an order book's snapshot; None if the stream contains it."""
        return None

    def snapshot(self, channel: str, answer: Any) -> Snapshot:
        """Return the snapshot in the answer to :meth:`request`, decoded with Decimals.

        Raise for an invalid answer.
        """
        raise _missing(self, "snapshot()")


#: Methods of dialects before :class:`BookFormat`, which has them without ``book_``.
_FORMER_HOOKS = tuple(
    f"book_{name}" for name in ("channel", "update", "depth", "checksum", "request", "snapshot")
)


class Dialect:
    """The base class of all dialects.

    Override :meth:`read`, and either :meth:`change` or both :meth:`subscribe` and
    :meth:`unsubscribe`, which call :meth:`change` by default.

    Attributes: ``limits``; ``acknowledges`` (False if the venue never answers a subscribe: a
    channel's first data message then confirms it); ``silence_timeout`` (s without any frame but
    pongs after which the connection is dead, for venues that send heartbeats); ``keepalive``
    (payload and interval (s) of the venue's own ping message); ``data_fields`` and ``peek``, for
    speed.
    """

    name: ClassVar[str] = "custom"
    limits: Limits = Limits()
    #: The venue's order books; None if the dialect has none.
    book: BookFormat | None = None
    acknowledges: bool = True
    #: The client's option of the same name overrides it.
    silence_timeout: float | None = None
    keepalive: tuple[Any, float] | None = None
    #: Prefixes of channels that may be silent for any time: private channels, and channels of rare
    #: events (liquidations, announcements).
    quiet_channels: tuple[str, ...] = ()
    #: Whether the venue speaks first (LoginAccepted); nothing may be sent before that.
    greets: bool = False
    #: Messages sent first on each connection, before the login. Not for a venue that ``greets``.
    opening: Sequence[Any] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if found := [name for name in _FORMER_HOOKS if hasattr(cls, name)]:
            raise ConfigurationError(
                f"{cls.__name__}.{found[0]}() would never be called: set the attribute book to an "
                f"object of a BookFormat with the method {found[0].removeprefix('book_')}()"
            )

    def url_request(self, url: str, credentials: Credentials | None) -> RestRequest | None:
        """Return the REST request before each connect (for a token or an address), or None."""
        return None

    def url_from(self, url: str, answer: Any) -> str:
        """Return the address from the decoded answer to :meth:`url_request`."""
        return url

    def token_from(self, answer: Any) -> Any:
        """Return the token from the decoded answer to :meth:`url_request`, or None.

        It becomes ``credentials.token`` of this connection.
        """
        return None

    def url(self, url: str, credentials: Credentials | None) -> str:
        """Return the address for this attempt. Called for each one; may block (to get a token)."""
        return url

    def login(self, credentials: Credentials) -> Any:
        """Return the login message, sent first on each connection; None for no login."""
        return None

    @property
    def takes_credentials(self) -> bool:
        """Whether the dialect uses ``credentials``; if not, the client refuses them."""
        hooks = ("login", "access", "url_request", "url")
        return any(getattr(type(self), hook) is not getattr(Dialect, hook) for hook in hooks)

    def access(self, channels: Sequence[str], credentials: Credentials) -> Mapping[str, Any]:
        """Return additional options for a subscribe or unsubscribe of these channels.

        Called on connections with credentials, for example to add a token or a signature.
        """
        return {}

    def group(self, channel: str) -> Any:
        """Return the group of a channel: channels of different groups go in different messages.

        By default all channels are in one group.
        """
        return None

    def batches(self, channels: Sequence[str]) -> Iterable[Sequence[str]]:
        """Split the channels of one request into messages, by group and within the limits."""
        groups: dict[Any, list[str]] = {}
        for channel in channels:
            groups.setdefault(self.group(channel), []).append(channel)
        size = self.limits.channels_per_message
        return [g[i : i + size] for g in groups.values() for i in range(0, len(g), size)]

    def refusal(self, channel: str, address: str) -> str | None:
        """Return why a connection to ``address`` cannot carry ``channel``; None if it can.

        Called for each channel before its subscribe is sent, for channels that a venue acknowledges
        but never sends. ``address`` is the result of :meth:`url` without its query.
        """
        return None

    def first_message_within(self, channel: str) -> float | None:
        """Return the maximum time (s) from a channel's confirmation to its first message.

        None for a channel that may be silent for any time: by default one that begins with one of
        ``quiet_channels``. For a channel that exceeds the time the client emits an event
        (:class:`wsclient.events.NoData`) and does nothing else. Called for each channel before its
        subscribe is sent; if it raises, the channel is refused, as by :meth:`refusal`.
        """
        return None if channel.startswith(self.quiet_channels) else FIRST_MESSAGE_WITHIN

    def subscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        """Return one message that subscribes to ``channels``: text, bytes or an object for JSON."""
        return self.change("subscribe", channels, request_id, options)

    def unsubscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        """Return one message that unsubscribes from ``channels``.

        ``options`` are those that the channels were subscribed with.
        """
        return self.change("unsubscribe", channels, request_id, options)

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        """Return one message that subscribes to or unsubscribes from ``channels``.

        ``verb`` is ``"subscribe"`` or ``"unsubscribe"``. Override this where the two messages
        differ in a word only.
        """
        raise _missing(self, "change(), or both subscribe() and unsubscribe()")

    def decoder(self, decimal: bool) -> Callable[[bytes], Any]:
        """Return the function that decodes a frame: by default from JSON.

        See :func:`wsclient.dialect.decoder`.
        """
        return decoder(decimal)

    def read(self, message: Any) -> Item | Sequence[Item]:
        """Return the item, or the items, of a decoded frame.

        Raise any exception for an invalid frame: it is counted, logged and skipped.
        """
        raise _missing(self, "read()")

    #: The fields that identify data messages, if these are simple enough. :meth:`read` is then
    #: called only for other messages, but must return the same for data messages.
    data_fields: DataFields | None = None

    #: ``peek(frame: bytes)`` returns the same as :meth:`read`, for a frame that is not decoded yet.
    #: A dialect that decodes only the fields that it needs (with a ``msgspec`` Struct) saves the
    #: reader most of the work on large frames. None for no such shortcut. A dialect with a peek
    #: does not need :meth:`read`.
    peek: Callable[[bytes], Item | Sequence[Item]] | None = None

    #: Paths to the venue's send time in a data message, tried in order. A path consists of field
    #: names from the outside in, and 0 for the first element of an array.
    timestamp_fields: Sequence[Path] = ()

    def timestamp(self, message: Message) -> int | None:
        """Return the venue's send time of a message (ns since the epoch); None if it has none.

        ``client.stats()`` computes ``venue_lag`` from it. Called for few messages, on the reader's
        thread: read only ``message.raw`` here. An exception counts as None.
        """
        return find_timestamp(message.raw, self.timestamp_fields)

    def item(self, decoded: Any, index: int) -> Any:
        """Return message number ``index`` of a decoded frame that holds several."""
        return decoded[index]

    def request(self, payload: Any, request_id: int) -> Any:
        """Return ``payload`` with the id by which its answer will be recognized."""
        raise NotSupported(
            f"the {self.name} dialect cannot correlate answers, so request() does not work; "
            "use send(), or a dialect with a request() method"
        )
