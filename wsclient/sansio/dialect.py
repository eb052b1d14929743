"""What a venue speaks. A dialect is stateless: it translates, and the session decides.

A dialect answers three questions: how to ask for channels (:meth:`Dialect.subscribe`), what an
incoming message is (:meth:`Dialect.read`), and what limits hold (:attr:`Dialect.limits`). All else
has a default.
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

#: What a request asks for.
Verb = Literal["subscribe", "unsubscribe"]

#: Within how many seconds of its confirmation a public channel's first message is expected.
FIRST_MESSAGE_WITHIN = 60.0


class Ack(msgspec.Struct, gc=False):
    """A request for channels was accepted.

    By id (all of its channels, or the ``channel`` named), by channel alone, or, with neither, the
    oldest request outstanding. Ids are compared as text: venues answer ``"1"`` to ``1``.
    ``symbol`` instead of ``channel`` names the channel of that request that ends in ``:symbol``.
    ``alias``: how the venue calls the ``channel`` on this connection from now on. Messages and
    answers may bear the alias in the place of the channel, and :meth:`Dialect.unsubscribe` is given
    it. ``verb``: which kind of request it answers, where the answer says so. An Ack of an
    unsubscribe that has no id and answers no request means that the venue has ended ``channel``.
    """

    request_id: Any = None
    channel: str | None = None
    symbol: str | None = None
    alias: str | None = None
    verb: Verb | None = None


class Rejection(msgspec.Struct, gc=False):
    """A request for channels was refused; matched as an :class:`Ack`.

    ``name`` instead of ``channel``: the oldest subscribe for a channel that is called so, or so up
    to its first colon. ``is_one``: one channel of the request was refused, and the venue does not
    say which; it is the one that is left when the others are answered. ``is_rest``: what the Acks
    of the same answer have left over, which may be nothing. ``verb``: as of an :class:`Ack`.

    A Rejection that has no id, answers no request and names an active ``channel`` means that the
    venue has ended that channel. It does not where the ``verb`` is ``"unsubscribe"``, nor where
    ``keeps_active`` is set: the venue has refused a second subscribe, and the first one holds.
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
    """The venue has ended an active ``channel`` that nobody has unsubscribed from.

    ``name`` instead of ``channel``: all active channels of that name, and all whose names are that
    name up to the first colon.
    """

    reason: str
    channel: str | None = None
    name: str | None = None


class SubscribedChannels(msgspec.Struct, gc=False):
    """The cumulative answer: all channels that are subscribed now, in any order."""

    channels: Sequence[str]


class Counted(msgspec.Struct, gc=False):
    """The number of this frame, where a venue counts all that it sends on a connection, answers and
    heartbeats too. It comes before the frame's other items: after a jump, each channel's next
    message bears a mark."""

    sequence: int


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
    """What a message does to an order book: sizes are absolute, 0 removes the level.

    ``is_snapshot``: the whole book, instead of what was there. ``checksum``: of the book after it,
    as the venue says; None where it says none.
    """

    is_snapshot: bool
    bids: Levels
    asks: Levels
    checksum: int | None = None


class RestRequest(NamedTuple):
    """A GET (or another ``method``) at ``url``, with query parameters, headers and a body."""

    url: str
    params: Mapping[str, str] = {}
    method: str = "GET"
    headers: Mapping[str, str] = {}
    body: str = ""

    def __repr__(self) -> str:
        """Keys and signatures are in the headers, tokens in the query."""
        return f"RestRequest({self.method} {self.url.partition('?')[0]})"


class Credentials(dict[str, Any]):
    """What the client's option ``credentials`` gave for one connection; its ``repr`` shows nothing.

    ``clock`` gives the seconds since the epoch, for what is signed with a time. ``token`` is what
    :meth:`Dialect.token_from` found before this connect. Raises ConfigurationError for a field that
    is not there.
    """

    def __init__(
        self, given: Mapping[str, Any], clock: Callable[[], float], token: Any = None
    ) -> None:
        super().__init__(given)
        self.clock = clock
        self.token = token

    def __missing__(self, name: str) -> Any:
        raise ConfigurationError(f"the credentials must have {name!r}, as this dialect logs in")

    def __repr__(self) -> str:
        return "Credentials(...)"


