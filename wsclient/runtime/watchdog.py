"""The thread that decides: it runs the session, and carries out what the session asks for.

It never blocks on I/O: it starts readers, puts frames into the outbox, shuts sockets down, and
waits on one queue, which any thread may wake at any time (``SimpleQueue.put`` is safe even in a
signal handler or a finalizer that interrupts its holder).
"""

from __future__ import annotations

import itertools
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

from wsclient.errors import NotConnected, WSClientError
from wsclient.messages import Gap, Message, SubscriptionState
from wsclient.runtime.callbacks import Callbacks
from wsclient.runtime.feeder import Feeder
from wsclient.runtime.forking import forked_error, watch
from wsclient.runtime.locks import Locks
from wsclient.runtime.logs import ClientLog
from wsclient.runtime.mailbox import Mailbox
from wsclient.runtime.snapshots import Snapshots
from wsclient.runtime.telling import EventStream, Teller
from wsclient.runtime.transport import Target, Transport, WorkerThread
from wsclient.runtime.waiting import Deadline, Waiter
from wsclient.sansio.actions import (
    Abort,
    Action,
    Cut,
    Deliver,
    Dial,
    Fail,
    Forget,
    Hangup,
    Log,
    Ping,
    Send,
    Settle,
    Tell,
)
from wsclient.sansio.backoff import Verdict, classify
from wsclient.sansio.dialect import Credentials, Dialect
from wsclient.sansio.frames import Received
from wsclient.sansio.inbound import Inbound
from wsclient.sansio.measures import Lags
from wsclient.sansio.session import (
    Entry,
    Invalid,
    Session,
    State,
)

__all__ = ["Watchdog"]

#: How soon (s) to try again when a peer does not take our bytes.
RETRY_WRITE = 0.01
#: How long (s) a queue must not drop any message for an episode to be over.
LOOK_FOR_DROPS = 1.0
#: A consumer that leaves no more than so many messages waiting keeps up with the feed.
KEEPS_UP = 256
#: The time (s) between two messages whose lag behind the venue is measured: each is a peek more.
SAMPLE_EVERY = 0.01


class Retired(NamedTuple):
    """What the queues of closed readers had counted: counters never go back. One more makes a new
    one, so that whoever holds this and the queues that there were counts each once."""

    dropped: int
    lags: Lags

    def and_of(self, mailbox: Mailbox) -> Retired:
        lags = Lags()
        lags.absorb(self.lags)
        lags.absorb(mailbox.lags)
        return Retired(self.dropped + mailbox.dropped, lags)


class Routed(NamedTuple):
    """How a channel stood when an order book's queue was added to its routes: whether it was
    wanted, whether its messages had begun to come on this connection, and the newest of them; and
    whether the queue has been given a copy of that."""

    is_wanted: bool
    is_begun: bool
    newest: Message | None
    is_given: bool


class _Refusal:
    """In the place of the lock, in a forked child."""

    def __enter__(self) -> None:
        raise forked_error()

    def __exit__(self, *_: object) -> None:
        pass


def _tells_time(dialect: Dialect) -> bool:
    return bool(dialect.timestamp_fields) or type(dialect).timestamp is not Dialect.timestamp


