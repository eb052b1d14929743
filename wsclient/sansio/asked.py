"""Requests to the venue: those that wait to be sent, and those that wait for an answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

__all__ = ["Outstanding", "Request", "Unsent"]


@dataclass(eq=False)
class Request:
    """A subscribe or unsubscribe; ``channels`` are those not yet answered.

    Until the dialect has said how its channels go into messages it has no ``id``, and may become
    several.
    """

    subscribe: bool
    channels: dict[str, None]
    options: Mapping[str, Any]
    #: Channels whose answer nobody waits for (the first half of a refresh, a late ack undone).
    quiet: set[str] = field(default_factory=set)
    #: That it may have ended these has been told.
    told: set[str] = field(default_factory=set)
    id: int | None = None
    #: The message, as the dialect has made it for the channels of these names.
    payload: str | bytes | None = None
    names: tuple[str, ...] = ()
    #: When it went out, and how long (s) the venue may take to answer.
    sent_at: float = 0.0
    patience: float = float("inf")
    #: Why some of its channels were refused, where the venue did not say which ones.
    refusals: list[str] = field(default_factory=list)


class _ByChannel:
    """An index of requests."""

    def __init__(self) -> None:
        self._by_channel: dict[str, list[Request]] = {}

    def of(self, channel: str) -> Sequence[Request]:
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
    """Requests in the order in which they are to go out."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: deque[Request] = deque()

    def add(self, request: Request) -> None:
        self._queue.append(request)
        self._enter(request)

    def first(self, most: int) -> list[Request]:
        """Return the next requests to be sent, at most ``most``."""
        while self._queue and not self._queue[0].channels:
            self._queue.popleft()
        return [request for request in islice(self._queue, most) if request.channels]

    @property
    def last(self) -> Request | None:
        """The last request, or None unless others are sent before it."""
        return self._queue[-1] if len(self._queue) > 1 else None

    def join(self, request: Request, channel: str) -> None:
        """Ask for one more channel in the same message."""
        if channel not in request.channels:
            request.channels[channel] = None
            self._by_channel.setdefault(channel, []).append(request)

    def replace(self, requests: Sequence[Request], parts: Sequence[Request]) -> None:
        """Replace ``requests``, the first ones apart from empty ones, by ``parts``."""
        while self._queue and (self._queue[0] in requests or not self._queue[0].channels):
            self.pop()
        for part in reversed(parts):
            self._queue.appendleft(part)
            self._enter(part)

    def pop(self) -> Request:
        request = self._queue.popleft()
        self._leave(request, request.channels)
        return request

    def discard(self, request: Request, channel: str) -> None:
        del request.channels[channel]
        self._leave(request, (channel,))

    def drop(self, channel: str) -> None:
        """Remove ``channel`` from all subscribe requests."""
        for request in self.of(channel):
            if request.subscribe:
                self.discard(request, channel)

    def clear(self) -> None:
        super().clear()
        self._queue.clear()


class Outstanding(_ByChannel):
    """Requests that are on their way: found by their ids, and by their channels."""

    def __init__(self) -> None:
        super().__init__()
        self._by_id: dict[str, Request] = {}

    def __iter__(self) -> Iterator[Request]:
        """Oldest first; none may be added or answered meanwhile."""
        return iter(self._by_id.values())

    def add(self, request: Request) -> None:
        self._by_id[str(request.id)] = request
        self._enter(request)

    def get(self, request_id: object) -> Request | None:
        return self._by_id.get(str(request_id))

    def discard(self, request: Request, channel: str) -> None:
        """``channel`` of ``request`` is answered, or will not be."""
        del request.channels[channel]
        if not request.channels:
            del self._by_id[str(request.id)]
        self._leave(request, (channel,))

    def clear(self) -> None:
        super().clear()
        self._by_id.clear()
