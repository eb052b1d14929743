"""The core of a client: the supervisor under its lock, and the calls of callers and readers.

* To change something, a caller *posts* a function to the watchdog thread and waits for the answer.
  So an interrupt in the caller's thread leaves nothing half done.
* To read something, a caller takes the lock and copies.
* Readers report what they have received, under the lock.

The core does not refer to the client object. So a client that nothing holds is collected, and its
finalizer closes the core.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

from wsclient.errors import ClientClosed, SubscriptionError, SubscriptionRejected
from wsclient.events import Event, ThreadStuck, UnreadDiscarded
from wsclient.messages import Gap, Message, Subscription, SubscriptionState
from wsclient.options import Options
from wsclient.runtime.callbacks import Callbacks
from wsclient.runtime.conflating import ConflatingQueue
from wsclient.runtime.eventhub import EventHub
from wsclient.runtime.eventlog import EventLog
from wsclient.runtime.eventstream import EventStream
from wsclient.runtime.feeder import Feeder
from wsclient.runtime.fifo import FifoQueue
from wsclient.runtime.forking import forked_error, watch
from wsclient.runtime.judging import Judge
from wsclient.runtime.keeper import LATE
from wsclient.runtime.locks import Locks
from wsclient.runtime.logs import FLUSH, ClientLog, flush
from wsclient.runtime.pacing import Pacer
from wsclient.runtime.queues import MessageQueue
from wsclient.runtime.router import Router, Routes
from wsclient.runtime.snapshots import Snapshots
from wsclient.runtime.source import Sources
from wsclient.runtime.threads import is_worker_thread
from wsclient.runtime.waiting import Deadline, Waiter
from wsclient.runtime.watchdog import Watchdog
from wsclient.runtime.weak import WeakGroup
from wsclient.sansio.dialect import Credentials, Dialect
from wsclient.sansio.frames import Frames
from wsclient.sansio.inbound import Inbound
from wsclient.sansio.incoming import Incoming, Invalid
from wsclient.sansio.life import State
from wsclient.sansio.supervisor import Supervisor
from wsclient.tracebacks import forget_locals

__all__ = ["Core"]

#: The time (s) between two messages whose venue lag is measured: each one must be partly decoded.
SAMPLE_EVERY = 0.01
#: How long (s) close() waits for a watchdog that is held up before it does the work itself.
HELD_UP = 0.25

ENDED = frozenset({State.CLOSING, State.CLOSED, State.FAILED})


class Routed(NamedTuple):
    """The state of a channel when an order book's queue was added to its routes.

    ``is_wanted``: the channel was subscribed to. ``is_begun``: messages had come on this
    connection. ``newest``: the last message of the channel. ``is_given``: the queue got a copy of
    that message.
    """

    is_wanted: bool
    is_begun: bool
    newest: Message | None
    is_given: bool


class _ForkedLock:
    """A replacement for the lock in a forked child: entering it raises ClientForked."""

    def __enter__(self) -> None:
        raise forked_error()

    def __exit__(self, *_: object) -> None:
        pass


class _PostedCall:
    """A caller's waiter, with a function that is called with the error just before it settles."""

    def __init__(self, waiter: Waiter, done: Callable[[BaseException | None], None]) -> None:
        self._waiter = waiter
        self._done = done

    def settle(self, error: BaseException | None = None, result: Any = None) -> None:
        self._done(error)
        self._waiter.settle(error, result)


def _failed(error: BaseException | None, channels: Sequence[str]) -> Collection[str]:
    """Return those of a call's ``channels`` that its ``error`` is about."""
    if error is None:
        return ()
    return error.failed if isinstance(error, SubscriptionError) else channels


def _has_times(dialect: Dialect) -> bool:
    return bool(dialect.timestamp_fields) or type(dialect).timestamp is not Dialect.timestamp