class Watchdog:
    """Owns the session, the transports and the queues. It knows nothing of the client object,
    so that a client which nobody holds any more can be collected, and closes this."""

    def __init__(self, target: Target, log: ClientLog) -> None:
        options = target.options
        self.log = log
        self.options = options
        self.dialect = target.dialect
        self._target = target
        self._inbound = Inbound(
            target.dialect,
            decimal=options.decimal,
            deliver_unhandled=options.deliver_unhandled,
            validate=options.validate,
        )
        #: Protects the session and the routes. Never held during I/O or a user's function. A
        #: mailbox's lock may be taken under it, never the other way round.
        self._lock: AbstractContextManager[Any] = threading.Lock()
        self._session = Session(target.dialect, options, random.random)
        self._routes: dict[str, tuple[Mailbox, ...]] = {}
        #: All that is routed goes to the default queue only.
        self._is_plain = True
        self._mailboxes: list[Mailbox] = []
        self.retired = Retired(0, Lags())
        #: Numbers for the queues of readers.
        self.reader_numbers = itertools.count(1)
        #: How many messages each had dropped when last looked at; those that conflate drop on
        #: purpose, and are not here.
        self._lossy: dict[Mailbox, int] = {}
        self.default = self.new_mailbox("client")
        self.callbacks = Callbacks(partial(self.new_mailbox, "callbacks"), log)
        self.locks = Locks()
        self.books = Feeder(partial(self.new_mailbox, "books"), log, self._books_died)
        self._teller = Teller()
        self._session.is_observed = lambda: self._teller.has_streams
        #: Called, without the lock, when the client has been closed or has failed.
        self.at_end: list[Callable[[], None]] = []
        #: Told by the reader of each step of an attempt (see :meth:`step`), and of each pong.
        self.on_step: Callable[[str, Any], None] | None = None
        self.snapshots = Snapshots(options, log, self._judge, self.locks)
        self.at_end.append(self.snapshots.close)
        #: News for the thread: a function to call, or None to just look again.
        self._news: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        #: Each transport whose thread has not ended. Changed by the watchdog thread only, but for
        #: the removal by a reader that ends, which is atomic.
        self._transports: dict[int, Transport] = {}
        self._thread: WorkerThread | None = None
        #: When a queue that drops is next looked at, and those found dropping the last time.
        self._look_at = 0.0
        self._dropping: set[Mailbox] = set()
        #: When the next message is to be measured. Of the reader thread.
        self._sample_at = float("-inf") if _tells_time(target.dialect) else float("inf")
        self.is_forked = False
        watch(self)

    # For callers: none of these blocks.

    @contextmanager
    def session(self) -> Iterator[Session]:
        """The session, under the lock; the thread is woken afterwards to act on what changed."""
        with self._lock:
            yield self._session
        self.wake()

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """To read the session, and no more: see :meth:`session`."""
        return self._lock

    def peek(self) -> Session:
        """The session, to read one attribute of it without the lock."""
        return self._session

    def wake(self) -> None:
        self._news.put(None)

    def connect(self, token: Waiter, deadline: float) -> None:
        with self._lock:
            self._session.connect(token, deadline, time.monotonic())
            self._start()
        self.wake()

    def _start(self) -> None:
        """Under the lock."""
        if self._thread is None:
            self._thread = WorkerThread("wsclient-watchdog", self._run)
            self._thread.start()

    def send(self, payload: str | bytes, waiter: Waiter) -> None:
        """Queue a caller's message. Raises NotConnected when the link is not open."""
        with self._lock:
            connection_id = self._session.require_open()
            self._session.sent(time.monotonic())
            # Under the lock: the thread, when it ends, looks once more for what was put before.
            self._news.put(partial(self._send, connection_id, payload, waiter))

    def ping(self) -> None:
        """Send a protocol ping now. Raises NotConnected when the link is not open."""
        with self._lock:
            connection_id = self._session.require_open()
        self._news.put(partial(self._perform, Ping(connection_id)))

    def request(
        self, make: Callable[[int], str | bytes], sent: Waiter, reply: Waiter, deadline: float
    ) -> int:
        """Queue a request; ``make`` is given its id. Returns the id."""
        with self._lock:
            connection_id = self._session.require_open()
            request_id = self._session.begin_request(reply, deadline, time.monotonic())
        try:
            payload = make(request_id)
        except BaseException:
            with self._lock:
                self._session.cancel_request(request_id)
            raise
        with self._lock:
            if self._session.state is State.OPEN:
                self._news.put(partial(self._send, connection_id, payload, sent))
            else:
                sent.settle(NotConnected("the link ended before the message went out"))
        return request_id

    def new_mailbox(
        self, name: str, size: int | None = None, overflow: str | None = None
    ) -> Mailbox:
        overflow = overflow or self.options.overflow
        size = size or self.options.queue_size
        mailbox = Mailbox(size, self.options.queue_bytes, overflow, name=name)
        with self._lock:
            self._mailboxes.append(mailbox)
            if overflow != "conflate":
                self._lossy[mailbox] = 0
            is_over = self._session.state in (State.CLOSING, State.CLOSED)
        if is_over:
            mailbox.close()  # _close() may have been through the others already
        return mailbox

    def subscribe(
        self,
        channels: Sequence[str],
        mailbox: Mailbox,
        options: Mapping[str, Any],
        waiter: Waiter,
        deadline: float,
    ) -> set[str]:
        """Want ``channels``, whose messages go to ``mailbox`` (too). Returns those that did not
        before. In one step, as the next two: nobody may want or leave a channel in the midst."""
        with self.session() as session:
            session.subscribe(channels, options, waiter, deadline)
            new = {c for c in channels if mailbox not in self._routes.get(c, ())}
            for channel in new:
                self._routes[channel] = (*self._routes.get(channel, ()), mailbox)
            self._look_at_routes()
        return new

    def unsubscribe(
        self, channels: Sequence[str], mailbox: Mailbox, waiter: Waiter, deadline: float
    ) -> None:
        """Leave ``channels``, but for those that another mailbox wants too. The routes stay, for
        what is still to come."""
        with self.session() as session:
            session.check()
            wanted = session.subscriptions.state
            mine = [
                c for c in channels if wanted(c) is not None and not self._is_shared(c, mailbox)
            ]
            if mine:
                session.unsubscribe(mine, waiter, deadline)
            else:
                waiter.settle()

    def abandon(self, channels: Sequence[str], mailbox: Mailbox) -> None:
        """The same without waiting for an answer, and the routes end at once."""
        with self.session() as session:
            mine = [c for c in channels if self._routes.get(c) == (mailbox,)]
            self._unroute(channels, mailbox)
            if mine and session.state not in (State.CLOSING, State.CLOSED, State.FAILED):
                session.unsubscribe(mine, Waiter(), float("inf"))

    def route_book(self, channel: str, mailbox: Mailbox, begin: Callable[[Routed], None]) -> None:
        """Have the messages of ``channel`` go to the books too. The newest one, which has come
        before, goes first: it may be the snapshot. ``begin`` is called, under the lock, before
        that."""
        with self._lock:
            session, routes = self._session, self._routes.get(channel, ())
            if mailbox not in routes:
                self._routes[channel] = (*routes, mailbox)
                self._look_at_routes()
            tracker, state = session.trackers.get(channel), session.subscriptions.state(channel)
            newest = None if tracker is None else tracker.latest
            pending = None if tracker is None else tracker.pending
            is_begun = (
                newest is not None
                and newest.connection_id == session.connection_id
                and session.state is State.OPEN
                and state in (SubscriptionState.ACTIVE, SubscriptionState.PENDING)
                and (pending is None or pending.reason != "reconnect")
            )
            is_given = is_begun and pending is None
            begin(Routed(state is not None, is_begun, newest, is_given))
            failure = mailbox.put([newest.copy()]) if newest is not None and is_given else None
            if failure is not None:
                session.fail(failure)

    def _books_died(self, error: BaseException) -> None:
        failure = WSClientError(f"internal error ({type(error).__name__}); see the log")
        failure.__cause__ = error
        with self.session() as session:
            session.fail(failure)

    def unroute(self, channels: Iterable[str], mailbox: Mailbox) -> None:
        """Messages of ``channels`` go to ``mailbox`` no more."""
        with self._lock:
            self._unroute(channels, mailbox)

    def unroute_unwanted(self, channels: Iterable[str], mailbox: Mailbox) -> None:
        """The same where the subscription has failed for everybody."""
        with self._lock:
            wanted = self._session.subscriptions.state
            self._unroute([c for c in channels if wanted(c) is None], mailbox)

    def _unroute(self, channels: Iterable[str], mailbox: Mailbox) -> None:
        for channel in channels:
            left = tuple(box for box in self._routes.pop(channel, ()) if box is not mailbox)
            if left:
                self._routes[channel] = left
        self._look_at_routes()

    def _look_at_routes(self) -> None:
        self._is_plain = all(boxes == (self.default,) for boxes in self._routes.values())

    def _is_shared(self, channel: str, mailbox: Mailbox) -> bool:
        return any(box is not mailbox for box in self._routes.get(channel, ()))

    def listen(self, stream: EventStream) -> None:
        """Tell ``stream`` of what happens, from now on. That is the thread's to do, which so is
        needed though nobody has called connect()."""
        with self._lock:
            self._start()
        self._teller.add(stream)

    def want_snapshot(self, channel: str, delay: float, unless: Callable[[], bool]) -> None:
        """An order book is out of sync: subscribe anew, in ``delay`` seconds unless it is in sync
        again by then, and as often as can be answered for.

        Not ``unless`` it has been given up, asked under the lock: :meth:`has_snapshot` follows."""
        with self._lock:
            if not unless() and self._session.subscriptions.state(channel) is not None:
                self._session.resyncs.want(channel, time.monotonic(), delay)
        self.wake()

    def has_snapshot(self, channel: str) -> None:
        """The reverse."""
        with self._lock:
            self._session.resyncs.done(channel)

    def active_on(self, channel: str) -> int | None:
        """The connection on which the channel is subscribed; None where it is not."""
        with self._lock:
            session = self._session
            if session.state is not State.OPEN:
                return None
            is_active = session.subscriptions.state(channel) is SubscriptionState.ACTIVE
            return session.connection_id if is_active else None

    def retire(self, mailbox: Mailbox) -> None:
        """A reader is closed; its queue is no longer to be told of anything."""
        mailbox.close()
        with self._lock:
            if mailbox in self._mailboxes:
                self._mailboxes.remove(mailbox)
                self._lossy.pop(mailbox, None)
                self.retired = self.retired.and_of(mailbox)

    @property
    def mailboxes(self) -> Sequence[Mailbox]:
        return tuple(self._mailboxes)

    def pending_gap(self, channel: str) -> Gap | None:
        """A hole not yet delivered. Called under the session's lock."""
        gap = self._session.pending_gap(channel)
        for mailbox in self._routes.get(channel, (self.default,)):
            queued = mailbox.pending_gap(channel)
            if queued is not None:
                gap = queued if gap is None else queued.merge(gap)
        return gap

    def _tell_of_the_end(self) -> None:
        for tell in tuple(self.at_end):
            tell()

    def close_soon(self) -> None:
        """Close, without waiting and without a lock: safe in a finalizer."""
        self._news.put(partial(self._close, self.options.close_timeout))

    def close(self, timeout: float) -> None:
        """Close, and wait for the threads to end, all within ``timeout`` seconds."""
        if self.is_forked:
            return  # there is nothing here to end
        deadline = Deadline(timeout)
        self._close(timeout)
        self.wake()
        current = threading.current_thread()
        transports = [t.thread for t in list(self._transports.values())]
        for thread in (
            self._thread,
            self.callbacks.thread,
            self.books.thread,
            self.snapshots.thread,
            *transports,
        ):
            if thread is None or thread is current:
                continue
            thread.join(min(deadline.remaining(), threading.TIMEOUT_MAX))
            if thread.is_alive():
                self.log(logging.WARNING, f"thread {thread.name} has not ended yet")
        if self.callbacks.thread is not current:
            self.callbacks.is_over = True
        self._end_events()  # whatever holds up the watchdog, who listens must not wait for ever

    def forked(self) -> None:
        """In a child process: every call that takes the lock is refused, and nothing is left that
        could reach the parent's link."""
        self.is_forked = True
        self._lock = _Refusal()
        self._teller.forked()
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            transport.forked()
        # The old one may be torn. This one is for those who peek.
        self._session = Session(self.dialect, self.options, random.random)
        self._session.fail(forked_error())

    def _close(self, timeout: float) -> None:
        with self._lock:
            self._session.close(time.monotonic(), timeout)
        unread = sum(mailbox.close() for mailbox in self.mailboxes)
        self._tell_of_the_end()
        if unread:
            self.log(logging.INFO, f"closed with {unread} messages unread")

    # From the readers.

    def step(self, name: str, about: Any) -> None:
        """An attempt has come to ``"rest"`` (a RestRequest), ``"target"`` (URL, headers and
        credentials), the steps of :func:`wsclient.runtime.handshake.open_socket`, ``"handshake"``
        (its HandshakeSocket) or ``"open"``."""
        tell = self.on_step
        if tell is not None:
            tell(name, about)

    def opened(self, connection_id: int, login: Any, credentials: Credentials | None) -> None:
        with self.session() as session:
            session.opened(connection_id, login, time.monotonic(), credentials)
        self.snapshots.opened()

    def received(self, connection_id: int, received: Received, now: float) -> None:
        inbound = self._inbound
        # Nothing here, nor in the caller, may hold the messages when the reader gives way: a
        # consumer decodes and drops them one by one, and must be the last to hold each.
        payloads, received.messages = received.messages, []
        size = sum(map(len, payloads))
        inbound.ahead = len(self.default) <= KEEPS_UP
        batch = inbound.batch(payloads, bool(received.binary), time.time_ns(), connection_id)
        with self._lock:
            session = self._session
            session.count(len(payloads), size, now)
            messages = session.ordinary(connection_id, batch, now)
            sample = self._sampled(messages, now) if now >= self._sample_at else None
            done = len(messages)
            if done == len(payloads):
                self._deliver(messages, size)
            elif done:
                self._deliver(messages)
            due = session.is_due
        if sample is not None:
            self._measure(sample)
        if done < len(payloads):
            del messages
            due = self._take_in(connection_id, inbound.entries(batch, done), now)
        if due:
            self.wake()

    def in_frame(self, now: float) -> None:
        """A read ended within a frame, as most do: see that the watchdog looks in time should
        the rest not come."""
        stall, planned = self.options.stall_timeout, self._session.planned
        if stall is not None and (planned is None or planned > now + stall):
            self.wake()

    def pace(self) -> None:
        self.default.pace()

    def unreadable(self, connection_id: int, text: str) -> None:
        with self._lock:
            self._session.count(1, 0, time.monotonic())
        if self._take_in(connection_id, [Invalid(text)], time.monotonic()):
            self.wake()

    def _take_in(self, connection_id: int, entries: list[Entry], now: float) -> bool:
        with self._lock:
            messages = self._session.received(connection_id, entries, now)
            sample = self._sampled(messages, now)
            if messages:
                self._deliver(messages)
            due = self._session.is_due
        if sample is not None:
            self._measure(sample)
        self.snapshots.confirmed()
        return due

    def _sampled(self, messages: list[Message], now: float) -> Message | None:
        """The first that a read brought, when it is time to measure one again."""
        if now < self._sample_at or not messages:
            return None
        self._sample_at = now + SAMPLE_EVERY
        return messages[0]

    def _measure(self, message: Message) -> None:
        """How long it took from the venue. Without the lock: the dialect may be the user's."""
        try:
            sent_at = self.dialect.timestamp(message)
        except Exception:  # noqa: BLE001 - it does not say, then
            return
        if sent_at is not None:
            with self._lock:
                self._session.venue_lags.record(message.channel, message.received_at - sent_at)

    def pinged(self, connection_id: int) -> None:
        with self._lock:
            self._session.control(connection_id, time.monotonic())

    def ponged(self, connection_id: int) -> None:
        self.step("pong", None)
        with self.session() as session:
            session.pong(connection_id)

    def ended(self, connection_id: int, error: BaseException) -> None:
        verdict = self._judge(error)
        with self.session() as session:
            session.ended(connection_id, error, verdict, time.monotonic())

    def finished(self, connection_id: int) -> None:
        self._transports.pop(connection_id, None)

    def _deliver(self, messages: list[Message], size: int | None = None) -> None:
        """``size`` is that of their payloads together, where it is known."""
        failure = None
        if self._is_plain:
            failure = self.default.put(messages, size)
            self._watch_drops(self.default)
        else:
            batches: dict[Mailbox, list[Message]] = {}
            for message in messages:
                boxes = self._routes.get(message.channel) or (self.default,)
                batches.setdefault(boxes[0], []).append(message)
                for box in boxes[1:]:
                    # A gap made in one queue is not a gap in another.
                    batches.setdefault(box, []).append(message.copy())
            for box, batch in batches.items():
                failure = box.put(batch) or failure
                self._watch_drops(box)
        if failure is not None:
            self._session.fail(failure)

    def _watch_drops(self, box: Mailbox) -> None:
        if box.dropped != self._lossy.get(box, box.dropped) and box not in self._dropping:
            self.wake()

    # The thread.

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:  # noqa: BLE001 - logged, and every caller is told
            self.log(logging.ERROR, "internal error; the client has failed", exc_info=True)
            failure = WSClientError(f"internal error ({type(error).__name__}); see the log")
            failure.__cause__ = error
            with self._lock:
                self._session.fail(failure)
                actions = self._session.actions()
            for action in actions:
                if isinstance(action, (Settle, Fail, Tell)):
                    self._perform(action)
        finally:
            self._end_events()
            for transport in list(self._transports.values()):
                transport.abort()
            with self._lock:
                pass  # whoever found the link open has put its news by now
            self._hear(0.0)

    def _end_events(self) -> None:
        session = self.peek()
        self._teller.end(session.failure, session.connection_id)

    def _loop(self) -> None:
        while True:
            now = time.monotonic()
            with self._lock:
                session = self._session
                transport = self._transports.get(session.connection_id)
                link = None if transport is None else transport.view()
                session.tick(now, link)
                actions = session.actions()
                deadline = session.next_deadline(now, link)
                closed = session.state is State.CLOSED
            for action in actions:
                self._perform(action)
            unsent = [t.flush() for t in list(self._transports.values())]
            if actions:
                continue
            if closed:
                return
            deadline = min(deadline, self._tell_of_drops(now))
            timeout = min(deadline - now, threading.TIMEOUT_MAX)
            if any(unsent):
                timeout = min(timeout, RETRY_WRITE)
            self._hear(max(0.0, timeout))

    def _tell_of_drops(self, now: float) -> float:
        """One warning an episode, in which a consumer is too slow for its queue. Returns when to
        look again."""
        with self._lock:
            found = {box for box, before in self._lossy.items() if box.dropped != before}
            if not found and not self._dropping:
                return float("inf")
            if now < self._look_at:
                return self._look_at
            self._lossy.update((box, box.dropped) for box in found)
            begun, self._dropping = found - self._dropping, found
            for box in begun:
                self._session.slow_consumer(box.name, box.dropped)
        self._look_at = now + LOOK_FOR_DROPS
        return now if begun else self._look_at

    def _hear(self, timeout: float) -> None:
        """Wait for news, or for the time; then take all the news there is."""
        try:
            news = self._news.get(timeout=timeout)
            while True:
                if news is not None:
                    news()
                news = self._news.get_nowait()
        except queue.Empty:
            pass

    def _perform(self, action: Action) -> None:
        if isinstance(action, Settle):
            action.token.settle(action.error, action.result)
        elif isinstance(action, Log):
            level = logging.getLevelName(action.level.upper())
            self.log(level, action.text, connection_id=action.connection_id, channel=action.channel)
        elif isinstance(action, Tell):
            self._teller.tell(action)
        elif isinstance(action, Dial):
            transport = Transport(action.connection_id, self._target, self)
            self._transports[action.connection_id] = transport
            transport.start()
        elif isinstance(action, Deliver):
            with self._lock:
                self._deliver([action.message])
        elif isinstance(action, Forget):
            with self._lock:
                if self._session.subscriptions.state(action.channel) is None:
                    self._routes.pop(action.channel, None)
                    self.retired.lags.forget(action.channel)
                    for mailbox in self._mailboxes:
                        mailbox.forget(action.channel)
                    self._look_at_routes()
        elif isinstance(action, Fail):
            for mailbox in self.mailboxes:
                mailbox.fail(action.error)
            self._tell_of_the_end()
        elif isinstance(action, Cut):
            self._cut(action)
        elif link := self._transports.get(action.connection_id):
            # Where there is none it has ended meanwhile, and said so.
            if isinstance(action, Send):
                link.send(action.payload)
            elif isinstance(action, Ping):
                link.ping()
            elif isinstance(action, Hangup):
                link.flush()
                link.release()
                link.hang_up()
            elif isinstance(action, Abort):
                link.abort()

    def _cut(self, cut: Cut) -> None:
        if link := self._transports.get(cut.connection_id):
            # Told why, since its reader may report the end before we do.
            link.abort(cut.error)
        verdict = self._judge(cut.error)
        with self._lock:
            self._session.ended(cut.connection_id, cut.error, verdict, time.monotonic())

    def _send(self, connection_id: int, payload: str | bytes, waiter: Waiter) -> None:
        transport = self._transports.get(connection_id)
        if transport is None:
            waiter.settle(NotConnected("the link ended before the message went out"))
            return
        try:
            transport.send(payload, waiter)
        except Exception as error:  # noqa: BLE001 - the caller's, and raised there
            waiter.settle(error)

    def _judge(self, error: BaseException) -> Verdict:
        """``classify`` may be the user's: it runs without a lock, and cannot break us."""
        try:
            return self.options.classify(error)
        except BaseException:  # noqa: BLE001 - SystemExit too: this thread must go on
            self.log(logging.ERROR, "classify raised; the built-in one decides", exc_info=True)
            return classify(error)
