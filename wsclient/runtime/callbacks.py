"""The thread that calls the functions of ``on()`` and ``on_event()``, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from wsclient.errors import ClientClosed, ThreadStartError, WaitTimeout, WSClientError
from wsclient.events import CallbackFailed, Event
from wsclient.messages import Message
from wsclient.runtime.eventstream import EventStream
from wsclient.runtime.queues import MessageQueue
from wsclient.threads.waiting import NEVER
from wsclient.threads.workers import start

__all__ = ["Callbacks"]

#: The most events delivered before the next message, so that many events cannot delay it for ever.
EVENTS_AT_ONCE = 100


class Callbacks:
    """Calls functions with messages and events until the queue is closed.

    Waiting events are delivered before the next message. The queue and the thread are made for the
    first function, since most clients have none.

    The tables change on the watchdog thread only. Their tuples are replaced as a whole, so that the
    callbacks thread can read them without a lock.
    """

    def __init__(
        self,
        new_queue: Callable[[], MessageQueue],
        add_queue: Callable[[MessageQueue], None],
        emit: Callable[..., None],
        died: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        self._new_queue = new_queue
        self._add_queue = add_queue
        self.errors = 0
        self._emit = emit
        self._died = died
        self.functions: dict[str, tuple[Callable[[Message], object], ...]] = {}
        #: Each listener, with the types of events that it takes.
        self._listeners: tuple[tuple[Callable[[Event], object], tuple[type[Event], ...]], ...] = ()
        #: The listeners' events. Each put wakes the thread.
        self.events = EventStream(self._rouse, ())
        self._queue: MessageQueue | None = None
        #: The thread, once it has started.
        self.thread: threading.Thread | None = None
        #: True once close() has returned: nothing is called after that.
        self.is_over = False

    def add(self, channels: Sequence[str], function: Callable[[Message], object]) -> MessageQueue:
        """Call ``function`` with the messages of ``channels``. Return the queue to put them into.

        Raises ThreadStartError; then nothing has changed.
        """
        for channel in channels:
            self.functions[channel] = (*self.functions.get(channel, ()), function)
        try:
            return self._start()
        except ThreadStartError:
            self.remove(channels, function)
            raise

    def remove(
        self, channels: Sequence[str], function: Callable[[Message], object]
    ) -> tuple[MessageQueue | None, list[str]]:
        """Undo one :meth:`add`. Return the queue, and the channels that have no function left."""
        unused = []
        for channel in channels:
            functions = list(self.functions.get(channel, ()))
            known = list(map(id, functions))  # their __eq__ is the user's code
            if id(function) in known:
                del functions[known.index(id(function))]
            if functions:
                self.functions[channel] = tuple(functions)
            else:
                self.functions.pop(channel, None)
                unused.append(channel)
        return self._queue, unused

    def listen(
        self, function: Callable[[Event], object], types: tuple[type[Event], ...] = (Event,)
    ) -> None:
        """Call ``function`` with the events of these types that are put into :attr:`events`.

        Raises ThreadStartError.
        """
        self._start()
        self._listeners = (*self._listeners, (function, types))
        self.events.types += types

    def _rouse(self) -> None:
        if self._queue is not None:
            self._queue.rouse()

    def _start(self) -> MessageQueue:
        if self._queue is None:
            queue = self._new_queue()
            thread = threading.Thread(
                name="wsclient-callbacks", target=self._run, args=(queue,), daemon=True
            )
            start(thread)
            queue.consumer = thread.ident
            self.thread, self._queue = thread, queue
            self._add_queue(queue)
        return self._queue

    def _run(self, queue: MessageQueue) -> None:
        try:
            self._loop(queue)
        except BaseException as error:  # noqa: BLE001 - the client fails and logs it
            if self._died is not None:
                self._died("wsclient-callbacks", error)

    def _loop(self, queue: MessageQueue) -> None:
        while True:
            message = None
            try:
                if not queue.fill(1, NEVER):
                    break
                message = next(queue.handed_out)
            except WSClientError:
                queue.close()  # the client has failed, which the calls on it raise
                break
            except IndexError:
                pass  # there is an event
            # Only now that the message is taken: all events from before it are in the stream.
            if self._call_listeners(0.0, EVENTS_AT_ONCE):
                queue.rouse()  # there may be more
            if message is None:
                continue
            for function in self.functions.get(message.channel, ()):
                if not queue.is_closed:
                    self._call(function, message, message.channel)
        while self._call_listeners(None, EVENTS_AT_ONCE):
            pass  # until the client's last event is delivered

    def _call_listeners(self, timeout: float | None, count: int) -> bool:
        """Call the listeners with at most ``count`` events. Return whether there were that many.

        Wait for each event for at most ``timeout`` seconds.
        """
        if not self._listeners:
            return False
        try:
            for _ in range(count):
                event = self.events.recv(timeout)
                if isinstance(event, CallbackFailed) and event.channel is None:
                    continue  # a listener that raises for each event would never end
                for function, types in self._listeners:
                    if isinstance(event, types) and not self.is_over:
                        self._call(function, event)
        except (WaitTimeout, ClientClosed):
            return False
        return True

    def _call(
        self,
        function: Callable[[Any], object],
        argument: Message | Event,
        channel: str | None = None,
    ) -> None:
        try:
            function(argument)
        except BaseException as error:  # noqa: BLE001 - sys.exit() may not end the others either
            self.errors += 1
            self._emit(
                CallbackFailed,
                _name_of(function),
                channel,
                error,
                connection_id=argument.connection_id,
            )


def _name_of(function: object) -> str:
    """Return the name of a user's function, that of its type if it has none."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    return name if type(name) is str else type(function).__qualname__
