"""The events of a client, frozen dataclasses: ``client.on_event()`` and ``client.events()``.

Every event has a ``connection_id``, its ``number``, counted from 1 for each client, and ``at``, the
time when it was emitted (ns since the epoch). Events are delivered in the order of their numbers.
For a listener that takes all types, a jump of ``number`` means that it was too slow and has missed
some; for one that takes certain types only, it also means that others were emitted in between. The
``str`` of an event begins with these three, the time in UTC; its ``repr`` leaves them out, and
shows only the type of an exception.

A client may have several connections: see the page ``connections`` of the manual. The
``connection_id`` is that of the connection that an event is about; for an event that is about none,
that of the newest (0 before the first). ``Connected``, ``Disconnected`` and ``Reconnecting`` are
emitted for each connection, ``StateChanged``, ``Failing``, ``Recovered`` and ``Closed`` for the
client.

The log is a listener too: each record about a client is made from an event.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime, timezone

from wsclient.errors import WSClientError
from wsclient.messages import Gap

__all__ = [
    "BookOutOfSync",
    "BookRefreshed",
    "CallbackFailed",
    "ClassifyFailed",
    "ClassifyUnanswered",
    "Closed",
    "Connected",
    "DecodeError",
    "DialectFailed",
    "Disconnected",
    "Event",
    "Failing",
    "GapMarked",
    "GapUnhandled",
    "InsecureTLS",
    "NoData",
    "Noticed",
    "Reconnecting",
    "RecorderFailed",
    "RecorderLost",
    "RecorderRecovered",
    "Recovered",
    "Rejected",
    "RenewalFailed",
    "Resubscribing",
    "Rotated",
    "RotationFailed",
    "RouteFailed",
    "SlowConsumer",
    "SnapshotFailed",
    "SnapshotTooOld",
    "SnapshotsFailed",
    "StateChanged",
    "SubscribeFailed",
    "Subscribed",
    "ThreadDied",
    "ThreadStuck",
    "UnreadDiscarded",
    "Unsubscribed",
    "Waiting",
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events."""

    connection_id: int = field(default=0, repr=False)
    number: int = field(default=0, repr=False)
    at: int = field(default=0, repr=False)

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.at / 1e9, timezone.utc)
        when = at.isoformat(" ", "milliseconds").removesuffix("+00:00")
        return f"{when}Z #{self.number} connection {self.connection_id}: {self!r}"


def _repr(event: Event) -> str:
    """Return the ``repr`` of an event, without an empty ``route``, and only the type of exceptions.

    The text of an exception may be long, or come from a user's ``__str__``.
    """
    shown = [(f.name, getattr(event, f.name)) for f in fields(event) if f.repr]
    shown = [(name, value) for name, value in shown if name != "route" or value]
    values = (
        f"{name}={type(value).__name__ if isinstance(value, BaseException) else repr(value)}"
        for name, value in shown
    )
    return f"{type(event).__name__}({', '.join(values)})"


@dataclass(frozen=True)
class StateChanged(Event):
    """``client.state`` has changed: ``state`` is its new value, ``why`` a text or empty.

    The state is that of the furthest of the client's connections. So it stays ``open`` when one of
    several connections ends: see :class:`Disconnected` and :class:`Reconnecting`.
    """

    state: str
    why: str


@dataclass(frozen=True)
class Connected(Event):
    """A connection is open, and logged in if the venue requires a login.

    It may be an additional one, or one that is about to replace another. ``attempt`` is the number
    of attempts that it took, including the successful one, since a connection was last healthy: one
    that brought data or stayed open for ten seconds. ``route`` says which connection it is, as
    in :class:`Reconnecting`, if the client had an open one already; else it is empty.
    """

    attempt: int
    route: str = ""

    __repr__ = _repr


