"""Requests to the venue that wait to be sent, and requests that wait for an answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from wsclient.sansio.stops import Stops
from wsclient.sansio.timers import Timers
from wsclient.sansio.wantedtable import first_part
from wsclient.stream.items import Ack, Rejection

__all__ = ["Outstanding", "Request", "Requests", "Unsent"]


@dataclass(eq=False, slots=True)
class Request:
    """A subscribe or unsubscribe request; ``channels`` are those not yet answered.

    It has no ``id`` until the dialect has split its channels into messages; the split may replace
    it by several requests.
    """

    subscribe: bool
    channels: dict[str, None]
    options: Mapping[str, Any]
    #: Channels for whose answer no caller waits: the unsubscribe of a refresh (its first half), or
    #: one that undoes a late ack.
    quiet: set[str] = field(default_factory=set)
    #: Channels that it may have ended, where this has already been reported.
    reported: set[str] = field(default_factory=set)
    id: int | None = None
    #: The message that the dialect made, and the names of its channels at that time. An Ack if
    #: there is nothing to send.
    payload: str | bytes | Ack | None = None
    names: tuple[str, ...] = ()
    #: When it was sent (monotonic s), and how long (s) the venue may take to answer.
    sent_at: float = 0.0
    patience: float = float("inf")
    #: The reasons of refusals where the venue did not say which channel was refused.
    refusals: list[str] = field(default_factory=list)

    def part(self, channels: dict[str, None]) -> Request:
        """Return a request for some of the channels."""
        return Request(self.subscribe, channels, self.options, self.quiet.intersection(channels))


class _ByChannel:
    """An index of requests by channel."""

    __slots__ = ("_by_channel",)

    def __init__(self) -> None:
        self._by_channel: dict[str, list[Request]] = {}

    def of(self, channel: str) -> Sequence[Request]:
        """Return the requests that contain ``channel``, oldest first."""
        return tuple(self._by_channel.get(channel, ()))

    def _enter(self, request: Request) -> None:
        for name in request.channels:
            self._by_channel.setdefault(name, []).append(request)

    def _leave(self, request: Request, channels: Iterable[str]) -> None:
        for name in channels:
            requests = self._by_channel[name]
            requests.remove(request)
            if not requests:
                del self._by_channel[name]


class Unsent(_ByChannel):
    """Requests that wait to be sent, in sending order."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        super().__init__()
        self._queue: deque[Request] = deque()

    def add(self, request: Request) -> None:
        """Add a request, to be sent last."""
        self._queue.append(request)
        self._enter(request)

    def first(self, most: int) -> list[Request]:
        """Return the next requests to send, at most ``most``."""
        while self._queue and not self._queue[0].channels:
            self._queue.popleft()
        return [request for request in islice(self._queue, most) if request.channels]

    @property
    def last(self) -> Request | None:
        """The last request; None if there is none, or if it is also the first."""
        return self._queue[-1] if len(self._queue) > 1 else None

    def join(self, request: Request, channel: str) -> None:
        """Add ``channel`` to ``request``, so that it goes in the same message."""
        if channel not in request.channels:
            request.channels[channel] = None
            self._by_channel.setdefault(channel, []).append(request)

    def replace(self, requests: Sequence[Request], parts: Sequence[Request]) -> None:
        """Replace ``requests`` by ``parts``; apart from empty ones they must be the first."""
        while self._queue and (self._queue[0] in requests or not self._queue[0].channels):
            self.pop()
        for part in reversed(parts):
            self._queue.appendleft(part)
            self._enter(part)

    def pop(self) -> Request:
        """Remove and return the first request."""
        request = self._queue.popleft()
        self._leave(request, request.channels)
        return request

    def discard(self, request: Request, channel: str) -> None:
        """Remove ``channel`` from ``request``."""
        del request.channels[channel]
        self._leave(request, (channel,))

    def drop(self, channel: str) -> None:
        """Remove ``channel`` from every subscribe request."""
        for request in self.of(channel):
            if request.subscribe:
                self.discard(request, channel)


class Outstanding(_ByChannel):
    """Requests that wait for an answer, indexed by id and by channel."""

    __slots__ = ("_by_id",)

    def __init__(self) -> None:
        super().__init__()
        self._by_id: dict[str, Request] = {}

    def __iter__(self) -> Iterator[Request]:
        """Iterate over the requests, oldest first; none may be added or answered meanwhile."""
        return iter(self._by_id.values())

    def add(self, request: Request) -> None:
        """Add a request, which has an id now."""
        self._by_id[str(request.id)] = request
        self._enter(request)

    def get(self, request_id: object) -> Request | None:
        """Return the request with this id, compared as text; None if there is none."""
        return self._by_id.get(str(request_id))

    def discard(self, request: Request, channel: str) -> None:
        """Remove ``channel`` from ``request``: it is answered, or will not be."""
        del request.channels[channel]
        if not request.channels:
            del self._by_id[str(request.id)]
        self._leave(request, (channel,))