class Core:
    """Owns the supervisor, the queues and the threads of one client."""

    def __init__(
        self, sources: Sources, options: Options, dialect: Dialect, log: ClientLog
    ) -> None:
        self.log = log
        self.options = options
        self.dialect = dialect
        #: The only clock: no time in the core comes from another.
        self.clock = sources.clock
        self.locks = Locks()
        self._inbound = Inbound(
            dialect,
            decimal=options.decimal,
            deliver_unhandled=options.deliver_unhandled,
            validate=options.validate,
        )
        #: Protects the supervisor and the router.
        self.lock: AbstractContextManager[Any] = self.locks.new("the core")
        self._watchdog = Watchdog(self, sources)
        self.event_hub = EventHub(
            self.locks,
            self._watchdog.put,
            EventLog(log),
            lambda: self._supervisor.connection_id,
        )
        self.emit = self.event_hub.emit
        self._supervisor = Supervisor(
            dialect, options, random.random, sources.mask, self.event_hub.wants
        )
        #: The router's routes. A queue never forgets a gap of these channels.
        self._routes: Routes = {}
        self._pacer = Pacer()
        self.default = self.new_queue("client")
        self.router = Router(
            self.default,
            self._routes,
            lambda channel: channel in self._supervisor.wanted,
            lambda: self._supervisor.connection_id,
        )
        #: Numbers for the queues of readers.
        self.reader_numbers = itertools.count(1)
        self.mask = sources.mask
        #: Functions called, without the lock, when the client has been closed or has failed.
        self.at_end: list[Callable[[], None]] = []
        self.post = self._watchdog.post
        self.wake = self._watchdog.wake
        #: Posts a function by one call that is written in C.
        self.undo = self._watchdog.put_now
        self.judge = Judge(options.classify, self.emit, self.post)
        make = partial(self.new_queue, "callbacks")
        self.callbacks = Callbacks(make, self._add_queue, self.emit, self.died)
        make = partial(self.new_queue, "books")
        self.books = Feeder(make, self._add_queue, self.died)
        self.snapshots = Snapshots(
            options, self.emit, self.judge.now, self.clock, self.locks, sources.mask
        )
        self.at_end.append(self.snapshots.close)
        #: By connection: when the data that its reader is processing was read (monotonic s).
        self._taking_in: dict[int, float] = {}
        #: When the next message is measured (monotonic s). Used by the reader thread only.
        self._sample_at = float("-inf") if _has_times(dialect) else float("inf")
        #: The waiters of blocked calls. Settled directly if the watchdog dies.
        self.waiters: WeakGroup[Waiter] = WeakGroup()
        #: True once close() has stopped waiting for the watchdog.
        self._is_held_up = False
        self.is_forked = False
        watch(self)

    def peek(self) -> Supervisor:
        """Return the supervisor, to read one of its attributes without the lock."""
        return self._supervisor

    # For callers.

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

        If ``function`` raises, the waiter is settled with its error.
        """
        self.check_call()
        self.waiters.add(waiter)
        self.post(partial(_try, waiter, function))
        self._give_up(waiter)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run ``function`` on the watchdog thread, and return its result or raise its error."""
        self.check_call()
        waiter = Waiter()
        self.waiters.add(waiter)
        self.post(partial(_answer, waiter, function))
        self._give_up(waiter)
        return waiter.wait()

    def start(self) -> None:
        """Start the watchdog thread, unless it runs. Raises ThreadStartError."""
        self.check_call()
        self._supervisor.life.check()
        self._watchdog.start()

    def connect(self, waiter: Waiter, deadline: float) -> None:
        """Open the connection; ``waiter`` is settled when it is open or cannot be opened."""

        def connect() -> None:
            with self.lock:
                self._supervisor.connect(waiter, deadline, self.clock.monotonic())

        self.start()
        self.ask(waiter, connect)

    def cancel_connect(self, waiter: Waiter) -> None:
        """Cancel :meth:`connect`, as its caller has stopped waiting."""

        def cancel() -> None:
            with self.lock:
                self._supervisor.cancel_connect(waiter)

        self.post(cancel)

    def send(self, payload: str | bytes, waiter: Waiter) -> None:
        """Send a caller's message. ``waiter`` is settled with NotConnected if not connected."""

        def send() -> None:
            with self.lock:
                connection = self._supervisor.open_connection()
                connection.spend(self.clock.monotonic())
            self._watchdog.send(connection.id, payload, waiter)

        self.ask(waiter, send)

    def ping(self) -> None:
        """Send a WebSocket ping now. Raises NotConnected when the connection is not open."""

        def ping() -> None:
            with self.lock:
                connection = self._supervisor.open_connection()
            self._watchdog.ping(connection.id)

        self.call(ping)

    def request(
        self, make: Callable[[int], str | bytes], sent: Waiter, reply: Waiter, deadline: float
    ) -> int:
        """Send the request that ``make`` returns for a new request id. Return the id.

        ``sent`` is settled when its bytes are sent, or with an error if they cannot be. ``reply``
        is settled with the venue's answer. Raises NotConnected when the connection is not open.
        """
        self.check_call()
        self._supervisor.open_connection()
        request_id = self._supervisor.next_id()
        payload = make(request_id)

        def request() -> None:
            with self.lock:
                connection = self._supervisor.open_connection()
                connection.replies.begin(request_id, reply, deadline)
                connection.spend(self.clock.monotonic())
            self._watchdog.send(connection.id, payload, sent)

        self.ask(sent, request)
        return request_id

    def cancel_request(self, request_id: int) -> None:
        """Cancel :meth:`request`, as its caller has stopped waiting."""

        def cancel() -> None:
            with self.lock:
                for connection in self._supervisor.connections:
                    connection.replies.cancel(request_id)

        self.post(cancel)

    # Channels.

    def new_queue(
        self, name: str, size: int | None = None, overflow: str | None = None
    ) -> MessageQueue:
        """Return a new queue, without any routes to it yet."""
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
            pacer=self._pacer,
        )

    def _add_queue(self, queue: MessageQueue) -> None:
        with self.lock:
            self.router.add(queue)

    def subscribe(
        self,
        channels: Sequence[str],
        queue: MessageQueue,
        options: Mapping[str, Any],
        waiter: Waiter,
        deadline: float,
    ) -> None:
        """Subscribe to ``channels``, and add ``queue`` to their routes."""
        self.ask(waiter, partial(self._subscribe, channels, queue, options, waiter, deadline))

    def _subscribe(
        self,
        channels: Sequence[str],
        queue: MessageQueue,
        options: Mapping[str, Any],
        waiter: Waiter,
        deadline: float,
    ) -> None:
        def done(error: BaseException | None) -> None:
            failed = _failed(error, channels)
            is_refused = isinstance(error, SubscriptionRejected)
            with self.lock:
                self.router.settle(waiter, channels, queue, failed, is_refused=is_refused)

        with self.lock:
            self._supervisor.subscribe(channels, options, _PostedCall(waiter, done), deadline)
            self.router.ask(channels, queue, waiter)

    def unsubscribe(
        self, channels: Sequence[str], queue: MessageQueue, waiter: Waiter, deadline: float
    ) -> None:
        """Unsubscribe from ``channels``, except those that another queue also gets.

        The routes stay until the venue has answered, since messages may still come.
        """

        resigned: list[str] = []

        def done(error: BaseException | None) -> None:
            ended = set(channels).difference(_failed(error, channels))
            with self.lock:
                self.router.settle(waiter, resigned, queue, ended)

        def unsubscribe() -> None:
            with self.lock:
                self._supervisor.life.check()
                resigned.extend(self.router.resign(channels, queue, waiter))
                mine = [c for c in channels if self._is_sole(c, queue)]
                if mine:
                    self._supervisor.unsubscribe(mine, _PostedCall(waiter, done), deadline)
            if not mine:
                done(None)
                waiter.settle()

        self.ask(waiter, unsubscribe)

    def drop(
        self,
        channels: Sequence[str],
        queue: MessageQueue,
        waiter: Waiter | None = None,
        deadline: float = float("inf"),
    ) -> None:
        """Close a reader's queue, and unsubscribe from the channels that no other queue gets.

        Takes no lock, so it may be called anywhere.
        """
        drop = self.dropping(channels, queue, waiter, deadline)
        if waiter is None:
            self._watchdog.put(drop)
        else:
            self.ask(waiter, drop)

    def dropping(
        self,
        channels: Sequence[str],
        queue: MessageQueue,
        waiter: Waiter | None = None,
        deadline: float = float("inf"),
    ) -> Callable[[], None]:
        """Return the function that :meth:`drop` posts."""

        def drop() -> None:
            queue.close()
            self.leave(channels, queue, waiter or Waiter(), deadline)
            with self.lock:
                self.router.retire(queue)

        return drop

    def leave(
        self,
        channels: Sequence[str],
        queue: MessageQueue,
        waiter: Waiter,
        deadline: float = float("inf"),
    ) -> None:
        """Remove the routes of ``channels`` to ``queue`` now.

        Unsubscribe from the channels that no other queue gets. Runs on the watchdog thread.
        """
        with self.lock:
            mine = [c for c in channels if self._is_sole(c, queue)]
            self.router.unroute(channels, queue)
            if self._supervisor.state in ENDED:
                mine = []
            if mine:
                self._supervisor.unsubscribe(mine, waiter, deadline)
        if not mine:
            waiter.settle()

    def _is_sole(self, channel: str, queue: MessageQueue) -> bool:
        """Return whether the channel is wanted and no other queue gets its messages."""
        is_wanted = channel in self._supervisor.wanted
        return is_wanted and not self.router.has_others(channel, queue)

    def on(
        self,
        channel: str,
        function: Callable[[Message], object],
        options: Mapping[str, Any],
        waiter: Waiter,
        deadline: float,
        added: list[None],
    ) -> None:
        """Subscribe to ``channel``, and call ``function`` with its messages.

        ``added`` has one element while :meth:`off` has something to undo.
        """

        def on() -> None:
            with self.lock:
                self._supervisor.life.check_begun()
            queue = self.callbacks.add(channel, function)
            added.append(None)
            self._subscribe((channel,), queue, options, waiter, deadline)

        self.ask(waiter, on)

    def off(self, channel: str, function: Callable[[Message], object], added: list[None]) -> None:
        """Undo :meth:`on`, if it has taken effect. Takes no lock, so it may be called anywhere."""

        def off() -> None:
            if not added:
                return  # another call may have added the same function
            added.clear()
            queue = self.callbacks.remove(channel, function)
            if queue is not None:
                self.leave((channel,), queue, Waiter())

        self._watchdog.put(off)

    def listen(self, stream: EventStream) -> None:
        """Put events into ``stream`` from now on."""
        self._listen(lambda: self.event_hub.add(stream))

    def on_event(self, function: Callable[[Event], object], types: tuple[type[Event], ...]) -> None:
        """Call ``function``, on the callbacks thread, with events of these types from now on."""

        def listen() -> None:
            with self.lock:
                self._supervisor.life.check()
            self.callbacks.listen(function, types)
            self.event_hub.add(self.callbacks.events)

        self._listen(listen)

    def _listen(self, listen: Callable[[], None]) -> None:
        if self._supervisor.state not in ENDED:
            self.start()
        self.call(listen)

    def subscriptions(self, channels: Sequence[str] | None = None) -> dict[str, Subscription]:
        """Return the subscriptions by channel: all, or only those of ``channels``."""
        self.check_call()
        with self.lock:
            wanted = self._supervisor.wanted
            return {
                entry.channel: Subscription(
                    entry.channel, entry.state, entry.options, self._pending_gap(entry.channel)
                )
                for entry in (wanted if channels is None else wanted.among(channels))
            }

    def _pending_gap(self, name: str) -> Gap | None:
        channel = self._supervisor.upkeep.channels.get(name)
        return self.router.pending_gap(name, None if channel is None else channel.pending)

    # For order books.

    def route_book(
        self, channel: str, queue: MessageQueue, begin: Callable[[Routed], None]
    ) -> None:
        """Also route the messages of ``channel`` to ``queue``, the queue of the books.

        The newest message that has already come is put into the queue first, since it may be the
        snapshot. ``begin`` is called before that, under the lock.
        """
        with self.lock:
            supervisor = self._supervisor
            self.router.route([channel], queue)
            entry, known = supervisor.wanted.get(channel), supervisor.upkeep.channels.get(channel)
            newest = None if known is None else known.latest
            pending = None if known is None else known.pending
            is_begun = (
                newest is not None
                and self._is_open(newest.connection_id)
                and entry is not None
                and entry.state is not SubscriptionState.UNSUBSCRIBING
                and (pending is None or pending.reason != "reconnect")
            )
            is_given = is_begun and pending is None
            begin(Routed(entry is not None, is_begun, newest, is_given))
            failure = queue.put([newest.copy()]) if newest is not None and is_given else None
            if failure is not None:
                supervisor.fail(failure)

    def _is_open(self, connection_id: int) -> bool:
        connection = self._supervisor.connection(connection_id)
        return connection is not None and connection.has_opened

    def want_snapshot(self, channel: str, delay: float, unless: Callable[[], bool]) -> None:
        """Resubscribe, in ``delay`` seconds, to the channel of an order book that is out of sync.

        :meth:`has_snapshot` cancels this. Until then it is repeated, within a rate limit.
        Does nothing if ``unless()``, called under the lock, is true: the book has been given up,
        and :meth:`has_snapshot` follows.
        """
        with self.lock:
            if not unless() and channel in self._supervisor.wanted:
                self._supervisor.upkeep.refreshes.want(channel, self.clock.monotonic(), delay)
        self.wake()

    def has_snapshot(self, channel: str) -> None:
        """Cancel :meth:`want_snapshot`."""
        with self.lock:
            self._supervisor.upkeep.refreshes.done(channel)

    def active_on(self, channel: str) -> int | None:
        """Return the id of the open connection if the channel is subscribed on it, else None."""
        with self.lock:
            connection = self._supervisor.carrier(channel)
            is_active = self._supervisor.wanted.is_active(channel)
            return connection.id if connection is not None and is_active else None

    def active_as(self, channel: str) -> int | None:
        """Return the id of the subscribe that made the channel active; None if it is not active.

        Takes no lock.
        """
        if not self._supervisor.wanted.is_active(channel):
            return None
        connection = self._supervisor.carrier(channel)
        return None if connection is None else connection.asked.subscribed_by(channel)

    # The end.

    def close_soon(self) -> None:
        """Close without waiting and without a lock: safe in a finalizer or a signal handler."""
        self._watchdog.put(partial(self._close, self.options.close_timeout))

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
            self._watchdog.settle_all()
            for blocked in self.waiters.all():
                self._give_up(blocked)
        for thread in self._watchdog.threads():
            self._join(thread, deadline)
        if self._is_held_up:
            self._watchdog.abort()
        if self.callbacks.thread is not threading.current_thread():
            self.callbacks.is_over = True
        self.end_events()  # else a watchdog that is held up would keep listeners waiting for ever
        flush(min(deadline.remaining(), FLUSH))

    def _give_up(self, waiter: Waiter) -> None:
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
            self._supervisor.close(self.clock.monotonic(), timeout)
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
        supervisor = self._supervisor
        self.event_hub.end(supervisor.life.failure, supervisor.connection_id)

    def died(self, name: str, error: BaseException) -> None:
        """Fail the client, as its thread ``name`` has ended by ``error``."""
        self.post(partial(self._watchdog.fail, name, error))

    def forked(self) -> None:
        """Refuse every call that takes the lock, in a child process.

        Drop everything that could reach the parent's connection.
        """
        self.is_forked = True
        self.lock = _ForkedLock()
        self.locks = Locks()  # threads that do not exist here may hold the old ones
        self.event_hub.forked()
        self._watchdog.forked()
        # The old supervisor may be changed in part. The new one serves peek().
        self._supervisor = Supervisor(self.dialect, self.options, random.random)
        self._supervisor.fail(forked_error())

    def held_up_for(self, connection_id: int) -> float:
        """Return how long (s) data read from a connection has been waiting for its delivery.

        A slow ``validate``, or a slow hook of the dialect, may hold it up.
        """
        since = self._taking_in.get(connection_id)
        return 0.0 if since is None else self.clock.monotonic() - since

    # From the readers.

    def opened(
        self, connection_id: int, login: Any, credentials: Credentials | None, address: str
    ) -> None:
        """Report that a connection is open."""
        with self.lock:
            self._supervisor.opened(
                connection_id, login, self.clock.monotonic(), credentials, address
            )
            self.router.connected(connection_id)
        self.wake()
        self.snapshots.opened()

    def received(self, frames: Frames) -> None:
        """Decode and deliver what one read brought."""
        connection_id, now = frames.connection_id, frames.read_at
        self._taking_in[connection_id] = now
        try:
            self._received(connection_id, frames, now)
        finally:
            del self._taking_in[connection_id]
        if self.clock.monotonic() - now > LATE:
            self.books.wake()  # the books were doubtful until now

    def _received(self, connection_id: int, frames: Frames, now: float) -> None:
        inbound = self._inbound
        # Neither this frame nor the caller's may hold the messages when the reader gives way: a
        # consumer decodes and drops them one by one, and must hold the last reference to each.
        payloads, frames.messages = frames.messages, []
        size = sum(map(len, payloads))
        inbound.ahead = self.router.keeps_up
        batch = inbound.batch(payloads, bool(frames.binary), frames.received_at, connection_id)
        with self.lock:
            supervisor = self._supervisor
            intake, connection = supervisor.intake, supervisor.connection(connection_id)
            intake.count(connection, len(payloads), size, now)
            messages = [] if connection is None else intake.ordinary(connection, batch, now)
            sample = self._sampled(messages, now) if now >= self._sample_at else None
            done = len(messages)
            if done == len(payloads):
                self.deliver(messages, size)
            elif done:
                self.deliver(messages)
            due = supervisor.is_due or self.router.has_changed
        if sample is not None:
            self._measure(sample)
        if done < len(payloads):
            del messages
            due = self._take_in(connection_id, inbound.entries(batch, done), now)
        if due:
            self.wake()

    def in_frame(self, now: float) -> None:
        """Make the watchdog check in time whether the rest of a frame has come.

        Called when a read ends within a frame, as most do.
        """
        stall, planned = self.options.stall_timeout, self._supervisor.planned
        if stall is not None and planned > now + stall:
            self.wake()

    def pace(self) -> None:
        self._pacer.wait()

    def unreadable(self, connection_id: int, text: str) -> None:
        """Report a frame that could not be read."""
        with self.lock:
            connection = self._supervisor.connection(connection_id)
            self._supervisor.intake.count(connection, 1, 0, self.clock.monotonic())
        if self._take_in(connection_id, [Invalid(text)], self.clock.monotonic()):
            self.wake()

    def _take_in(self, connection_id: int, entries: list[Incoming], now: float) -> bool:
        with self.lock:
            connection = self._supervisor.connection(connection_id)
            if connection is None:
                return False
            messages = self._supervisor.intake.received(connection, entries, now)
            sample = self._sampled(messages, now)
            if messages:
                self.deliver(messages)
            due = self._supervisor.is_due or self.router.has_changed
        if sample is not None:
            self._measure(sample)
        self.snapshots.confirmed()
        return due

    def _sampled(self, messages: list[Message], now: float) -> Message | None:
        """Return the first message of a read when the next measurement is due, else None."""
        if now < self._sample_at or not messages:
            return None
        self._sample_at = now + SAMPLE_EVERY
        return messages[0]

    def _measure(self, message: Message) -> None:
        """Record the venue lag of ``message``. Calls the dialect without the lock."""
        try:
            sent_at = self.dialect.timestamp(message)
        except BaseException:  # noqa: BLE001 - also SystemExit; the message is not measured then
            return
        if sent_at is not None:
            with self.lock:
                channel, supervisor = message.channel, self._supervisor
                is_wanted = channel in supervisor.wanted
                ago = message.received_at - sent_at
                supervisor.upkeep.venue_lags.record(channel, ago, is_wanted=is_wanted)

    def deliver(self, messages: Sequence[Message], size: int | None = None) -> None:
        """Deliver ``messages``, under the lock.

        ``size`` is the total size of their payloads (bytes), if it is known.
        """
        failure = self.router.deliver(messages, size)
        if failure is not None:
            self._supervisor.fail(failure)

    def pinged(self, connection_id: int) -> None:
        with self.lock:
            connection = self._supervisor.connection(connection_id)
            if connection is not None:
                connection.frame_received(self.clock.monotonic())

    def ponged(self, connection_id: int) -> None:
        with self.lock:
            connection = self._supervisor.connection(connection_id)
            if connection is not None:
                connection.pong_received()
        self.wake()

    def ended(self, connection_id: int, error: BaseException) -> None:
        """Report that a connection has ended, or an attempt has failed, by ``error``."""
        self.post(partial(self._watchdog.ended, connection_id, error))

    def finished(self, connection_id: int) -> None:
        """Report that the thread of a connection has ended."""
        self._watchdog.transports.pop(connection_id, None)


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