@dataclass(frozen=True)
class Disconnected(Event):
    """An open connection has ended.

    ``why`` is a sentence, ``reason`` the word under which ``stats().disconnect_reasons`` counts it:
    ``closed`` (by a close frame), ``ended`` (without a close frame), ``reset``, ``half-open``,
    ``stalled``, ``deaf`` (the peer did not read), ``silent``, ``unanswered`` (the venue did not
    answer a resubscription), ``protocol`` (the venue violated it), ``age`` (the venue would end the
    connection soon, and allows no second one beside it), ``expired`` (its token has expired, so
    that the venue sends nothing more), ``rotated`` (another connection has taken over its channels,
    or no channel needed it; this is not counted as a disconnect), or the type of an exception.
    ``code`` is the close code, 1006 if there was none. ``data_age`` is the time (s) from the last
    data to the end, None if this connection brought none.
    """

    why: str
    reason: str
    code: int
    data_age: float | None


@dataclass(frozen=True)
class Reconnecting(Event):
    """The next attempt to connect, number ``attempt`` of this outage, follows in ``delay`` seconds.

    ``why`` says how the connection ended, or why the previous attempt failed. ``route`` is empty if
    the client has no other connection; its state changes too. Otherwise the others go on, and
    ``route`` says which one is missing: the dialect's name for its address, with the number of the
    connection if it is not the first there (``market``, ``market/1``), or that number alone if the
    venue has one address (``shard 1``).
    """

    attempt: int
    delay: float
    why: str
    route: str = ""

    __repr__ = _repr


@dataclass(frozen=True)
class Failing(Event):
    """The client has had no working connection for ``seconds``, and keeps trying.

    With several connections, it lacks one of them: ``why`` begins with its address. Emitted once
    per outage, after 30 s. A connection works when it has brought data, or has stayed open for ten
    seconds. ``why`` says how the last attempt or connection ended; empty if the first attempt has
    not. If the program has configured no logging, this and the failure of a client are printed on
    stderr.
    """

    seconds: float
    why: str


@dataclass(frozen=True)
class Rotated(Event):
    """This connection has taken over the channels of the connection ``replaced``, which has ended.

    It took ``seconds`` from the attempt that opened this one. ``Connected`` for this connection and
    ``Disconnected`` for the other one, with the reason ``rotated``, come before. A rotation is due
    at the venue's age limit, when the venue announces the end of a connection, and by
    ``client.rotate()``.
    """

    replaced: int
    seconds: float


@dataclass(frozen=True)
class RotationFailed(Event):
    """An attempt to replace this connection has failed; the next one follows in ``delay`` seconds.

    The connection stays until the venue ends it. Only then do its channels get a gap mark, as after
    any reconnect. ``why`` says how the attempt failed.
    """

    delay: float
    why: str


@dataclass(frozen=True)
class RenewalFailed(Event):
    """The token of this connection was not renewed; the next attempt follows in ``delay`` seconds.

    The connection goes on. When its token expires, the venue sends nothing more on it; the client
    replaces it as soon as the venue says so. ``why`` says what failed.
    """

    delay: float
    why: str


@dataclass(frozen=True)
class RouteFailed(Event):
    """The connection of a ``route`` has failed for good, and the client's others go on.

    The channels that belonged to it are no longer wanted: see :class:`Rejected`. ``route`` is its
    name, as in :class:`Reconnecting`. A later subscribe tries again. ``why`` says what failed.
    """

    route: str
    why: str


@dataclass(frozen=True)
class Waiting(Event):
    """A ``subscribe()`` call waits for a connection; once per call.

    ``channels`` are those that it waits for, ``state`` is the value of ``client.state``.
    """

    channels: tuple[str, ...]
    state: str


@dataclass(frozen=True)
class Subscribed(Event):
    """The venue has confirmed ``channels``, requested by a caller or restored after a reconnect."""

    channels: tuple[str, ...]


@dataclass(frozen=True)
class Rejected(Event):
    """The venue has refused ``channel``; ``why`` is its reason, or says that it gave none in time.

    ``is_lost`` is True if the channel was active before: it was refused when the client subscribed
    to it again, and has ended with a ``lost`` message. ``stats()`` counts these in
    ``channels_lost``, the others in ``channels_refused``.
    """

    channel: str
    why: str
    is_lost: bool


