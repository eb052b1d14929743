"""Events, from the watchdog to whoever listens."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat, starmap
from weakref import WeakSet

from wsclient.errors import ClientClosed, WaitTimeout, WSClientError
from wsclient.events import Closed, Event
from wsclient.options import check_timeout
from wsclient.runtime.forking import forked_error, watch
from wsclient.runtime.locks import Locks
from wsclient.runtime.waiting import NEVER, SLICE, Deadline
from wsclient.sansio.actions import Notify

__all__ = ["EventHub", "EventStream"]

#: So many events wait in a stream at most.
MAX_EVENTS = 10_000


class EventStream:
    """What happens to a client, from now on: made by ``client.events()``.

    An iterator of :class:`wsclient.events.Event`, which ends after the client's last one. Any
    number of threads may share it; each event goes to one of them. It does not keep the client
    alive. At most 10,000 events wait in it: the oldest make room, and the numbers tell of it.
    """

    def __init__(self, on_event: Callable[[], None] | None = None) -> None:
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        #: Each step takes the next one. All in C, as in MessageQueue: an interrupt loses none.
        self._next = starmap(self._events.popleft, repeat(()))
        #: Wakes one of those who wait, for each event and for the end.
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._on_event = on_event
        #: After the last one: makes what is raised.
        self._over: Callable[[], WSClientError] | None = None
        watch(self)

    def recv(self, timeout: float | None = None) -> Event:
        """The next event.

        ``timeout`` in seconds: None waits for ever, 0 polls. Raises TimeoutError when none came,
        ClientClosed after the last one.
        """
        check_timeout(timeout)
        deadline = Deadline(timeout)
        while True:
            try:
                for event in self._next:
                    return event
            except IndexError:
                pass  # there is none
            self._wait(deadline)

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        # As recv(): what a call returns, an interrupt after it would lose.
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
        over = self._over  # looked at first: the last event may come meanwhile
        if self._events:
            return
        if over is not None:
            raise over()
        remaining = deadline.remaining()
        try:
            self._wakeups.get(timeout=min(remaining, SLICE))
        except queue.Empty:
            if remaining <= SLICE:
                raise WaitTimeout("no event within the timeout") from None
        finally:
            # Nor may what we have heard be lost with us: the next in line hears it as well.
            if self._events or self._over is not None:
                self._wakeups.put(None)

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._wake()

    def end(self) -> None:
        """After what is in it."""
        self._over = partial(ClientClosed, "there will be no more events: the client has ended")
        self._wake()

    def forked(self) -> None:
        """In a child process: what is in it is the parent's."""
        self._over = forked_error
        self._events.clear()
        self._wakeups.put(None)

    def _wake(self) -> None:
        if self._wakeups.qsize() < MAX_EVENTS:  # else nobody waits
            self._wakeups.put(None)
        if self._on_event is not None:
            self._on_event()

    def __repr__(self) -> str:
        return f"<EventStream: {len(self._events)} waiting>"


class EventHub:
    """Makes each event, once, and gives it to every stream."""

    def __init__(self, locks: Locks | None = None) -> None:
        #: Protects all below. Held while an event is put into the streams, which returns at once.
        self._lock = (locks or Locks()).new("the events")
        self._streams: WeakSet[EventStream] = WeakSet()
        self._number = 0
        self._is_over = False

    @property
    def has_streams(self) -> bool:
        """Without the lock: it may be asked at any time."""
        return bool(self._streams)

    def add(self, stream: EventStream) -> None:
        """From the next event on."""
        with self._lock:
            self._streams.add(stream)
            if self._is_over:
                stream.end()

    def notify(self, notify: Notify) -> None:
        """The first :class:`Closed` is the last of all."""
        with self._lock:
            self._notify(notify)

    def end(self, error: WSClientError | None, connection_id: int) -> None:
        """See that the last event is told, if it has not been."""
        with self._lock:
            self._notify(Notify(Closed, (error,), connection_id, self._number + 1))

    def _notify(self, notify: Notify) -> None:
        """Under the lock."""
        if self._is_over:
            return
        kind, what, connection_id, self._number = notify
        streams = tuple(self._streams)
        if streams:
            at = time.time_ns()
            event = kind(*what, connection_id=connection_id, number=notify.number, at=at)
            for stream in streams:
                stream.put(event)
        if kind is Closed:
            for stream in streams:
                stream.end()
            self._is_over = True

    def forked(self) -> None:
        """In a child process, where nothing is told."""
        self._lock = threading.RLock()
        self._is_over = True
