"""Delivery of events from the watchdog to the listeners."""

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

#: The most events that wait in a stream.
MAX_EVENTS = 10_000


class EventStream:
    """An iterator over the events of a client, made by ``client.events()``.

    It yields :class:`wsclient.events.Event` objects and ends after the client's last event. Any
    number of threads may share it; each event goes to one of them. It does not keep the client
    alive. At most 10,000 events wait in it. When it is full, the oldest event is dropped, which a
    listener sees as a jump of ``number``.
    """

    def __init__(self, on_event: Callable[[], None] | None = None) -> None:
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        #: Each step takes the next event. In C, as in MessageQueue: an interrupt loses none.
        self._next = starmap(self._events.popleft, repeat(()))
        #: Wakes one waiting thread for each event, and for the end.
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
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
        remaining = deadline.remaining()
        try:
            self._wakeups.get(timeout=min(remaining, SLICE))
        except queue.Empty:
            if remaining <= SLICE:
                raise WaitTimeout("no event within the timeout") from None
        finally:
            # An interrupt of this thread must not lose the wake-up: pass it on to the next thread.
            if self._events or self._over is not None:
                self._wakeups.put(None)

    def put(self, event: Event) -> None:
        """Add an event, and wake a waiting thread."""
        self._events.append(event)
        self._wake()

    def end(self) -> None:
        """End the stream after the events that are in it."""
        self._over = partial(ClientClosed, "the client has ended; there are no more events")
        self._wake()

    def forked(self) -> None:
        """Drop the parent's events in a child process, and raise ClientForked from now on."""
        self._over = forked_error
        self._events.clear()
        self._wakeups.put(None)

    def _wake(self) -> None:
        if self._wakeups.qsize() < MAX_EVENTS:  # else no thread is waiting
            self._wakeups.put(None)
        if self._on_event is not None:
            self._on_event()

    def __repr__(self) -> str:
        return f"<EventStream: {len(self._events)} waiting>"


class EventHub:
    """Makes each event once, and puts it into every stream."""

    def __init__(self, locks: Locks | None = None) -> None:
        #: Protects everything below. Held while events are put into the streams: no put blocks.
        self._lock = (locks or Locks()).new("the events")
        self._streams: WeakSet[EventStream] = WeakSet()
        self.number = 0
        self._is_over = False

    @property
    def has_streams(self) -> bool:
        """True when some stream gets events. Needs no lock, so it may be read at any time."""
        return bool(self._streams)

    def add(self, stream: EventStream) -> None:
        """Put events into ``stream``, from the next one on."""
        with self._lock:
            self._streams.add(stream)
            if self._is_over:
                stream.end()

    def notify(self, notify: Notify) -> None:
        """Make the event and put it into every stream. The first :class:`Closed` ends them."""
        with self._lock:
            self._notify(notify)

    def end(self, error: WSClientError | None, connection_id: int) -> None:
        """Emit the last event, unless it has been emitted."""
        with self._lock:
            self._notify(Notify(Closed, (error,), connection_id, self.number + 1))

    def _notify(self, notify: Notify) -> None:
        """Put the event into every stream. Called under the lock."""
        if self._is_over:
            return
        kind, what, connection_id, self.number = notify
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
        """Emit no more events in a child process. The lock's holder may not exist there."""
        self._lock = threading.RLock()
        self._is_over = True
