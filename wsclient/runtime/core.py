"""The core of a client: what its parts share, its lock, and how it ends.

* To change something, a caller *posts* a function to the watchdog thread and waits for the answer
  (``calls.py``, and ``bookcalls.py`` for order books). So an interrupt in the caller's thread
  leaves nothing half done.
* To read something, a caller takes the lock and copies.
* Readers report what they have received, under the lock (``reception.py``).

The core does not refer to the client object. So a client that nothing holds is collected, and its
finalizer closes the core.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from wsclient.errors import ClientClosed
from wsclient.events import ThreadStuck, UnreadDiscarded
from wsclient.messages import Message
from wsclient.options import Options
from wsclient.runtime.callbacks import Callbacks
from wsclient.runtime.calls import Calls
from wsclient.runtime.conflating import ConflatingQueue
from wsclient.runtime.eventhub import EventHub
from wsclient.runtime.eventlog import EventLog
from wsclient.runtime.fifo import FifoQueue
from wsclient.runtime.follower import Follower
from wsclient.runtime.forking import forked_error, watch
from wsclient.runtime.judging import Judge
from wsclient.runtime.locks import Locks
from wsclient.runtime.logs import FLUSH, ClientLog, flush
from wsclient.runtime.pacing import Pacer
from wsclient.runtime.queues import MessageQueue
from wsclient.runtime.reception import Reception
from wsclient.runtime.refusals import Refusals
from wsclient.runtime.router import Router, Routes
from wsclient.runtime.source import Sources
from wsclient.runtime.threads import is_worker_thread
from wsclient.runtime.waiting import Deadline, Waiter
from wsclient.runtime.watchdog import Watchdog
from wsclient.runtime.weak import WeakGroup
from wsclient.sansio.declared import Types, types_of
from wsclient.sansio.dialect import Dialect
from wsclient.sansio.supervisor import Supervisor
from wsclient.tracebacks import forget_locals

__all__ = ["Core"]

#: How long (s) close() waits for a watchdog that is held up before it does the work itself.
HELD_UP = 0.25


class _ForkedLock:
    """A replacement for the lock in a forked child: entering it raises ClientForked."""

    def __enter__(self) -> None:
        raise forked_error()

    def __exit__(self, *_: object) -> None:
        pass


class Core:
    """The owner of the supervisor, the router, the queues and the threads of one client.

    ``sources`` makes the source of each connection. ``log`` writes the client's log records.
    """

    def __init__(
        self, sources: Sources, options: Options, dialect: Dialect, log: ClientLog
    ) -> None:
        self.log = log
        self.options = options
        self.dialect = dialect
        #: The clock of all decisions.
        self.clock = sources.clock
        self.locks = Locks()
        #: Protects the supervisor and the router.
        self.lock: AbstractContextManager[Any] = self.locks.new("the core")
        self.watchdog = Watchdog(self, sources)
        self.event_hub = EventHub(
            self.locks,
            self.watchdog.put,
            EventLog(log),
            lambda: self.supervisor.connection_id,
            self.clock.time_ns,
        )
        self.emit = self.event_hub.emit
        self.supervisor = Supervisor(
            dialect, options, random.random, sources.mask, self.event_hub.wants
        )
        #: The router's routes. A queue never forgets a gap of these channels.
        self._routes: Routes = {}
        self.pacer = Pacer()
        #: The declared types of the client's own queue, its callbacks and most readers.
        self.types = types_of(options.decode)
        #: True once any queue has declared types.
        self.has_types = False
        self._refusals = Refusals(self.watchdog.put_now, self._report_refused)
        self.default = self.new_queue("client", types=self.types)
        self.router = Router(
            self.default,
            self._routes,
            lambda channel: channel in self.supervisor.wanted,
            lambda: self.supervisor.connection_id,
        )
        #: Numbers for the queues of readers.
        self.reader_numbers = itertools.count(1)
        self.mask = sources.mask
        #: Functions called, without the lock, when the client was closed or has failed.
        self.at_end: list[Callable[[], None]] = []
        self.post = self.watchdog.post
        self.wake = self.watchdog.wake
        self.judge = Judge(options.classify, self.emit, self.post)
        make = partial(self.new_queue, "callbacks", types=self.types)
        self.callbacks = Callbacks(make, self.add_queue, self.emit, self.died)
        #: What is built on this core, such as its order books.
        self.follower = Follower()
        #: The waiters of blocked calls. Settled directly if the watchdog dies.
        self.waiters: WeakGroup[Waiter] = WeakGroup()
        #: True once close() has stopped waiting for the watchdog.
        self._is_held_up = False
        self.is_forked = False
        self.calls = Calls(self)
        self.reception = Reception(self)
        watch(self)

    # The calls of any thread.

    def check_call(self) -> None:
        """Raise ClientForked in a child process, ReentrantCall if this thread holds a lock."""
        if self.is_forked:
            raise forked_error()
        self.locks.check()

    def until(self, timeout: float | None) -> float:
        """Return when ``timeout`` (s) from now ends, by the clock of the supervisor's deadlines."""
        return float("inf") if timeout is None else self.clock.monotonic() + timeout

    def ask(self, waiter: Waiter, function: Callable[[], None]) -> None:
        """Run ``function`` on the watchdog thread. It settles ``waiter`` later.

        If ``function`` raises, the waiter is settled with its error. Raises as :meth:`check_call`.
        """
        self.check_call()
        self.waiters.add(waiter)
        self.post(partial(_try, waiter, function))
        self._end_if_held_up(waiter)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run ``function`` on the watchdog thread, and return its result or raise its error.

        Raises as :meth:`check_call`.
        """
        self.check_call()
        waiter = Waiter()
        self.waiters.add(waiter)
        self.post(partial(_answer, waiter, function))
        self._end_if_held_up(waiter)
        return waiter.wait()

    def start(self) -> None:
        """Start the watchdog thread, unless it runs.

        Raises ThreadStartError, and as :meth:`check_call` and :meth:`Life.check`.
        """
        self.check_call()
        self.supervisor.life.check()
        self.watchdog.start()

    def new_queue(
        self,
        name: str,
        size: int | None = None,
        overflow: str | None = None,
        types: Types | None = None,
    ) -> MessageQueue:
        """Return a new queue, without any routes to it yet.

        ``size`` (messages) and ``overflow`` are the client's options by default.
        """
        self.has_types = self.has_types or types is not None
        options = self.options
        size, overflow = size or options.queue_size, overflow or options.overflow
        kind: Callable[..., MessageQueue] = partial(FifoQueue, overflow=overflow)
        if overflow == "conflate":
            kind = ConflatingQueue
        return kind(
            size,
            options.queue_bytes,
            name=name,
            locks=self.locks,
            wanted=self._routes,
            pacer=self.pacer,
            time_ns=self.clock.time_ns,
            types=types,
            report=self._refusals,
        )

    def _report_refused(self, channel: str, text: str, count: int) -> None:
        with self.lock:
            self.supervisor.intake.refused(channel, text, count, self.clock.monotonic())

    def add_queue(self, queue: MessageQueue) -> None:
        """Also deliver to ``queue``, by its routes."""
        with self.lock:
            self.router.add(queue)

    # The end.

    def close_soon(self) -> None:
        """Close without waiting and without a lock: safe in a finalizer or a signal handler."""
        self.watchdog.put(partial(self._close, self.options.close_timeout))

    def close(self, timeout: float) -> None:
        """Close, and wait for the threads to end, all within ``timeout`` seconds."""
        if self.is_forked:
            return  # this process has nothing to end
        if self.locks.is_held or is_worker_thread():
            self.close_soon()  # close() would wait for the code that this call has interrupted
            return
        deadline = Deadline(timeout)
        waiter = Waiter()
        self.post(partial(_answer, waiter, partial(self._close, timeout)))
        try:
            waiter.wait(Deadline(min(timeout, HELD_UP)))
        except TimeoutError:  # a hook of the dialect has not returned: end everything else
            self._is_held_up = True
            self._close(timeout)
            self.watchdog.settle_all()
            for blocked in self.waiters.all():
                self._end_if_held_up(blocked)
        for thread in self.watchdog.threads():
            self._join(thread, deadline)
        if self._is_held_up:
            self.watchdog.abort()
        if self.callbacks.thread is not threading.current_thread():
            self.callbacks.is_over = True
        self.end_events()  # else a watchdog that is held up would keep listeners waiting for ever
        flush(min(deadline.remaining(), FLUSH))

    def _end_if_held_up(self, waiter: Waiter) -> None:
        """End a blocked call if close() has stopped waiting for the watchdog."""
        if self._is_held_up:
            waiter.settle(ClientClosed("the client was closed"))

    def _join(self, thread: threading.Thread | None, deadline: Deadline) -> None:
        if thread is None or thread.ident is None or thread is threading.current_thread():
            return
        thread.join(min(deadline.remaining(), threading.TIMEOUT_MAX))
        if thread.is_alive():
            self.emit(ThreadStuck, thread.name)

    def _close(self, timeout: float) -> None:
        with self.lock:
            self.supervisor.close(self.clock.monotonic(), timeout)
        unread = sum(queue.close() for queue in self.router.queues)
        self.report_end()
        if unread:
            self.emit(UnreadDiscarded, unread)

    def report_end(self) -> None:
        """Call the functions of :attr:`at_end`."""
        for hook in tuple(self.at_end):
            hook()

    def end_events(self) -> None:
        """Emit the last event, unless it has been emitted."""
        supervisor = self.supervisor
        self.event_hub.end(supervisor.life.failure, supervisor.connection_id)

    def died(self, name: str, error: BaseException) -> None:
        """Fail the client, as its thread ``name`` has ended by ``error``."""
        self.post(partial(self.watchdog.fail, name, error))

    def forked(self) -> None:
        """Refuse every call that takes the lock, in a child process.

        Drop everything that could reach the parent's connection.
        """
        self.is_forked = True
        self.lock = _ForkedLock()
        self.event_hub.forked()
        self.watchdog.forked()
        # The old supervisor may be changed in part. Reads without the lock use the new one.
        self.supervisor = Supervisor(self.dialect, self.options, random.random)
        self.supervisor.fail(forked_error())

    def deliver(self, messages: Sequence[Message], size: int | None = None) -> None:
        """Deliver ``messages``, under the lock.

        ``size`` is the total size of their payloads (bytes), if it is known.
        """
        failure = self.router.deliver(messages, size)
        if failure is not None:
            self.supervisor.fail(failure)


def _try(waiter: Waiter, function: Callable[[], None]) -> None:
    try:
        function()
    except Exception as error:  # noqa: BLE001 - raised in the caller's thread
        waiter.settle(forget_locals(error))


def _answer(waiter: Waiter, function: Callable[[], Any]) -> None:
    try:
        result = function()
    except Exception as error:  # noqa: BLE001 - raised in the caller's thread
        waiter.settle(forget_locals(error))
    else:
        waiter.settle(None, result)
