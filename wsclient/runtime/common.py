"""What the parts of one client have in common: its lock, and what that protects."""

from __future__ import annotations

import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from wsclient.dialect.base import Dialect
from wsclient.errors import ClientClosed
from wsclient.events import UnreadDiscarded
from wsclient.messages import Message
from wsclient.options import Options
from wsclient.runtime.callbacks import Callbacks
from wsclient.runtime.conflating import ConflatingQueue
from wsclient.runtime.draining import Draining
from wsclient.runtime.eventhub import EventHub
from wsclient.runtime.eventlog import EventLog
from wsclient.runtime.fifo import FifoQueue
from wsclient.runtime.follower import Follower
from wsclient.runtime.judging import Judge
from wsclient.runtime.misfits import Misfits
from wsclient.runtime.pacing import Pacer
from wsclient.runtime.posts import Posts
from wsclient.runtime.queues import MessageQueue
from wsclient.runtime.router import Router, Routes
from wsclient.runtime.routes import RouteFinder
from wsclient.runtime.tap import RunningRecorder, Tap
from wsclient.sansio.supervisor import Supervisor
from wsclient.stream.channel import Batch
from wsclient.stream.declared import Types, types_of
from wsclient.threads.forking import forked_error
from wsclient.threads.locks import Locks
from wsclient.threads.logs import ClientLog
from wsclient.threads.waiting import Deadline, Waiter
from wsclient.threads.waitlist import WaitList
from wsclient.threads.weak import WeakGroup
from wsclient.tracebacks import forget_locals
from wsclient.transport.source import Sources

__all__ = ["Common", "answer"]