class Snapshot(NamedTuple):
    """A book by REST, and the number of the last message that is in it already.

    ``has_last``: that message is in it as a whole. Where the venue's rule is to apply it again,
    this is False.
    """

    sequence: int
    bids: Levels
    asks: Levels
    has_last: bool = True


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
    """Base of all dialects. Override :meth:`read`, and :meth:`change` or the two that call it,
    :meth:`subscribe` and :meth:`unsubscribe`.

    Attributes: ``limits``; ``acknowledges`` (False where the venue never answers a subscribe: a
    channel's first data then confirms it); ``silence_timeout`` (s without any frame but pongs after
    which the connection is dead, for venues that send heartbeats); ``keepalive`` (payload and
    interval in s of a ping in the venue's own words); ``data_fields`` and ``peek``, for speed.
    """

    name: ClassVar[str] = "custom"
    limits: Limits = Limits()
    acknowledges: bool = True
    #: The client's option of the same name overrides it.
    silence_timeout: float | None = None
    keepalive: tuple[Any, float] | None = None
    #: Prefixes of the names of channels that may be silent for as long as they like: private ones,
    #: and those of rare events (liquidations, announcements).
    quiet_channels: tuple[str, ...] = ()
    #: The venue speaks first (LoginAccepted), and wants to hear nothing before that.
    greets: bool = False
    #: What is sent first on each connection, before the login; for no venue that ``greets``.
    opening: Sequence[Any] = ()

    def url_request(self, url: str, credentials: Credentials | None) -> RestRequest | None:
        """What to ask by REST before each connect (a token, an address); None for nothing."""
        return None

    def url_from(self, url: str, answer: Any) -> str:
        """The address, out of the decoded answer to :meth:`url_request`."""
        return url

    def token_from(self, answer: Any) -> Any:
        """A token, out of the same answer: ``credentials.token`` of this connection."""
        return None

    def url(self, url: str, credentials: Credentials | None) -> str:
        """The address for this attempt. May block (a token by REST); called again at each."""
        return url

    def login(self, credentials: Credentials) -> Any:
        """The login message, sent first on each connection; None where there is no login."""
        return None

    @property
    def takes_credentials(self) -> bool:
        """Whether ``credentials`` are of any use: the client refuses them where they are not."""
        hooks = ("login", "access", "url_request", "url")
        return any(getattr(type(self), hook) is not getattr(Dialect, hook) for hook in hooks)

    def access(self, channels: Sequence[str], credentials: Credentials) -> Mapping[str, Any]:
        """Options that a subscribe or unsubscribe of these channels must have besides its own, on
        a connection with credentials: a token, a signature."""
        return {}

    def group(self, channel: str) -> Any:
        """Channels of different groups go in different messages; all are of one by default."""
        return None

    def batches(self, channels: Sequence[str]) -> Iterable[Sequence[str]]:
        """Split channels of one ``subscribe`` into messages, by group and within the limits."""
        groups: dict[Any, list[str]] = {}
        for channel in channels:
            groups.setdefault(self.group(channel), []).append(channel)
        size = self.limits.channels_per_message
        return [g[i : i + size] for g in groups.values() for i in range(0, len(g), size)]

    def refusal(self, channel: str, address: str) -> str | None:
        """Why ``channel`` cannot be had on a connection to ``address``; None where it may be.

        Asked of each channel before its subscribe is sent, for what a venue acknowledges and never
        sends. ``address`` is what :meth:`url` gave, without its query.
        """
        return None

    def first_message_within(self, channel: str) -> float | None:
        """Return within how many seconds of its confirmation a channel's first message comes.

        None for a channel that may be silent for as long as it likes: by default one whose name
        begins with one of ``quiet_channels``. A channel that exceeds this time is told of by
        :class:`wsclient.events.NoData`, and stays subscribed. Called for each channel before its
        subscribe is sent; one for which it raises is refused, as by :meth:`refusal`.
        """
        return None if channel.startswith(self.quiet_channels) else FIRST_MESSAGE_WITHIN

    def subscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        """One message that subscribes to ``channels``: text, bytes, or an object for JSON."""
        return self.change("subscribe", channels, request_id, options)

    def unsubscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        """The reverse, with the options that the channels were subscribed with."""
        return self.change("unsubscribe", channels, request_id, options)

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        """Both of the above, where a word makes the difference: ``verb`` is ``"subscribe"`` or
        ``"unsubscribe"``."""
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

    #: Where a data message tells when the venue sent it: paths, tried in their order. Names of
    #: fields from the outside in, and 0 for the first element of an array.
    timestamp_fields: Sequence[Path] = ()

    def timestamp(self, message: Message) -> int | None:
        """When the venue says that it sent the message (ns since the epoch), for ``client.stats()``
        to tell how long it took; None where it does not say. Asked of few, in the reader's thread,
        so it looks at ``message.raw`` alone; what it raises counts as None."""
        return find_timestamp(message.raw, self.timestamp_fields)

    def item(self, decoded: Any, index: int) -> Any:
        """The ``index``-th message of a decoded frame that holds several."""
        return decoded[index]

    # Order books. A dialect without them leaves these alone.

    def book_channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        """The channel of a symbol's order book, for ``client.order_book(symbol, **options)``."""
        raise NotSupported(f"the {self.name} dialect knows no order books")

    def book_update(self, message: Message) -> BookUpdate | None:
        """What a message of a book's channel changes, digit for digit; None: nothing.

        Decodes ``message.raw`` by itself: ``message.data`` may hold floats. Raises for a payload
        that makes no sense: the book is then out of sync.
        """
        raise NotSupported(f"the {self.name} dialect knows no order books")

    def book_depth(self, options: Mapping[str, Any]) -> int | None:
        """How many levels a side the venue keeps up to date, of which it removes none that fall
        out; None for all of them."""
        return None

    def book_checksum(self, bids: Levels, asks: Levels) -> int | None:
        """The checksum of a book as the venue computes it, best levels first; None: it has none."""
        return None

    def book_request(self, channel: str, options: Mapping[str, Any]) -> RestRequest | None:
        """Where a book's snapshot is to be had by REST; None where it comes in the stream."""
        return None

    def book_snapshot(self, channel: str, answer: Any) -> Snapshot:
        """The answer to :meth:`book_request`, decoded with Decimals. Raises for nonsense."""
        raise NotSupported(f"the {self.name} dialect fetches no snapshots")

    def request(self, payload: Any, request_id: int) -> Any:
        """``payload`` with the id by which its answer will be known."""
        raise NotSupported(
            f"the {self.name} dialect cannot correlate answers, so request() does not work; "
            "use send(), or a dialect with a request() method"
        )