@dataclass(frozen=True)
class Unsubscribed(Event):
    """The client is no longer subscribed to ``channel``, as nothing of the caller's reads it.

    ``why`` is empty if the venue has confirmed that, or if there is no connection. Otherwise it
    says that the venue has not answered: messages that still come are discarded.
    """

    channel: str
    why: str


@dataclass(frozen=True)
class Resubscribing(Event):
    """The client subscribes again to a channel that was active, on the same connection.

    ``reason`` is ``ended`` (the venue has ended the subscription, unsolicited), ``silent`` (no
    message for the option ``stale_after``) or ``out of sync`` (an order book needs a new
    snapshot). ``why`` is the same as a sentence. The subscribe for an ended channel may wait, since
    all resubscriptions share one rate limit. :class:`Subscribed` follows when the venue has
    confirmed the channel, and its next message carries a gap. ``stats().channels_ended`` counts
    those that the venue has ended.
    """

    channel: str
    reason: str
    why: str


@dataclass(frozen=True)
class NoData(Event):
    """No message of ``channel`` has come in the ``seconds`` since the venue confirmed it.

    Emitted once until a message comes; ``stats().no_data`` lists these channels. The channel stays
    subscribed. The usual causes are an address that does not serve the channel, and a symbol in the
    wrong case. ``seconds`` is what :meth:`wsclient.Dialect.first_message_within` returned.
    """

    channel: str
    seconds: float


@dataclass(frozen=True)
class GapMarked(Event):
    """A message of ``channel`` carries ``gap``: its sequence jumped, or the connection was down.

    Messages that a queue drops emit :class:`SlowConsumer` instead, and the end of a lost channel
    emits :class:`Rejected`.
    """

    channel: str
    gap: Gap


@dataclass(frozen=True)
class Recovered(Event):
    """The client has recovered from a disconnect.

    The venue has confirmed every channel that is still wanted, on a connection that is open.
    ``seconds`` is the time since the first connection ended, ``channels`` the number of channels.
    """

    seconds: float
    channels: int


@dataclass(frozen=True)
class SlowConsumer(Event):
    """A queue is full and drops messages.

    Emitted once per episode, which ends when the queue has dropped nothing for one second.
    ``queue`` is its name in ``stats().queues``, ``dropped`` the number of messages that it has
    dropped so far.
    """

    queue: str
    dropped: int


@dataclass(frozen=True)
class DecodeError(Event):
    """A frame could not be read, ``validate`` refused a message, or it did not fit its type.

    ``why`` is a sentence with an excerpt of at most 120 bytes, ``channel`` the message's channel,
    None if it is unknown. Emitted at most once per second: ``count`` is the number of cases since
    the last event, including this one.
    """

    why: str
    count: int
    channel: str | None = None


@dataclass(frozen=True)
class Noticed(Event):
    """Something that a venue may cause at any rate, with the sentence ``text``.

    ``what`` is one of these words:

    * ``refused``: the venue has refused a request of ours that names no channel;
    * ``notice``: a text from the venue;
    * ``unhandled``: a message type that the dialect does not know, once per type;
    * ``numbers``: the number of the connection's frame jumped, so that data may be missing;
    * ``no data``: a confirmed channel has had no message, see :class:`NoData`;
    * ``ended``: the venue has ended the subscription of a channel, see :class:`Resubscribing`;
    * ``heartbeat``: the venue asks for answers to heartbeats at a higher rate than we send them.

    Of each word, one event is emitted per second at most: ``count`` is the number of cases since
    the last one, including this one, and ``channel`` that of this one, or None.
    """

    what: str
    text: str
    count: int
    channel: str | None


@dataclass(frozen=True)
class Closed(Event):
    """The last event: the client was closed, or, with an ``error``, has failed for good."""

    error: WSClientError | None


@dataclass(frozen=True)
class CallbackFailed(Event):
    """A function of ``on()`` or ``on_event()`` has raised ``error``, which has its traceback.

    It and the other functions are still called. ``function`` is the function's name, ``channel``
    the channel of its message, None for ``on_event()``. ``stats().callback_errors`` is the number
    of these events. Functions of ``on_event()`` do not get the events about each other.
    """

    function: str
    channel: str | None
    error: BaseException

    __repr__ = _repr


