"""Everything that a dialect is written with. A dialect translates a venue's protocol.

A dialect is a class derived from :class:`Dialect`. It keeps no state, opens nothing and decides
nothing: the client connects, subscribes, counts and reconnects. A dialect must do two things:

* return the messages that subscribe to channels and unsubscribe from them: :meth:`Dialect.change`,
  or :meth:`Dialect.subscribe` and :meth:`Dialect.unsubscribe`;
* return what a message of the venue means: :meth:`Dialect.read`.

``help(wsclient.dialect.Dialect)`` documents these methods and all others, which have defaults. A
complete dialect, for a venue that numbers its messages::

    import wsclient
    from wsclient.dialect import Ack, Dialect, Heartbeat, Limits, Message, Rejection, Unhandled

    class Acme(Dialect):
        name = "acme"
        limits = Limits(channels_per_message=50, messages_per_second=5)

        def change(self, verb, channels, request_id, options):
            return {"op": verb, "args": list(channels), "id": request_id}

        def read(self, message):                                  # a frame, decoded from JSON
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

**Channels.** A channel is named by one text of your choice. All of its messages carry exactly this
text, so it must be possible to make it from a message.

**Items.** :meth:`Dialect.read` returns one item or a sequence of them:

==================================== ==============================================================
:class:`Message`                     market data. If one frame carries several messages, each has
                                     its position: ``Message(channel, item=0)``
:class:`LinkedMessage`               market data that says which number it follows
:class:`Ack`, :class:`Rejection`     the answer to a subscribe or unsubscribe, by its id or channel
:class:`SubscribedChannels`          an answer that lists all channels that are subscribed
:class:`Ended`                       the venue has ended a channel by itself
:class:`Ending`                      the venue will soon end this connection by itself
:class:`Expired`                     the venue sends nothing more here, though it stays open
:class:`Heartbeat`                   a sign of life
:class:`Respond`                     a sign of life that must be answered
:class:`Notice`                      a text for people, which is logged
:class:`Reply`                       the answer to a ``client.request()``
:class:`LoginAccepted`,              the answer to a login
:class:`LoginRefused`
:class:`Counted`                     the number of a frame, if the venue counts all frames
:class:`Unhandled`                   a message of a type that the dialect does not know
==================================== ==============================================================

It raises any exception for a frame that makes no sense: the frame is counted, logged and skipped.
A dialect whose venue answers no subscribe has ``acknowledges = False``.

**Sequence numbers.** ``sequence`` rises by 1 per message of a channel; the client marks a gap where
it does not. If a message covers a range of numbers, or names the one before it, return a
:class:`LinkedMessage`. Without numbers the client marks gaps only after reconnects. A message has
the same number on all connections, so that what one has brought is left out from another; if a
venue counts each connection by itself, set ``numbers_are_shared = False``.

**Requests.** For ``client.request()``, :meth:`Dialect.request` adds an id to a payload, and the
answer with that id is a :class:`Reply`. If some items of a request may fail inside a success, the
reply's ``failed`` says which; if each item has an answer of its own, :meth:`Dialect.answers` says
how many there are. ``client_order_id`` names the field with the caller's own id of an order, which
:class:`wsclient.OutcomeUnknown` then has.

**Logins and order books.** This dialect has a login, ranges of numbers, and order books that begin
with a snapshot by REST::

    import msgspec
    from wsclient.dialect import (
        BookFormat, BookUpdate, Heads, LinkedMessage, LoginAccepted, LoginRefused, RestRequest,
        RouteAddresses, Row, Snapshot, levels, sign,
    )

    class Sides(msgspec.Struct):
        bids: list[Row]                             # [["9.5", "1"], ...], read as exact Decimals
        asks: list[Row]

    class AcmeBook(BookFormat):
        def channel(self, symbol, options):
            return f"book:{symbol}"

        def update(self, message):                  # from raw, for the venue's own digits
            sides = msgspec.json.decode(message.raw, type=Sides)
            return BookUpdate(False, levels(sides.bids), levels(sides.asks))

        def request(self, channel, options):
            symbol = channel.removeprefix("book:")
            return RestRequest("https://acme.example/book", {"symbol": symbol})

        def snapshot(self, channel, answer):        # decoded; its number is that of the last update
            sides = msgspec.convert(answer, Sides)
            return Snapshot(answer["last"], levels(sides.bids), levels(sides.asks))

    class Head(msgspec.Struct):                     # for speed only: the fields needed
        op: str
        channel: str = ""
        n: int | None = None
        first: int | None = None
        last: int | None = None

    class AcmePro(Acme):
        name = "acme_pro"
        book = AcmeBook()
        heads = Heads(Head, key=("op", "channel"), numbers=[("n",), ("first", "last")])

        def login(self, credentials):               # {"api_key": ..., "secret": ...}
            now = str(int(credentials.clock()))
            signature = sign(credentials["secret"], now).hex()
            return {"op": "login", "key": credentials["api_key"], "time": now, "sign": signature}

        def read(self, message):
            match message.get("op"):
                case "login" if message["ok"]:
                    return LoginAccepted()
                case "login":
                    return LoginRefused(message["reason"])
                case "book":                        # the numbers first to last
                    channel, before = message["channel"], message["first"] - 1
                    return LinkedMessage(channel, sequence=message["last"], follows=before)
            return super().read(message)

Nothing else is sent before the venue has accepted a login. For a signature on each subscribe,
override :meth:`Dialect.access`; for a token by REST, :meth:`Dialect.url_request` and
:meth:`Dialect.token_from`; for its renewal, :meth:`Dialect.renewal`; for a token or a signature in
``client.request()``, :meth:`Dialect.authorize`. Never put a secret into an error. If the snapshots
of order books come in the stream, :meth:`BookFormat.update` returns them with ``is_snapshot`` set,
and :meth:`BookFormat.request` is not needed.

**Plain views.** ``message.trades()``, ``quote()`` and ``book_update()`` are what the
:attr:`Dialect.views` return, an object of a class derived from :class:`Views`. The manual's page
``dialects`` has an example. :class:`Wrapped`, :func:`amount`, :func:`best` and :func:`nanoseconds`
help to write one.

**Routes.** A venue may serve its channels at several addresses, which are called routes. The client
then opens a connection per route that is needed, and asks the dialect about routes only by their
names: :meth:`Dialect.route`, :meth:`Dialect.default_route`, :meth:`Dialect.address`;
:class:`RouteAddresses` helps. Where two routes have channels of the same name, the client's name
for a channel begins with its route, which :meth:`Dialect.wire_name` removes::

    class AcmeWorld(Acme):
        name = "acme_world"
        routes = RouteAddresses({"us": "us", "eu": "eu", "account": "account"}, "/v1/")

        def default_route(self, url):               # "us" of wss://acme.example/v1/us
            return self.routes.of(url)

        def route(self, channel, url):              # "eu:AAPL" is AAPL at the route "eu"
            route, _, name = channel.rpartition(":")
            return "account" if name == "orders" else route or self.default_route(url)

        def address(self, url, route):
            return self.routes.address(url, route)

        def wire_name(self, channel):
            return channel.rpartition(":")[2]

        def logs_in(self, route):                   # the other routes take no login
            return route == "account"

        def needs_credentials(self, channel, options):
            return channel == "orders"

**Speed.** :attr:`Dialect.data_fields`, if type, channel and number stand at the top of data
messages; else :attr:`Dialect.heads`, which names the few fields that say what a frame means, as
above. Most frames then need no call of the dialect. For all others, :attr:`Dialect.peek` decodes
only the fields that it needs.

**Names.** ``dialect="acme"`` finds the dialect in the file ``acme.py`` of ``wsclient/dialects``, or
the one that another package names by an entry point: see :mod:`wsclient.dialects`.

Test a dialect with :class:`wsclient.testing.FakeVenue`, and with a recording of the venue.
"""

