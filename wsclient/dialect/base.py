"""The base class of dialects. A dialect translates between a venue's protocol and the client.

It is stateless: the client decides. A dialect defines three things: how to ask for channels
(:meth:`Dialect.subscribe`), what an incoming message means (:meth:`Dialect.read`), and the venue's
limits (:attr:`Dialect.limits`). Everything else has a default.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from wsclient.dialect.access import Access
from wsclient.dialect.books import BookFormat, missing
from wsclient.dialect.routes import Routing
from wsclient.dialect.values import Limits
from wsclient.dialect.views import Views, view
from wsclient.errors import ConfigurationError, NotSupported
from wsclient.messages import Message, View
from wsclient.stream.codec import decoder
from wsclient.stream.items import DataFields, Heads, Item
from wsclient.stream.timestamps import Path, find_timestamp

__all__ = ["Dialect"]

#: The time (s) after its confirmation within which a public channel's first message is expected.
FIRST_MESSAGE_WITHIN = 60.0

#: Methods of dialects before :class:`BookFormat`, which has them without ``book_``.
_FORMER_HOOKS = tuple(
    f"book_{name}" for name in ("channel", "update", "depth", "checksum", "request", "snapshot")
)


class Dialect(Routing, Access):
    """The base class of all dialects.

    Override :meth:`read`, and either :meth:`change` or both :meth:`subscribe` and
    :meth:`unsubscribe`, which call :meth:`change` by default.

    Logins, tokens and signatures are in :class:`Access`. A venue may serve its channels at several
    addresses, called routes: see :class:`Routing`. The
    methods that are about one connection get channels by the venue's own names, without the route
    (:meth:`wire_name`): :meth:`subscribe`, :meth:`unsubscribe`, :meth:`change`, :meth:`batches`,
    :meth:`group`, :meth:`access`, :meth:`needs_credentials`, :meth:`refusal` and
    :meth:`first_message_within`. Items have these names too. All other methods, and those of
    :attr:`book`, get the names that the client's user knows.

    Attributes, all with defaults:

    ``name``, ``limits``
        the dialect's name, and the venue's limits (:class:`Limits`)
    ``acknowledges``
        False if the venue never answers a subscribe: a channel's first data message then confirms
        it
    ``silence_timeout``
        the time (s) without any frame but pongs after which the connection is dead, for venues that
        send heartbeats; the client's option of the same name overrides it
    ``keepalive``
        the venue's own ping message, and its interval (s)
    ``quiet_channels``
        prefixes of channels that may be silent for any time: private channels, and channels of rare
        events (liquidations, announcements)
    ``numbers_are_shared``
        False if two connections may give a message different numbers; messages of two connections
        are then compared by :meth:`identity` instead
    ``greets``
        True if the venue speaks first (:class:`LoginAccepted`) and nothing may be sent before that
    ``client_order_id``
        the name of the field of an order that holds the caller's own id of it
    ``opening``
        messages sent first on each connection, before the login; not for a venue that ``greets``
    ``timestamp_fields``
        paths to the venue's send time in a data message, tried in order; a path such as
        ``("data", 0, "time")`` consists of field names from the outside in, and 0 for the first
        element of an array, which is instead the message's own (``item``) if the frame holds
        several
    ``book``
        the venue's order books (:class:`BookFormat`); None if it has none
    ``views``
        the venue's trades and quotes in plain fields (:class:`Views`)
    ``data_fields``, ``heads``, ``peek``
        for speed
    """

    name: ClassVar[str] = "custom"
    limits: Limits = Limits()
    book: BookFormat | None = None
    views: Views = Views()
    acknowledges: bool = True
    silence_timeout: float | None = None
    keepalive: tuple[Any, float] | None = None
    quiet_channels: tuple[str, ...] = ()
    numbers_are_shared: bool = True
    greets: bool = False
    client_order_id: str = ""
    opening: Sequence[Any] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if found := [name for name in _FORMER_HOOKS if hasattr(cls, name)]:
            raise ConfigurationError(
                f"{cls.__name__}.{found[0]}() would never be called: set the attribute book to an "
                f"object of a BookFormat with the method {found[0].removeprefix('book_')}()"
            )

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
        """Return one message that subscribes to ``channels``: text, bytes or an object for JSON.

        Return ``Ack()`` if the connection has these channels by its address: then no message is
        sent, and the channels are confirmed.
        """
        return self.change("subscribe", channels, request_id, options)

    def unsubscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        """Return one message that unsubscribes from ``channels``, or ``Ack()`` to send none.

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
        raise missing(self, "change(), or both subscribe() and unsubscribe()")

    def decoder(self, decimal: bool) -> Callable[[bytes], Any]:
        """Return the function that decodes a frame: by default from JSON.

        See :func:`wsclient.dialect.decoder`.
        """
        return decoder(decimal)

    @property
    def is_json(self) -> bool:
        """Whether frames are decoded from JSON: :meth:`decoder` is not overridden."""
        return type(self).decoder is Dialect.decoder

    @property
    def has_read(self) -> bool:
        """Whether :meth:`read` is overridden; a dialect may have only a :attr:`peek`."""
        return type(self).read is not Dialect.read

    def read(self, message: Any) -> Item | Sequence[Item]:
        """Return the item, or the items, of a decoded frame.

        Raise any exception for an invalid frame: it is counted, logged and skipped.
        """
        raise missing(self, "read()")

    #: The fields that identify data messages, if these are simple enough. :meth:`read` is then
    #: called only for other messages, but must return the same for data messages.
    data_fields: DataFields | None = None

    #: How the heads of data frames are read: most frames then need no call of the dialect at all.
    #: For JSON only. A dialect with ``data_fields`` needs none.
    heads: Heads | None = None

    #: ``peek(frame: bytes)`` returns the same as :meth:`read`, for a frame that is not decoded yet.
    #: A dialect that decodes only the fields that it needs (with a ``msgspec`` Struct) saves the
    #: reader most of the work on large frames. None for no such shortcut. A dialect with a peek
    #: does not need :meth:`read`.
    peek: Callable[[bytes], Item | Sequence[Item]] | None = None

    timestamp_fields: Sequence[Path] = ()

    def timestamp(self, message: Message) -> int | None:
        """Return the venue's send time of a message (ns since the epoch); None if it has none.

        This is ``message.time``, called on the thread that reads it. ``client.stats()`` computes
        ``venue_lag`` from it, for few messages, on the reader's thread: read no ``message.data``
        here. An exception counts as None.
        """
        return find_timestamp(message.raw, self.timestamp_fields, message.item)

    def view(self, message: Message, kind: View) -> Any:
        """Return a plain view of a message, by :attr:`views`. No dialect needs to override it.

        Raises InvalidMessage for a payload that :attr:`views` or :attr:`book` cannot read.
        """
        return view(self.name, self.views, self.book, message, kind)

    def identity(self, message: Message) -> Hashable:
        """Return what two connections have in common of a message that both of them bring.

        Two results are equal only if both are the same message: then the second is not delivered.
        By default it is the type with the payload, or with the message's own part of the payload if
        that holds several. Override it for a venue whose messages carry what differs per
        connection. Called without a lock, while two connections carry the channel, if its messages
        have no numbers, or none that are shared.
        """
        if message.item is None:
            return message.type, message.raw
        decoded = self.decoder(False)(message.raw)
        return message.type, repr(self.item(decoded, message.item))

    def item(self, decoded: Any, index: int) -> Any:
        """Return message number ``index`` of a decoded frame that holds several."""
        return decoded[index]

    def request(self, payload: Any, request_id: int) -> Any:
        """Return ``payload`` with the id by which its answer will be recognized."""
        raise NotSupported(
            f"the {self.name} dialect cannot correlate answers, so request() does not work; "
            "use send(), or a dialect with a request() method"
        )

    def answers(self, payload: Any) -> int:
        """Return how many answers with the same id the venue sends to a request."""
        return 1
