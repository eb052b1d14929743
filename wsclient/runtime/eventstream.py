"""The stream of a client's events that one listener, or several threads, take them from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from wsclient.checks import check_timeout
from wsclient.errors import ClientClosed, WaitTimeout, WSClientError
from wsclient.events import Event
from wsclient.threads.forking import forked_error, watch
from wsclient.threads.pops import pops
from wsclient.threads.waiting import NEVER, Deadline
from wsclient.threads.waitlist import WaitList

__all__ = ["EventStream"]

#: The most events that wait in a stream.
MAX_EVENTS = 10_000


class EventStream:
    """An iterator over the events of a client, made by ``client.events()``.

    It yields :class:`wsclient.events.Event` objects and ends after the client's last event. Any
    number of threads may share it; each event goes to one of them. It does not keep the client
    alive. At most 10,000 events wait in it. When it is full, the oldest event is dropped, and
    counted in ``dropped``. In a stream of all types, that also shows as a jump of ``number``.
    """

    def __init__(
        self,
        on_event: Callable[[], None] | None = None,
        types: tuple[type[Event], ...] = (Event,),
    ) -> None:
        #: The types that the stream takes, with their subclasses. Replaced as a whole.
        self.types = types
        #: The number of events that were dropped because the stream was full.
        self.dropped = 0
        self._events: deque[Event] = deque()
        self._next = pops(self._events.popleft)
        self.waiting = WaitList()
        self._on_event = on_event
        #: Set at the end: makes the error that is raised after the last event.
        self._over: Callable[[], WSClientError] | None = None
        watch(self)

    def recv(self, timeout: float | None = None) -> Event:
        """Return the next event.

        ``timeout`` in seconds: None waits for ever, 0 polls. Raises TimeoutError when no event came
        in time, ClientClosed after the last event.
        """
        check_timeout(timeout)
        deadline = Deadline(timeout)
        while True:
            try:
                for event in self._next:
                    return event
            except IndexError:
                pass  # there is no event
            self._wait(deadline)

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        # The code of recv() again, not a call: an interrupt after the call would lose its result.
        while True:
            try:
                for event in self._next:
                    return event
            except IndexError:
                pass
            try:
                self._wait(NEVER)
            except ClientClosed:
                raise StopIteration from None

    def _wait(self, deadline: Deadline) -> None:
        """Wait until there may be an event. Raises after the last one, and at the deadline."""
        over = self._over  # read first: the last event may come meanwhile
        if self._events:
            return
        if over is not None:
            raise over()
        if not self.waiting.wait(self._has_some, deadline):
            raise WaitTimeout("no event within the timeout")

    def _has_some(self) -> bool:
        """Return whether a waiting thread has something to take: an event, or the end."""
        return bool(self._events) or self._over is not None

    def put(self, event: Event) -> None:
        """Add an event, and wake a waiting thread. Called under the hub's lock."""
        if len(self._events) >= MAX_EVENTS:
            try:
                self._events.popleft()
                self.dropped += 1
            except IndexError:
                pass  # it was taken meanwhile
        self._events.append(event)
        self.waiting.wake()
        if self._on_event is not None:
            self._on_event()

    def end(self) -> None:
        """End the stream after the events that are in it."""
        self._over = partial(ClientClosed, "the client has ended; there are no more events")
        self.waiting.wake_all()
        if self._on_event is not None:
            self._on_event()

    def forked(self) -> None:
        """Drop the parent's events in a child process, and raise ClientForked from now on."""
        self._over = forked_error
        self._events.clear()
        self.waiting.wake_all()

    def __repr__(self) -> str:
        return f"<EventStream: {len(self._events)} waiting>"