from __future__ import annotations

from wsclient.dialect.access import Access
from wsclient.dialect.base import Dialect
from wsclient.dialect.books import BookFormat, BookUpdate, Levels, Row, Snapshot, levels
from wsclient.dialect.routes import RouteAddresses, Routing
from wsclient.dialect.signing import from_base64, sign, sign_in_base64
from wsclient.dialect.values import Credentials, Limits, RestRequest
from wsclient.dialect.views import Views, Wrapped, amount, best
from wsclient.errors import (
    AuthenticationError,
    ConfigurationError,
    HandshakeRejected,
    NotSupported,
)
from wsclient.messages import LinkedMessage, Message
from wsclient.stream.codec import decoder
from wsclient.stream.items import (
    Ack,
    Counted,
    DataFields,
    Ended,
    Ending,
    Expired,
    Heads,
    Heartbeat,
    Item,
    LoginAccepted,
    LoginRefused,
    Notice,
    Rejection,
    Reply,
    Respond,
    SubscribedChannels,
    Unhandled,
    Verb,
)
from wsclient.stream.timestamps import find_timestamp, nanoseconds
from wsclient.views import Quote, Trade, TradeSide

__all__ = [  # noqa: RUF022 - the base class, what it takes and returns, errors, helpers
    "Dialect",
    "Limits",
    "DataFields",
    "Heads",
    "Credentials",
    "Item",
    "Message",
    "LinkedMessage",
    "Ack",
    "Rejection",
    "SubscribedChannels",
    "Ended",
    "Ending",
    "Expired",
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
    "Access",
    "RouteAddresses",
    "Routing",
    "BookFormat",
    "BookUpdate",
    "Snapshot",
    "Levels",
    "Views",
    "Wrapped",
    "Trade",
    "Quote",
    "TradeSide",
    "AuthenticationError",
    "ConfigurationError",
    "HandshakeRejected",
    "NotSupported",
    "Row",
    "levels",
    "amount",
    "best",
    "decoder",
    "find_timestamp",
    "from_base64",
    "nanoseconds",
    "sign",
    "sign_in_base64",
]
