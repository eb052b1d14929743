"""Events, from the watchdog to whoever listens."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from weakref import WeakSet

from wsclient.errors import ClientClosed, WaitTimeout, WSClientError
from wsclient.events import Closed, Event
from wsclient.runtime.forking import forked_error, watch
from wsclient.runtime.waiting import SLICE, Deadline

__all__ = ["EventStream", "Teller"]

#: So many events wait in a stream at most.
MAX_EVENTS = 10_000


class EventStream:
    """What happens to a client, from now on: made by ``client.events()``.

    An iterator of :class:`wsclient.events.Event`, which ends after the client's last one. Any
    number of threads may share it; each event goes to one of them. It does not keep the client
    alive. At most 10,000 events wait in it: the oldest make room, and the numbers tell of it.
    """

    def __init__(self, told: Callable[[], None] | None = None) -> None:
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._told = told
        self._error: WSClientError | None = None
        watch(self)

    def recv(self, timeout: float | None = None) -> Event:
        """The next event.

        ``timeout`` in seconds: None waits for ever, 0 polls. Raises TimeoutError when none came,
        ClientClosed after the last one.
        """
        deadline = Deadline(timeout)
        while True:
            remaining = deadline.remaining()
            try:
                event = self._events.get(timeout=min(remaining, SLICE))
            except queue.Empty:
                if remaining <= SLICE:
                    raise WaitTimeout("no event within the timeout") from None
                continue
            if event is None:
                self._events.put(None)  # for whoever asks next
                if self._error is not None:
                    raise self._error.fresh()
                raise ClientClosed("there will be no more events: the client has ended")
            return event

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            return self.recv()
        except ClientClosed:
            raise StopIteration from None

    def put(self, event: Event) -> None:
        """By one thread at a time; returns at once."""
        if self._events.qsize() >= MAX_EVENTS:
            try:
                self._events.get_nowait()
            except queue.Empty:
                pass  # it has been taken meanwhile
        self._events.put(event)
        if self._told is not None:
            self._told()

    def end(self) -> None:
        self._events.put(None)
        if self._told is not None:
            self._told()

    def forked(self) -> None:
        """In a child process: the queue's own lock may be held for ever."""
        self._error = forked_error()
        self._events = queue.SimpleQueue()
        self._events.put(None)

    def __repr__(self) -> str:
        return f"<EventStream: {self._events.qsize()} waiting>"


class Teller:
    """Gives each event its number and time, and to every stream."""

    def __init__(self) -> None:
        #: Protects all below. Held while an event is put into the streams, which returns at once.
        self._lock = threading.Lock()
        self._streams: WeakSet[EventStream] = WeakSet()
        self._count = 0
        self._is_over = False

    def add(self, stream: EventStream) -> None:
        """From the next event on."""
        with self._lock:
            self._streams.add(stream)
            if self._is_over:
                stream.end()

    def tell(self, event: Event) -> None:
        """The first :class:`Closed` is the last of all."""
        with self._lock:
            if self._is_over:
                return
            self._count += 1
            event = replace(event, number=self._count, at=time.time_ns())
            self._is_over = isinstance(event, Closed)
            for stream in tuple(self._streams):
                stream.put(event)
                if self._is_over:
                    stream.end()

    def forked(self) -> None:
        """In a child process, where nothing is told."""
        self._lock = threading.Lock()
        self._is_over = True
