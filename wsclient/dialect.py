"""Everything that a dialect is written with. A dialect translates a venue's protocol.

A dialect is a class derived from :class:`Dialect`. It keeps no state, opens nothing and decides
nothing: the client connects, subscribes, counts and reconnects. A dialect must do two things:

* return the messages that subscribe to channels and unsubscribe from them: :meth:`Dialect.change`,
  or :meth:`Dialect.subscribe` and :meth:`Dialect.unsubscribe`;
* return what a message of the venue means: :meth:`Dialect.read`.

A complete dialect, for a venue that numbers its messages::

    from wsclient.dialect import Ack, Dialect, Heartbeat, Limits, Message, Rejection, Unhandled

    class Acme(Dialect):
        name = "acme"
        limits = Limits(channels_per_message=50, messages_per_second=5)

        def change(self, verb, channels, request_id, options):
            return {"op": verb, "args": list(channels), "id": request_id}

        def read(self, message):                      # a frame, decoded from JSON
            match message.get("op"):
                case "ping":
                    return Heartbeat()
                case "error":
                    return Rejection(message["reason"], request_id=message["id"])
                case "subscribe" | "unsubscribe":
                    return Ack(request_id=message["id"])
                case "data":
                    return Message(message["channel"], sequence=message["n"])
            return Unhandled(str(message.get("op")))

    client = wsclient.connect("wss://acme.example/", dialect=Acme())

A channel is named by one text of your choice. All of its messages carry exactly this text, so that
it must be possible to make it from a message.

**Items.** :meth:`Dialect.read` returns one item or several: a :class:`Message` (market data), an
answer (:class:`Ack`, :class:`Rejection`, :class:`SubscribedChannels`), the end of a channel
(:class:`Ended`), a sign of life (:class:`Heartbeat`, :class:`Respond`), a text for people
(:class:`Notice`), the answer to a ``client.request()`` (:class:`Reply`) or to a login
(:class:`LoginAccepted`, :class:`LoginRefused`), the number of a frame (:class:`Counted`), or
:class:`Unhandled`. It raises any exception for a frame that makes no sense. If one frame carries
several messages of data, each has the number of its part: ``Message(channel, item=0)``; see
:meth:`Dialect.item`. A venue that answers no subscribe has ``acknowledges = False``.

**Sequence numbers.** ``sequence`` rises by 1 per message of a channel. If a message covers a range
of numbers, or names the one that it follows, return a :class:`LinkedMessage`. Without numbers the
client marks gaps after reconnects only.

**Logins.** ``client = connect(..., credentials={"api_key": ..., "secret": ...})``. Return the login
message from :meth:`Dialect.login`, and :class:`LoginAccepted` or :class:`LoginRefused` from
:meth:`Dialect.read`. Nothing else is sent before the venue has accepted the login. For a signature
on each subscribe, override :meth:`Dialect.access`; for a token by REST, :meth:`Dialect.url_request`
and :meth:`Dialect.token_from`. :func:`sign`, :func:`sign_in_base64` and :func:`from_base64` compute
signatures. ``credentials.clock()`` is the time for them. Never put a secret into an error.

**Order books.** :meth:`Dialect.book_channel` returns the channel of a symbol's book, and
:meth:`Dialect.book_update` the change in a message of this channel, decoded from ``message.raw``
with exact Decimals. :class:`Row` and :func:`levels` decode the usual arrays of price and size. If
the snapshot comes by REST, :meth:`Dialect.book_request` returns the request, and
:meth:`Dialect.book_snapshot` the :class:`Snapshot` in its answer: its number says which messages
follow it.

**Speed.** :attr:`Dialect.data_fields`, where the fields of data messages are simple, or
:attr:`Dialect.peek`, which decodes only the fields that it needs.

**By name.** ``dialect="acme"`` finds a dialect in the file ``acme.py`` of ``wsclient/dialects``, or
one that another package names by an entry point: see :mod:`wsclient.dialects`.

Test a dialect with :class:`wsclient.testing.FakeVenue`, and with a recording of the venue.
"""

from __future__ import annotations

from wsclient.errors import (
    AuthenticationError,
    ConfigurationError,
    HandshakeRejected,
    NotSupported,
)
from wsclient.messages import LinkedMessage, Message
from wsclient.sansio.codec import decoder
from wsclient.sansio.dialect import (
    Ack,
    BookUpdate,
    Counted,
    Credentials,
    DataFields,
    Dialect,
    Ended,
    Heartbeat,
    Item,
    Levels,
    Limits,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Reply,
    Respond,
    RestRequest,
    Snapshot,
    SubscribedChannels,
    Unhandled,
    Verb,
)
from wsclient.sansio.rows import Row, levels
from wsclient.sansio.signing import from_base64, sign, sign_in_base64
from wsclient.sansio.timestamps import find_timestamp

__all__ = [  # noqa: RUF022 - the base class, what it takes and returns, errors, helpers
    "Dialect",
    "Limits",
    "DataFields",
    "Credentials",
    "Item",
    "Message",
    "LinkedMessage",
    "Ack",
    "Rejection",
    "SubscribedChannels",
    "Ended",
    "Heartbeat",
    "Respond",
    "Notice",
    "Reply",
    "LoginAccepted",
    "LoginRefused",
    "Counted",
    "Unhandled",
    "Verb",
    "RestRequest",
    "BookUpdate",
    "Snapshot",
    "Levels",
    "AuthenticationError",
    "ConfigurationError",
    "HandshakeRejected",
    "NotSupported",
    "Row",
    "levels",
    "decoder",
    "find_timestamp",
    "from_base64",
    "sign",
    "sign_in_base64",
]
