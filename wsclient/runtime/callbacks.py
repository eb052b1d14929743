"""``on()`` and ``on_event()`` functions, called one after the other on a thread of their own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from wsclient.errors import ClientClosed, ThreadStartError, WaitTimeout, WSClientError
from wsclient.events import Event
from wsclient.messages import Message
from wsclient.runtime.eventhub import EventStream
from wsclient.runtime.logs import ClientLog
from wsclient.runtime.queues import MessageQueue
from wsclient.runtime.threads import start
from wsclient.runtime.waiting import NEVER

__all__ = ["Callbacks"]


#: Events delivered at most before the next message: a storm of events must not delay it for ever.
EVENTS_AT_ONCE = 100


class Callbacks:
    """Calls the functions with messages until the queue is closed, and with the waiting events
    before each message. The queue and the thread are made for the first function: most clients have
    none.

    The tables change on the watchdog thread only. Their tuples are replaced as a whole, so that the
    callbacks thread reads them without a lock.
    """

    def __init__(
        self,
        new_queue: Callable[[], MessageQueue],
        add_queue: Callable[[MessageQueue], None],
        log: ClientLog,
        died: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        self._new_queue = new_queue
        self._add_queue = add_queue
        self.errors = 0
        self._log = log
        self._died = died
        self._functions: dict[str, tuple[Callable[[Message], object], ...]] = {}
        self._listeners: tuple[Callable[[Event], object], ...] = ()
        #: The listeners' events. Each one that is put wakes the thread.
        self.events = EventStream(self._rouse)
        self._queue: MessageQueue | None = None
        #: The thread, once it has started.
        self.thread: threading.Thread | None = None
        #: close() has returned: nothing is called any more.
        self.is_over = False

    def add(self, channel: str, function: Callable[[Message], object]) -> MessageQueue:
        """Call ``function`` with the channel's messages. Return the queue that they are to be put
        into. Raises ThreadStartError."""
        before = self._functions.get(channel, ())
        self._functions[channel] = (*before, function)
        try:
            return self._start()
        except ThreadStartError:
            self.remove(channel, function)
            raise

    def remove(self, channel: str, function: Callable[[Message], object]) -> MessageQueue | None:
        """Undo one :meth:`add`. Return the queue when no function is left for the channel."""
        functions = list(self._functions.get(channel, ()))
        if function in functions:
            functions.remove(function)
        if functions:
            self._functions[channel] = tuple(functions)
            return None
        self._functions.pop(channel, None)
        return self._queue

    def listen(self, function: Callable[[Event], object]) -> None:
        """Call it with each event put into :attr:`events`. Raises ThreadStartError."""
        self._start()
        self._listeners = (*self._listeners, function)

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
            self.thread, self._queue = thread, queue
            self._add_queue(queue)
        return self._queue

    def _run(self, queue: MessageQueue) -> None:
        try:
            self._loop(queue)
        except BaseException as error:  # noqa: BLE001 - the client fails, and says so
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
                break  # the client has failed; calls raise that by themselves
            except IndexError:
                pass  # there is an event
            # After the message was taken: what happened before it came is in the stream by now.
            if self._call_listeners(0.0, EVENTS_AT_ONCE):
                queue.rouse()  # there may be more
            if message is None:
                continue
            for function in self._functions.get(message.channel, ()):
                if not queue.is_closed:
                    self._call(function, message, f"on({message.channel!r})", message.channel)
        while self._call_listeners(None, EVENTS_AT_ONCE):
            pass  # until after the client's last one

    def _call_listeners(self, timeout: float | None, count: int) -> bool:
        """Call the listeners with at most ``count`` events, each waited for at most ``timeout``
        seconds. Return whether there were that many."""
        if not self._listeners:
            return False
        try:
            for _ in range(count):
                event = self.events.recv(timeout)
                for function in self._listeners:
                    if not self.is_over:
                        self._call(function, event, "on_event()")
        except (WaitTimeout, ClientClosed):
            return False
        return True

    def _call(
        self,
        function: Callable[[Any], object],
        argument: Message | Event,
        what: str,
        channel: str | None = None,
    ) -> None:
        try:
            function(argument)
        except BaseException:  # noqa: BLE001 - a sys.exit() too must not end the others silently
            self.errors += 1
            self._log(
                logging.ERROR,
                f"{what} raised; the other functions still run",
                connection_id=argument.connection_id,
                channel=channel,
                exc_info=True,
                logger="wsclient.callbacks",
            )
