"""What happens to a client, one frozen event each: ``client.on_event()`` and ``client.events()``.

Every event bears the ``connection_id`` at its time (0 before the first), its ``number``, counted
from 1 for each client, and ``at``, the time when it was told (ns since the epoch). Events are told
in order. A jump of the number means that whoever listens was too slow, and has missed some. As
text an event begins with these three, the time in UTC; its repr is without them.
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
    """The connection is open, and logged in where the venue asks for that.

    ``attempt`` is the number of attempts that it took, the successful one included; those since a
    connection has last proved healthy, by data or by ten seconds.
    """

    attempt: int


@dataclass(frozen=True)
class Disconnected(Event):
    """An open connection has ended.

    ``why`` is a sentence, ``reason`` the word for it that ``stats().disconnect_reasons`` counts:
    ``closed`` (by a close frame), ``ended`` (without one), ``reset``, ``half-open``, ``stalled``,
    ``deaf`` (the peer did not read), ``silent``, ``unanswered`` (a resubscription), ``protocol``
    (the venue broke it), ``age`` (the venue's maximum is reached), or an exception's type.
    ``code`` is the close code, 1006 where there was none; ``data_age`` how long before the end the
    last data came (s), None where none had come over this connection.
    """

    why: str
    reason: str
    code: int
    data_age: float | None


@dataclass(frozen=True)
class Reconnecting(Event):
    """There will be another attempt, number ``attempt`` of this outage, in ``delay`` seconds.

    ``why`` is what became of the connection, or of the attempt before.
    """

    attempt: int
    delay: float
    why: str


@dataclass(frozen=True)
class Subscribed(Event):
    """The venue has confirmed ``channels``: asked for, or restored after a reconnect."""

    channels: tuple[str, ...]


@dataclass(frozen=True)
class Rejected(Event):
    """The venue has refused ``channel``; ``why`` is its own word, or that it gave none in time.

    ``is_lost``: the channel was active before, and has ended with a message of type ``lost``.
    """

    channel: str
    why: str
    is_lost: bool


@dataclass(frozen=True)
class Resubscribing(Event):
    """A channel that was active is subscribed to again, on the same connection.

    ``reason`` is ``ended`` (the venue has ended it unasked), ``silent`` (by the option
    ``stale_after``) or ``out of sync`` (an order book needs a new snapshot); ``why`` says it in a
    sentence. A channel that has ended may wait before it is asked for, since all that is asked for
    again has one rate limit. :class:`Subscribed` follows when the venue has confirmed the channel,
    and its next message bears a gap.
    """

    channel: str
    reason: str
    why: str


@dataclass(frozen=True)
class NoData(Event):
    """No message of ``channel`` has come in the ``seconds`` since the venue confirmed it.

    The channel stays subscribed. It is told of again only after a message has come in between;
    ``stats().no_data`` lists such channels. The usual causes are an address that does not serve the
    channel, and a symbol in the wrong case. ``seconds`` is what
    :meth:`wsclient.Dialect.first_message_within` returned.
    """

    channel: str
    seconds: float


@dataclass(frozen=True)
class GapMarked(Event):
    """A message of ``channel`` bears ``gap``: the numbers jumped, or the connection had been down.

    What a queue drops is not told here, but by :class:`SlowConsumer`; nor is the end of a lost
    channel, but by :class:`Rejected`.
    """

    channel: str
    gap: Gap


@dataclass(frozen=True)
class Recovered(Event):
    """All is as before the disconnect: the connection is open, and every channel that is still
    wanted confirmed. ``seconds`` after the connection ended; ``channels`` is their number."""

    seconds: float
    channels: int


@dataclass(frozen=True)
class SlowConsumer(Event):
    """A queue is full and drops messages; told once an episode, which is over when it has not
    dropped any for a second. ``queue`` is its name in ``stats().queues``, ``dropped`` how many it
    has dropped so far."""

    queue: str
    dropped: int


@dataclass(frozen=True)
class DecodeError(Event):
    """A frame could not be read, or ``validate`` refused a message.

    ``why`` says so, with an excerpt of at most 120 bytes. Told at most once a second: ``count`` is
    how many there were since the last time, this one included.
    """

    why: str
    count: int


@dataclass(frozen=True)
class Closed(Event):
    """The last event: by ``close()``, or, with an ``error``, because the client failed for good."""

    error: WSClientError | None
