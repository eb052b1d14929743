"""The bounded buffer between a core and its recorder: what happened, in order."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import msgspec

from wsclient.events import Closed, Event
from wsclient.messages import Arrival, LinkedMessage, Message
from wsclient.stream.channel import Batch
from wsclient.transport.source import Clock

__all__ = [
    "Answered",
    "Buffer",
    "Delivered",
    "Entry",
    "Happening",
    "Missing",
    "Moment",
    "Opened",
    "Ordinary",
    "Outgoing",
    "Passed",
    "Read",
]

#: What is charged (bytes) for an entry, for each frame, and for each message, beside the payloads.
ENTRY, FRAME, MESSAGE = 300, 100, 150
#: The most channels whose lost messages are counted one by one.
MAX_COUNTED = 10_000

#: ``follows`` and ``is_counted`` of a LinkedMessage, None for another message.
Links: TypeAlias = list[tuple[int | None, bool] | None]

_PLAIN = {Message}
_channel_of = attrgetter("channel")
_raw_of = attrgetter("raw")
_head_of = attrgetter("channel", "type", "sequence", "item")
_full_head_of = attrgetter("channel", "type", "sequence", "item", "gap", "raw", "arrival")


class Moment(msgspec.Struct, gc=False):
    """When an entry was made: ns since the epoch, and by the monotonic clock (ns)."""

    time: int
    at: int


class _Charged(msgspec.Struct, gc=False):
    charge: int


class Read(_Charged, gc=False):
    """The frames of one read; ``binary`` are the indexes of those that are not text."""

    arrival: Arrival
    payloads: Sequence[bytes]
    binary: tuple[int, ...]


class Ordinary(_Charged, gc=False):
    """Messages without gaps, each with its payload: those from ``begin`` to ``done`` of a read.

    ``heads`` are (channel, type, sequence, item).
    """

    arrival: Arrival
    begin: int
    done: int
    raws: Sequence[bytes]
    heads: list[tuple[str, str, int | None, int | None]]
    links: Links | None


class Delivered(_Charged, gc=False):
    """Messages of any frames. ``heads`` have also the gap, the payload and the arrival."""

    heads: list[Any]
    links: Links | None
    moment: Moment


class Passed(_Charged, gc=False):
    """The first ``done`` frames of the last read of a connection are processed."""

    connection_id: int
    done: int


class Opened(_Charged, gc=False):
    """A connection is open; ``login`` is about to be sent."""

    connection_id: int
    login: Any


class Outgoing(_Charged, gc=False):
    """A message is about to be sent."""

    connection_id: int
    payload: str | bytes
    moment: Moment


class Answered(_Charged, gc=False):
    """A snapshot by REST."""

    channel: str
    connection_id: int
    body: bytes
    moment: Moment


class Happening(_Charged, gc=False):
    """An event."""

    event: Event
    origin: int
    moment: Moment


class Missing(_Charged, gc=False):
    """What found no room, before this entry."""

    channels: Counter[str]
    frames: int
    moment: Moment
    #: Whether more than that is missing: of too many channels, or of other entries.
    is_unknown: bool = False


Entry: TypeAlias = Read | Ordinary | Delivered | Passed | Opened | Outgoing | Answered | Happening


class Buffer:
    """The tap of a core. It holds at most ``limit`` bytes of reads, and as much of all else.

    When a read finds no room, the buffer is *shut*: everything of reads is only counted, until half
    of it is free again. Then :class:`Missing` comes before the next read.

    One thread takes the entries out. It sets :attr:`is_idle` before it waits; then ``wake`` is
    called at the next entry. ``shut`` is called when the buffer is shut. Neither may block.
    """

    def __init__(
        self,
        limit: int,
        clock: Clock,
        wake: Callable[[], object],
        shut: Callable[[], object] = lambda: None,
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._wake = wake
        self._shut = shut
        self.entries: deque[Any] = deque()
        self.is_idle = False
        #: What was charged so far, under the core's lock and under that of the events, and what
        #: was taken out, by the thread that does.
        self._charged = self._charged_events = self.taken = 0
        #: What found no room since the buffer was shut; None while it is open.
        self._missing: Missing | None = None
        #: The same, in total.
        self.lost_frames = self.lost_messages = 0
        #: The events that found no room, under the lock of the events, and those of them that are
        #: noted, under the core's lock.
        self._lost_events = self._noted_events = 0

    @property
    def buffered(self) -> int:
        """The bytes charged for what is in the buffer."""
        return self._charged + self._charged_events - self.taken

    @property
    def is_shut(self) -> bool:
        """Whether what comes is only counted. Needs no lock."""
        return self._missing is not None

    def moment(self) -> Moment:
        """Return the present time."""
        return Moment(self._clock.time_ns(), round(self._clock.monotonic() * 1e9))

    def put(self, entry: Any) -> None:
        """Add an entry, whether or not there is room. Called under the core's lock."""
        self._charged += entry.charge
        self.entries.append(entry)
        if self.is_idle:
            self._wake()

    def open(self) -> None:
        """Put in what has found no room so far, if anything has, and open the buffer."""
        missing, self._missing = self._missing, None
        if self._noted_events != self._lost_events:
            self._noted_events = self._lost_events
            missing = missing or self._nothing()
            missing.is_unknown = True
        if missing is not None and (missing.frames or missing.channels or missing.is_unknown):
            missing.moment = self.moment()
            self.put(missing)

    def put_state(self, entry: Any) -> None:
        """Add an entry that always has room, after what has found none so far."""
        is_shut = self._missing is not None
        if is_shut:
            self.open()
        self.put(entry)
        if is_shut:
            self._missing = self._nothing()

    def _put_aside(self, entry: Any) -> None:
        """Add what a program may cause without end, if the buffer is not much too full."""
        if self._has_room(entry.charge):
            self.put_state(entry)
        else:
            self._missing = self._missing or self._nothing()
            self._missing.is_unknown = True

    def _has_room(self, charge: int) -> bool:
        buffered = self.buffered
        return not buffered or buffered + charge <= 2 * self._limit

    def _nothing(self) -> Missing:
        return Missing(ENTRY, Counter(), 0, self.moment())

    # The tap.

    def opened(self, connection_id: int, login: Any) -> None:
        self.put(Opened(ENTRY, connection_id, login))

    def read(
        self, arrival: Arrival, payloads: Sequence[bytes], binary: Sequence[int], size: int
    ) -> None:
        charge = ENTRY + size + FRAME * len(payloads)
        buffered = self.buffered
        if self._missing is not None and 2 * buffered <= self._limit:
            self.open()
        elif self._missing is None and buffered and buffered + charge > self._limit:
            self._missing = self._nothing()
            self._shut()
        elif self._noted_events != self._lost_events and self._missing is None:
            self.open()
        missing = self._missing
        if missing is not None:
            missing.frames += len(payloads)
            self.lost_frames += len(payloads)
        else:
            self.put(Read(charge, arrival, payloads, tuple(binary)))

    def ordinary(self, messages: Sequence[Message], batch: Batch, begin: int) -> None:
        if self._missing is not None:
            self._count(self._missing, messages)
            return
        raws: Sequence[bytes] = batch.payloads
        if len(messages) != batch.done - begin:  # a frame has several
            raws = list(map(_raw_of, messages))
        elif len(messages) != len(raws):
            raws = raws[begin : batch.done]
        links = _links(messages) if set(map(type, messages)) != _PLAIN else None
        heads = list(map(_head_of, messages))
        charge = ENTRY + MESSAGE * len(heads)
        self.put(Ordinary(charge, batch.arrival, begin, batch.done, raws, heads, links))

    def delivered(self, messages: Sequence[Message]) -> None:
        if self._missing is not None:
            self._count(self._missing, messages)
            return
        links = _links(messages) if set(map(type, messages)) != _PLAIN else None
        heads = list(map(_full_head_of, messages))
        charge = ENTRY + MESSAGE * len(heads)
        self.put(Delivered(charge, heads, links, self.moment()))

    def passed(self, connection_id: int, done: int) -> None:
        if done and self._missing is None:
            self.put(Passed(ENTRY, connection_id, done))

    def sent(self, connection_id: int, payload: str | bytes) -> None:
        self._put_aside(Outgoing(ENTRY + len(payload), connection_id, payload, self.moment()))

    def answered(self, channel: str, connection_id: int, body: bytes) -> None:
        self._put_aside(Answered(ENTRY + len(body), channel, connection_id, body, self.moment()))

    def happened(self, event: Event, origin: int) -> None:
        if not self._has_room(ENTRY) and not isinstance(event, Closed):  # which ends the recorder
            self._lost_events += 1
            return
        self._charged_events += ENTRY
        self.entries.append(Happening(ENTRY, event, origin, self.moment()))
        if self.is_idle:
            self._wake()

    def _count(self, missing: Missing, messages: Sequence[Message]) -> None:
        self.lost_messages += len(messages)
        missing.channels.update(map(_channel_of, messages))
        if len(missing.channels) > MAX_COUNTED:
            missing.channels.clear()
            missing.is_unknown = True


def _links(messages: Sequence[Message]) -> Links:
    return [(m.follows, m.is_counted) if isinstance(m, LinkedMessage) else None for m in messages]
