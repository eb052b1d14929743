"""Delivery of events from the watchdog to the listeners."""

from __future__ import annotations

import threading
import time
from weakref import WeakSet

from wsclient.errors import WSClientError
from wsclient.events import Closed
from wsclient.runtime.eventstream import EventStream
from wsclient.runtime.locks import Locks
from wsclient.sansio.actions import Notify

__all__ = ["EventHub"]


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
