"""Delivery of events to the listeners: the log, and the streams."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat, starmap
from typing import Any

from wsclient.errors import ClientClosed, WaitTimeout, WSClientError
from wsclient.events import Closed, Event
from wsclient.options import check_timeout
from wsclient.runtime.eventlog import EventLog
from wsclient.runtime.forking import forked_error, watch
from wsclient.runtime.locks import Locks
from wsclient.runtime.waiting import NEVER, SLICE, Deadline
from wsclient.runtime.weak import WeakGroup
from wsclient.sansio.actions import Notify

__all__ = ["EventHub", "EventStream"]

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
        """Add an event, and wake a waiting thread. Called under the hub's lock."""
        if len(self._events) >= MAX_EVENTS:
            try:
                self._events.popleft()
                self.dropped += 1
            except IndexError:
                pass  # it was taken meanwhile
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
    """Makes each event and gives it to the log, and to the streams that take its type.

    The log gets an event on the thread that emits it, and without a lock: a handler of the log may
    run inside of that call. ``post`` runs a function on the watchdog thread; it may be called with
    any lock held. ``current`` returns the id of the current connection.
    """

    def __init__(
        self,
        locks: Locks | None = None,
        post: Callable[[Callable[[], None]], object] = lambda _: None,
        log: EventLog | None = None,
        current: Callable[[], int] = lambda: 0,
    ) -> None:
        self._post = post
        self._log = log
        self._current = current
        self._streams: WeakGroup[EventStream] = WeakGroup()
        #: Events from :meth:`emit` for the streams, with their times. A SimpleQueue may be used by
        #: a signal handler or a finalizer that interrupts another call of it.
        self._posted: queue.SimpleQueue[tuple[Notify, int]] = queue.SimpleQueue()
        #: Protects everything below. Held while events are put into the streams: no put blocks.
        self._lock = (locks or Locks()).new("the events")
        #: The number of the last event.
        self.number = 0
        self._is_over = False

    def wants(self, kind: type[Event]) -> bool:
        """Return whether anything takes events of this type. Needs no lock."""
        return self._is_logged(kind) or any(
            issubclass(kind, stream.types) for stream in self._streams.all()
        )

    def _is_logged(self, kind: type[Event]) -> bool:
        return self._log is not None and kind in self._log.types

    def add(self, stream: EventStream) -> None:
        """Put events into ``stream``, from the next one on."""
        with self._lock:
            self._streams.add(stream)
            if self._is_over:
                stream.end()

    def notify(self, notify: Notify) -> None:
        """Emit an event of the session. The first :class:`Closed` ends the streams."""
        at = time.time_ns()
        with self._lock:
            self._put_posted()
            self._put(notify, at)
            number = self.number
        if self._log is not None and self._is_logged(notify.kind):
            self._log(_event(notify, number, at))

    def emit(self, kind: type[Event], *what: Any, connection_id: int | None = None) -> None:
        """Emit an event on any thread, even in a signal handler and with any lock held.

        It never blocks and never raises. The log gets the event now, without a number. The watchdog
        thread puts it into the streams, unless another event comes before.
        """
        connection_id = self._current() if connection_id is None else connection_id
        notify, at = Notify(kind, what, connection_id), time.time_ns()
        if self._log is not None and self._is_logged(kind):
            self._log(_event(notify, 0, at))
        if not self._is_over and len(self._streams):
            self._posted.put((notify, at))
            self._post(self.flush)

    def flush(self) -> None:
        """Put the events of :meth:`emit` into the streams."""
        with self._lock:
            self._put_posted()

    def end(self, error: WSClientError | None, connection_id: int) -> None:
        """Emit the last event, unless it has been emitted."""
        self.notify(Notify(Closed, (error,), connection_id))

    def _put_posted(self) -> None:
        """Put the events of :meth:`emit` into the streams. Called under the lock."""
        try:
            while True:
                self._put(*self._posted.get_nowait())
        except queue.Empty:
            pass

    def _put(self, notify: Notify, at: int) -> None:
        """Number an event, and put it into the streams. Called under the lock."""
        if self._is_over:
            return
        self.number += 1 + notify.omitted
        streams = self._streams.all()
        takers = [stream for stream in streams if issubclass(notify.kind, stream.types)]
        if takers:
            event = _event(notify, self.number, at)
            for stream in takers:
                stream.put(event)
        if notify.kind is Closed:
            for stream in streams:
                stream.end()
            self._is_over = True

    def forked(self) -> None:
        """Emit no more events in a child process. The lock's holder may not exist there."""
        self._lock = threading.RLock()
        self._is_over = True


def _event(notify: Notify, number: int, at: int) -> Event:
    make: Callable[..., Event] = notify.kind
    return make(*notify.what, connection_id=notify.connection_id, number=number, at=at)
