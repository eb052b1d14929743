"""The events of a client, frozen dataclasses: ``client.on_event()`` and ``client.events()``.

Every event has the ``connection_id`` at its time (0 before the first connection), its ``number``,
counted from 1 for each client, and ``at``, the time when it was emitted (ns since the epoch).
Events are delivered in order. A jump of ``number`` means that the listener was too slow and has
missed some. The ``str`` of an event begins with these three, the time in UTC; its ``repr`` leaves
them out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone

from wsclient.errors import WSClientError
from wsclient.messages import Gap

__all__ = [
    "Closed",
    "Connected",
    "DecodeError",
    "Disconnected",
    "Event",
    "GapMarked",
    "NoData",
    "Reconnecting",
    "Recovered",
    "Rejected",
    "Resubscribing",
    "SlowConsumer",
    "Subscribed",
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


@dataclass(frozen=True)
class Connected(Event):
    """The connection is open, and logged in if the venue requires a login.

    ``attempt`` is the number of attempts that it took, including the successful one, since a
    connection was last healthy: one that brought data or stayed open for ten seconds.
    """

    attempt: int


@dataclass(frozen=True)
class Disconnected(Event):
    """An open connection has ended.

    ``why`` is a sentence, ``reason`` the word under which ``stats().disconnect_reasons`` counts it:
    ``closed`` (by a close frame), ``ended`` (without a close frame), ``reset``, ``half-open``,
    ``stalled``, ``deaf`` (the peer did not read), ``silent``, ``unanswered`` (the venue did not
    answer a resubscription), ``protocol`` (the venue violated it), ``age`` (the venue's maximum
    age of a connection is reached), or the type of an exception. ``code`` is the close code, 1006
    if there was none. ``data_age`` is the time (s) from the last data to the end, None if this
    connection brought none.
    """

    why: str
    reason: str
    code: int
    data_age: float | None


@dataclass(frozen=True)
class Reconnecting(Event):
    """The next attempt to connect, number ``attempt`` of this outage, follows in ``delay`` seconds.

    ``why`` says how the connection ended, or why the previous attempt failed.
    """

    attempt: int
    delay: float
    why: str


@dataclass(frozen=True)
class Subscribed(Event):
    """The venue has confirmed ``channels``, requested by a caller or restored after a reconnect."""

    channels: tuple[str, ...]


@dataclass(frozen=True)
class Rejected(Event):
    """The venue has refused ``channel``; ``why`` is its reason, or says that it gave none in time.

    ``is_lost`` is True if the channel was active before; it has ended with a ``lost`` message.
    """

    channel: str
    why: str
    is_lost: bool


@dataclass(frozen=True)
class Resubscribing(Event):
    """The client subscribes again to a channel that was active, on the same connection.

    ``reason`` is ``ended`` (the venue has ended the subscription, unsolicited), ``silent`` (no
    message for the option ``stale_after``) or ``out of sync`` (an order book needs a new
    snapshot). ``why`` is the same as a sentence. The subscribe for an ended channel may wait, since
    all resubscriptions share one rate limit. :class:`Subscribed` follows when the venue has
    confirmed the channel, and its next message carries a gap.
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

    The connection is open, and the venue has confirmed every channel that is still wanted.
    ``seconds`` is the time since the connection ended, ``channels`` the number of channels.
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
    """A frame could not be read, or ``validate`` refused a message.

    ``why`` is a sentence with an excerpt of at most 120 bytes. Emitted at most once per second:
    ``count`` is the number of cases since the last event, including this one.
    """

    why: str
    count: int


@dataclass(frozen=True)
class Closed(Event):
    """The last event: the client was closed, or, with an ``error``, has failed for good."""

    error: WSClientError | None