@dataclass(frozen=True)
class ClassifyFailed(Event):
    """The option ``classify`` has given no verdict, so the built-in function decides.

    ``why`` says what it did; ``error`` is what it raised, None if it returned something else.
    """

    why: str
    error: BaseException | None

    __repr__ = _repr


@dataclass(frozen=True)
class ClassifyUnanswered(Event):
    """The option ``classify`` could not be called in time, so the built-in function decides."""

    why: str


@dataclass(frozen=True)
class DialectFailed(Event):
    """The order book of ``channel`` is out of sync, as a hook of its dialect raised ``error``."""

    channel: str
    error: BaseException

    __repr__ = _repr


@dataclass(frozen=True)
class BookOutOfSync(Event):
    """The order book of ``channel`` fell out of sync; ``why`` is a text, as in ``book.reason``.

    Emitted once until the next snapshot, also when the book's connection has ended. Not for a
    message that only may be missing, nor for a book that was closed.
    """

    channel: str
    why: str


@dataclass(frozen=True)
class BookRefreshed(Event):
    """The order book of ``channel`` has a new snapshot, after :class:`BookOutOfSync`."""

    channel: str


@dataclass(frozen=True)
class SnapshotTooOld(Event):
    """The snapshot that was fetched for an order book is too old; another one will be fetched."""

    channel: str


@dataclass(frozen=True)
class SnapshotFailed(Event):
    """No snapshot could be fetched for the order book of ``channel``.

    Another attempt follows, unless ``is_final``: then the book has ended. ``error`` is the
    exception if no answer of a venue should cause it, else None.
    """

    channel: str
    why: str
    is_final: bool
    error: BaseException | None

    __repr__ = _repr


@dataclass(frozen=True)
class SnapshotsFailed(Event):
    """The thread that fetches the snapshots of order books has met a bug in wsclient.

    It tries again.
    """

    error: BaseException

    __repr__ = _repr


@dataclass(frozen=True)
class GapUnhandled(Event):
    """``WebSocketHandler.process_gap()`` got a gap, and is not overridden."""

    channel: str
    gap: Gap


@dataclass(frozen=True)
class SubscribeFailed(Event):
    """``WebSocketHandler.subscribe()`` of ``channel`` has failed; it returns no exception.

    ``why`` is the venue's reason, or another sentence.
    """

    channel: str
    why: str


@dataclass(frozen=True)
class InsecureTLS(Event):
    """The option ``ssl_context`` is insecure; ``why`` names the weakness.

    Emitted when the client is made, before anything but the log can listen.
    """

    why: str


@dataclass(frozen=True)
class RecorderFailed(Event):
    """A recorder cannot write the file ``path``, because of ``error``; it goes on trying.

    Emitted once until it can. Meanwhile its buffer fills: see :class:`RecorderLost`.
    """

    path: str
    error: BaseException

    __repr__ = _repr


@dataclass(frozen=True)
class RecorderLost(Event):
    """The buffer of a recorder is full, so that messages are not recorded: the disk is too slow.

    Emitted once until there is room again. ``path`` is the file that is being written. The
    recording says how many messages of each channel are missing.
    """

    path: str


@dataclass(frozen=True)
class RecorderRecovered(Event):
    """A recorder writes everything again, to the file ``path``.

    It comes after :class:`RecorderFailed` and :class:`RecorderLost`. ``messages`` and ``frames``
    were not recorded meanwhile.
    """

    path: str
    messages: int
    frames: int


@dataclass(frozen=True)
class UnreadDiscarded(Event):
    """``close()`` has discarded ``messages`` that were in queues, unread."""

    messages: int


@dataclass(frozen=True)
class ThreadStuck(Event):
    """The ``thread`` of that name has not ended within the timeout of ``close()``.

    Usually emitted after :class:`Closed`, and then only the log has it.
    """

    thread: str


@dataclass(frozen=True)
class ThreadDied(Event):
    """The ``thread`` of that name has ended by ``error``, a bug in wsclient.

    The client has failed: this comes after :class:`Closed`, so only the log has it.
    """

    thread: str
    error: BaseException

    __repr__ = _repr