class Common(ABC):
    """The lock of one client, what it protects, and what else the client's threads share.

    The watchdog (``watchdog.py``), the readers' reports (``reception.py``) and the calls of callers
    (``calls.py``) hold it. ``core.py`` puts them together.
    """

    def __init__(
        self,
        sources: Sources,
        options: Options,
        dialect: Dialect,
        log: ClientLog,
        url: str | None = None,
    ) -> None:
        self.log = log
        #: The address without the query; empty if it is a function.
        self.address = "" if url is None else url.partition("?")[0]
        self.options = options
        self.dialect = dialect
        #: The clock of all decisions.
        self.clock = sources.clock
        self.locks = Locks()
        #: Protects the supervisor, the router and the tap.
        self.lock: AbstractContextManager[Any] = self.locks.new("the core")
        self.posts = Posts()
        self.post = self.posts.post
        self.wake = self.posts.wake
        self.event_hub = EventHub(
            self.locks,
            self.posts.put,
            EventLog(log),
            lambda: self.supervisor.connection_id,
            self.clock.time_ns,
        )
        self.emit = self.event_hub.emit
        #: Gets everything that is to be recorded; None while nothing is.
        self.tap: Tap | None = None
        #: The last recorder, which may have ended.
        self.recorder: RunningRecorder | None = None
        self.routes = RouteFinder(
            dialect, url, log.venue, sources.mask, has_credentials=options.credentials is not None
        )
        self.supervisor = Supervisor(
            dialect,
            options,
            random.random,
            sources.mask,
            self.event_hub.wants,
            self.routes.where,
            self.routes.connects,
            self.routes.rooms,
        )
        #: The router's routes. A queue never forgets a gap of these channels.
        self._routes: Routes = {}
        self.pacer = Pacer()
        #: The declared types of the client's own queue, its callbacks and most readers.
        self.types = types_of(options.decode)
        #: True once any queue has declared types.
        self.has_types = False
        self._misfits = Misfits(self.posts.put_now, self._report_misfits)
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
        self.at_end: list[Callable[[], object]] = []
        self.judge = Judge(options.classify, self.emit, self.post)
        make = partial(self.new_queue, "callbacks", types=self.types)
        self.callbacks = Callbacks(make, self.add_queue, self.emit, self.died)
        #: What is built on this core, such as its order books.
        self.follower = Follower()
        self.drain = Draining(
            lambda: self.router.queues,
            lambda: (self.callbacks.thread, *self.follower.threads()),
            self.drained,
        )
        #: The threads in the client's wait(). Woken when its state changes.
        self.awaiting_end = WaitList()
        #: The waiters of blocked calls. Settled directly if the watchdog dies.
        self.waiters: WeakGroup[Waiter] = WeakGroup()
        #: True once close() has stopped waiting for the watchdog.
        self.is_held_up = False
        self.is_forked = False

    # The calls of any thread.

    def check_call(self) -> None:
        """Raise ClientForked in a child process, ReentrantCall if this thread holds a lock."""
        if self.is_forked:
            raise forked_error()
        self.locks.check()

    def until(self, timeout: float | None) -> float:
        """Return when ``timeout`` (s) from now ends, by the clock of the supervisor's deadlines."""
        return float("inf") if timeout is None else self.clock.monotonic() + timeout

    def deadline(self, timeout: float | None) -> Deadline:
        """Return a deadline for a call that takes messages: by the clock of their times."""
        return Deadline(timeout)

    def ask(self, waiter: Waiter, function: Callable[[], None]) -> None:
        """Run ``function`` on the watchdog thread. It settles ``waiter`` later.

        If ``function`` raises, the waiter is settled with its error. Raises as :meth:`check_call`.
        """
        self.check_call()
        self.waiters.add(waiter)
        self.post(partial(_try, waiter, function))
        self.end_if_held_up(waiter)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run ``function`` on the watchdog thread, and return its result or raise its error.

        Raises as :meth:`check_call`.
        """
        self.check_call()
        waiter = Waiter()
        self.waiters.add(waiter)
        self.post(partial(answer, waiter, function))
        self.end_if_held_up(waiter)
        return waiter.wait()

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
            report=self._misfits,
        )

    def _report_misfits(self, channel: str, text: str, count: int) -> None:
        with self.lock:
            self.supervisor.intake.misfits(channel, text, count, self.clock.monotonic())

    def add_queue(self, queue: MessageQueue) -> None:
        """Also deliver to ``queue``, by its routes."""
        with self.lock:
            self.router.add(queue)

    # The end.

    def end_if_held_up(self, waiter: Waiter) -> None:
        """End a blocked call if close() has stopped waiting for the watchdog."""
        if self.is_held_up:
            waiter.settle(ClientClosed("the client was closed"))

    def report_end(self) -> None:
        """Call the functions of :attr:`at_end`."""
        for hook in tuple(self.at_end):
            hook()

    def end_events(self) -> None:
        """Emit the last event, unless it has been emitted."""
        supervisor = self.supervisor
        self.event_hub.end(supervisor.life.failure, supervisor.connection_id)

    def discard(self, queues: Iterable[MessageQueue]) -> None:
        """Close ``queues``, and emit an event if messages are in them."""
        unread = sum(queue.close() for queue in queues)
        if unread:
            self.emit(UnreadDiscarded, unread)

    def drained(self, left: Iterable[MessageQueue]) -> None:
        """End a drain: discard what is ``left``, and let the client be closed."""
        self.discard(left)
        with self.lock:
            self.supervisor.drained()

    @abstractmethod
    def died(self, name: str, error: BaseException) -> None:
        """Fail the client, as its thread ``name`` has ended by ``error``."""

    def deliver(
        self,
        messages: Sequence[Message],
        size: int | None = None,
        batch: Batch | None = None,
        begin: int = 0,
    ) -> None:
        """Deliver ``messages``, under the lock.

        ``size`` is the total size of their payloads (bytes), if it is known. With a ``batch``, they
        are those of its payloads from ``begin`` on, all ordinary.
        """
        # First: a queue may change the gap of a message, and its consumer may change everything.
        if self.tap is not None:
            if batch is None:
                self.tap.delivered(messages)
            else:
                self.tap.ordinary(messages, batch, begin)
        failure = self.router.deliver(messages, size)
        if failure is not None:
            self.supervisor.fail(failure)

    def deliver_released(self) -> None:
        """Deliver what overlaps have released since the last read. Call it with the lock."""
        if messages := self.supervisor.released():
            self.deliver(messages)


def _try(waiter: Waiter, function: Callable[[], None]) -> None:
    try:
        function()
    except Exception as error:  # noqa: BLE001 - raised in the caller's thread
        waiter.settle(forget_locals(error))


def answer(waiter: Waiter, function: Callable[[], Any]) -> None:
    """Call ``function``, and settle ``waiter`` with its result or its error."""
    try:
        result = function()
    except Exception as error:  # noqa: BLE001 - raised in the caller's thread
        waiter.settle(forget_locals(error))
    else:
        waiter.settle(None, result)