class Requests:
    """The requests of one connection, and which one an answer is about."""

    __slots__ = ("_ids", "_stops", "_unanswered", "has_changed", "outstanding", "unsent")

    def __init__(self, ids: Iterator[int], stops: Stops) -> None:
        self._ids = ids
        self._stops = stops
        self.unsent = Unsent()
        self.outstanding = Outstanding()
        self._unanswered: Timers[Request] = Timers(self._answer_due)
        #: Something must be sent that did not exist, or could not be sent, when this was cleared.
        self.has_changed = False

    def add(
        self,
        channels: Sequence[str],
        options: Mapping[str, Any],
        *,
        subscribe: bool = True,
        quiet: bool = False,
    ) -> None:
        """Add a request for ``channels`` to be sent. ``quiet``: no caller waits for its answer."""
        if channels:
            names = dict.fromkeys(channels)
            self.unsent.add(Request(subscribe, names, options, set(names) if quiet else set()))
            self.has_changed = True

    def split(
        self, requests: Sequence[Request], batches: Iterable[Iterable[Sequence[str]]]
    ) -> None:
        """Split the first unsent requests into messages, as the dialect did.

        ``batches`` contains, for each request, the channels of each message. Channels that have
        left a request in the meantime are ignored.
        """
        parts = []
        for request, names in zip(requests, batches, strict=True):
            left = dict(request.channels)
            for batch in names:
                part = request.part({name: None for name in batch if name in left})
                if part.channels:
                    part.id = next(self._ids)
                    parts.append(part)
                    for name in part.channels:
                        del left[name]
            if left:  # joined in the meantime: not yet passed to the dialect
                parts.append(request.part(left))
        self.unsent.replace(requests, parts)
        self.has_changed = True

    def send(self, now: float, patience: float) -> Request:
        """Move the first unsent request to the outstanding ones, and return it.

        Its answer may take ``patience`` (s), which the caller may shorten before :meth:`watch`.
        """
        request = self.unsent.pop()
        request.sent_at, request.patience = now, patience
        self.outstanding.add(request)
        return request

    def watch(self, request: Request) -> None:
        """Begin to watch the time of a request that was sent."""
        self._unanswered.add(request)

    @property
    def are_open(self) -> bool:
        """Whether any request is unsent or unanswered."""
        return bool(self.unsent.first(1)) or any(True for _ in self.outstanding)

    @property
    def oldest(self) -> int | None:
        """The id of the oldest request that waits for an answer; None if none does."""
        return next((request.id for request in self.outstanding), None)

    def is_asked_for(self, channel: str) -> bool:
        """Return whether a later request for the channel waits, with its own deadline."""
        requests = (*self.unsent.of(channel), *self.outstanding.of(channel))
        return any(request.subscribe for request in requests)

    def match(self, answer: Ack | Rejection) -> list[tuple[Request, str]]:
        """Return the (request, channel) pairs that an answer is about; all are of one request.

        An answer with an id belongs to the request with that id, whether it names a channel or not.
        An answer without an id belongs to the oldest request for its channel. An answer with
        neither belongs to the oldest request of all.
        """
        first = answer.name if isinstance(answer, Rejection) else None
        verb = answer.verb

        def meant(request: Request) -> list[tuple[Request, str]]:
            if verb is not None and request.subscribe != (verb == "subscribe"):
                return []
            if answer.channel is not None:
                names = [answer.channel] if answer.channel in request.channels else []
            elif first is not None:
                names = [name for name in request.channels if request.subscribe]
                names = [name for name in names if first_part(name) == first]
            else:
                end = "" if answer.symbol is None else f":{answer.symbol}"
                names = [name for name in request.channels if name.endswith(end)]
            return [(request, name) for name in names]

        if answer.request_id is not None:
            request = self.outstanding.get(answer.request_id)
            return [] if request is None else meant(request)
        if answer.channel is not None:
            candidates: Iterable[Request] = self.outstanding.of(answer.channel)
        else:
            candidates = self.outstanding
        return next(filter(None, map(meant, candidates)), [])

    def expired(self, now: float) -> list[Request]:
        """Return the requests whose time for an answer is over."""
        return self._unanswered.take(now)

    def deadline(self) -> float:
        """Return when to call :meth:`expired` at the latest (monotonic s, ``inf`` for never)."""
        return self._unanswered.deadline()

    def _answer_due(self, request: Request) -> float | None:
        if not request.channels:
            return None
        return request.sent_at + request.patience + self._stops.excuse(request.sent_at)
