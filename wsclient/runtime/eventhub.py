"""The delivery of events to their listeners: the log, and the streams."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

from wsclient.errors import WSClientError
from wsclient.events import Closed, Event, GapMarked
from wsclient.runtime.eventlog import EventLog
from wsclient.runtime.eventstream import EventStream
from wsclient.sansio.actions import Notify
from wsclient.threads.locks import Locks
from wsclient.threads.weak import WeakGroup

__all__ = ["EventHub"]


class EventHub:
    """Makes each event and gives it to the log, and to the streams that take its type.

    The log gets an event on the thread that emits it, and without a lock: a handler of the log may
    run inside of that call. ``post`` runs a function on the watchdog thread; it may be called with
    any lock held. ``current`` returns the id of the newest connection. ``time_ns`` is the clock of
    the events (ns since the epoch).
    """

    def __init__(
        self,
        locks: Locks | None = None,
        post: Callable[[Callable[[], None]], object] = lambda _: None,
        log: EventLog | None = None,
        current: Callable[[], int] = lambda: 0,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._post = post
        self._log = log
        self._current = current
        self._time_ns = time_ns
        self._streams: WeakGroup[EventStream] = WeakGroup()
        #: Events from :meth:`emit` for the streams, with their times. A SimpleQueue may be used by
        #: a signal handler or a finalizer that interrupts another call of it.
        self._posted: queue.SimpleQueue[tuple[Notify, int]] = queue.SimpleQueue()
        #: Protects everything below. Held while events are put into the streams: no put blocks.
        self._lock = (locks or Locks()).new("the events")
        #: The number of the last event.
        self._number = 0
        self._is_over = False
        #: Called with each event except GapMarked, under the lock.
        self.tap: Callable[[Event], None] | None = None

    def wants(self, kind: type[Event]) -> bool:
        """Return whether the log or a stream takes events of this type. Needs no lock."""
        if self._log is not None and kind in self._log.types:
            return True
        return any(issubclass(kind, stream.types) for stream in self._streams.all())

    def add(self, stream: EventStream) -> None:
        """Put events into ``stream``, from the next one on."""
        with self._lock:
            self._streams.add(stream)
            if self._is_over:
                stream.end()

    def notify(self, notify: Notify) -> None:
        """Emit an event of the supervisor. The first :class:`Closed` ends the streams."""
        at = self._time_ns()
        with self._lock:
            self._put_posted()
            event = self._put(notify, at)
        if self._log is not None and notify.kind in self._log.types:
            self._log(event)

    def repeat(self, notify: Notify) -> None:
        """Emit an event of a recording. The log does not get it: it was logged at its time."""
        at = self._time_ns()
        with self._lock:
            self._put_posted()
            self._put(notify, at)

    def emit(self, kind: type[Event], *what: Any, connection_id: int | None = None) -> None:
        """Emit an event on any thread, even in a signal handler and with any lock held.

        It never blocks and never raises. The log gets the event now, without a number. The watchdog
        thread puts it into the streams, unless another event comes before.
        """
        connection_id = self._current() if connection_id is None else connection_id
        notify, at = Notify(kind, what, connection_id), self._time_ns()
        if self._log is not None and kind in self._log.types:
            self._log(_event(notify, 0, at))
        if not self._is_over and (len(self._streams) or self.tap is not None):
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

    def _put(self, notify: Notify, at: int) -> Event:
        """Make and number an event, and put it into the streams. Called under the lock."""
        self._number += 1 + notify.omitted
        event = _event(notify, self._number, at)
        if not self._is_over:
            streams = self._streams.all()
            for stream in streams:
                if isinstance(event, stream.types):
                    stream.put(event)
            if self.tap is not None and notify.kind is not GapMarked:
                self.tap(event)
            if notify.kind is Closed:
                for stream in streams:
                    stream.end()
                self._is_over = True
        return event

    def forked(self) -> None:
        """Emit no more events in a child process."""
        self._is_over = True
        self.tap = None


def _event(notify: Notify, number: int, at: int) -> Event:
    make: Callable[..., Event] = notify.kind
    return make(*notify.what, connection_id=notify.connection_id, number=number, at=at)
