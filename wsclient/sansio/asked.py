"""Requests to the venue that wait to be sent, and requests that wait for an answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

__all__ = ["Outstanding", "Request", "Unsent"]


@dataclass(eq=False)
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
    #: The message that the dialect made, and the names of its channels at that time.
    payload: str | bytes | None = None
    names: tuple[str, ...] = ()
    #: When it was sent (monotonic s), and how long (s) the venue may take to answer.
    sent_at: float = 0.0
    patience: float = float("inf")
    #: The reasons of refusals where the venue did not say which channel was refused.
    refusals: list[str] = field(default_factory=list)


class _ByChannel:
    """An index of requests by channel."""

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

    def clear(self) -> None:
        self._by_channel.clear()


class Unsent(_ByChannel):
    """Requests that wait to be sent, in sending order."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: deque[Request] = deque()

    def add(self, request: Request) -> None:
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

    def clear(self) -> None:
        super().clear()
        self._queue.clear()


class Outstanding(_ByChannel):
    """Requests that wait for an answer, indexed by id and by channel."""

    def __init__(self) -> None:
        super().__init__()
        self._by_id: dict[str, Request] = {}

    def __iter__(self) -> Iterator[Request]:
        """Iterate over the requests, oldest first; none may be added or answered meanwhile."""
        return iter(self._by_id.values())

    def add(self, request: Request) -> None:
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

    def clear(self) -> None:
        super().clear()
        self._by_id.clear()
