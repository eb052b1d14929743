"""The thread that runs the functions posted by callers and performs the supervisor's actions.

It never blocks on I/O: it starts readers, puts frames into the outbox, shuts sockets down, and
waits for posts, which any thread may make at any time.
"""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from itertools import islice

from wsclient.errors import ConnectionLost, NotConnected, ThreadStartError, WSClientError
from wsclient.events import Disconnected, Resubscribing, SlowConsumer, StateChanged, ThreadDied
from wsclient.runtime.common import Common
from wsclient.sansio.actions import (
    Abort,
    Action,
    Consult,
    Cut,
    Deliver,
    Dial,
    Fail,
    Forget,
    Hangup,
    Notify,
    Ping,
    Renew,
    Send,
    Settle,
)
from wsclient.sansio.life import Phase
from wsclient.text import text_of
from wsclient.threads.waiting import Waiter
from wsclient.threads.workers import WorkerThread, launch
from wsclient.tracebacks import forget_locals
from wsclient.transport.source import FrameReceiver, Source, Sources
from wsclient.verdicts import Verdict

__all__ = ["Watchdog"]

#: The delay (s) before another write when a peer does not take our bytes.
RETRY_WRITE = 0.01
#: The most actions performed, and the most posts run, between two ticks.
AT_ONCE = 256


class Watchdog:
    """The watchdog thread of one client."""

    def __init__(self, core: Common, sources: Sources) -> None:
        self._core = core
        self._sources = sources
        self._clock = sources.clock
        self._posts = core.posts
        #: Takes the reports of the sources. Set before the first connection.
        self.receiver: FrameReceiver
        #: The supervisor's actions that are still to be performed, in order.
        self.todo: deque[Action] = deque()
        #: Each source whose thread has not ended, by connection. Changed by the watchdog thread
        #: only, except that a reader removes its own when it ends, which is atomic.
        self.transports: dict[int, Source] = {}
        #: The thread, under the key None. The first ``setdefault`` decides, by the starter or by
        #: the thread itself, so that an interrupted start leaves either no thread or one.
        self._threads: dict[None, WorkerThread] = {}
        #: The connections whose end was reported and has no verdict yet. An end may be reported
        #: twice: by the connection's reader and by this thread.
        self._ended: set[int] = set()

    # For any thread.

    def start(self) -> None:
        """Start the thread, unless there is one. Raises ThreadStartError."""
        if None in self._threads:
            return
        thread = WorkerThread("wsclient-watchdog", self._run)
        launch(thread)
        self._threads.setdefault(None, thread)
        self._posts.has_begun = True

    def threads(self) -> list[threading.Thread | None]:
        """Return all threads of the client, for close() to join."""
        core = self._core
        readers = [transport.thread for transport in list(self.transports.values())]
        lazy = [
            core.callbacks.thread,
            core.judge.thread,
            *core.follower.threads(),
        ]
        return [self._threads.get(None), *lazy, *readers]

    def forked(self) -> None:
        """Close the copies of the parent's sockets in a child process."""
        transports, self.transports = self.transports, {}
        for transport in transports.values():
            transport.forked()

    # The thread.

    def _run(self) -> None:
        current = threading.current_thread()
        if self._threads.setdefault(None, current) is not current:  # type: ignore[arg-type]
            return  # two starts at the same time: the other thread was first
        self._posts.has_begun = True
        death: BaseException | None = None
        try:
            self._loop()
        except BaseException as error:  # noqa: BLE001 - raised by every call, and logged
            death = error
            self._fail("wsclient-watchdog", error)
        finally:
            self._core.end_events()
            self.abort()
            self._posts.is_over = True
            self._posts.drain()
        if death is not None:
            self._report_death("wsclient-watchdog", death)  # last: logging delays no caller

    def _loop(self) -> None:
        core = self._core
        while True:
            now = self._clock.monotonic()
            core.judge.expire(now)
            # Without the lock: view() queries the socket. No view of a connection that has ended
            # while the verdict on its error is pending.
            views = {
                transport.connection_id: transport.view()
                for transport in list(self.transports.values())
                if transport.connection_id not in self._ended
            }
            with core.lock:
                supervisor = core.supervisor
                supervisor.tick(now, views)
                core.deliver_released()
                self.todo.extend(supervisor.actions())
                deadline = supervisor.next_deadline(now, views)
                is_closed = supervisor.life.phase is Phase.CLOSED
            is_busy = bool(self.todo)
            for action in islice(iter(self._next, None), AT_ONCE):
                self.perform(action)
            unsent = [t.flush() for t in list(self.transports.values())]
            if is_busy:
                self._posts.run(0.0, AT_ONCE)
                continue
            if is_closed:
                return
            with core.lock:
                drops = core.router.look(now, partial(supervisor.output.notify, SlowConsumer))
            deadline = min(deadline, drops, core.judge.deadline, core.drain.look(now))
            timeout = min(deadline - now, threading.TIMEOUT_MAX)
            if any(unsent):
                timeout = min(timeout, RETRY_WRITE)
            self._posts.run(max(0.0, timeout), AT_ONCE)

    def _next(self) -> Action | None:
        """Take and return the next action, or None.

        close() takes actions too when the thread is held up.
        """
        try:
            return self.todo.popleft()
        except IndexError:
            return None

    def perform(self, action: Action) -> None:
        """Perform one action of the supervisor, without the lock."""
        core = self._core
        if isinstance(action, Settle):
            action.token.settle(action.error, action.result)
        elif isinstance(action, Notify):
            core.event_hub.notify(action)
            if action.kind is Resubscribing:
                core.follower.opened()
            elif action.kind is Disconnected:
                core.follower.disconnected()
            elif action.kind is StateChanged:
                core.awaiting_end.wake_all()
        elif isinstance(action, Consult):
            self._consult(action)
        elif isinstance(action, Dial):
            self._dial(action)
        elif isinstance(action, Deliver):
            with core.lock:
                core.deliver([action.message])
        elif isinstance(action, Forget):
            with core.lock:
                if action.channel not in core.supervisor.wanted:
                    core.router.forget(action.channel)
        elif isinstance(action, Fail):
            for message_queue in core.router.queues:
                message_queue.fail(action.error)
            core.report_end()
        elif isinstance(action, Cut):
            if transport := self.transports.get(action.connection_id):
                # With the error: its reader may report the end before this thread does.
                transport.abort(action.error)
            self.ended(action.connection_id, action.error)
        elif transport := self.transports.get(action.connection_id):
            # If there is no transport, it has ended meanwhile and has reported its end.
            if isinstance(action, Send):
                self._note_sent(action.connection_id, action.payload)
                transport.send(action.payload)
            elif isinstance(action, Ping):
                transport.ping()
            elif isinstance(action, Renew):
                transport.renew()
            elif isinstance(action, Hangup):
                transport.flush()
                transport.release()
                transport.hang_up()
            elif isinstance(action, Abort):
                transport.abort()

    def _consult(self, consult: Consult) -> None:
        try:
            result = consult.ask()
        except BaseException as raised:  # noqa: BLE001 - not even SystemExit may end the thread
            error = raised if isinstance(raised, Exception) else RuntimeError(repr(raised))
            with self._core.lock:
                consult.failed(error)
        else:
            with self._core.lock:
                consult.then(result)

    def _dial(self, dial: Dial) -> None:
        connection_id = dial.connection_id
        transport = self._sources.make(connection_id, self.receiver, self._core.locks, dial.route)
        self.transports[connection_id] = transport
        try:
            transport.start()
        except ThreadStartError as error:
            del self.transports[connection_id]
            self.ended(connection_id, ConnectionLost(str(error), reason="thread"))

    def send(self, connection_id: int, payload: str | bytes, waiter: Waiter) -> None:
        """Send a caller's message, and settle ``waiter`` when its bytes are sent."""
        transport = self.transports.get(connection_id)
        if transport is None:
            waiter.settle(NotConnected("the connection ended before the message was sent"))
        else:
            self._note_sent(connection_id, payload)
            transport.send(payload, waiter)

    def _note_sent(self, connection_id: int, payload: str | bytes) -> None:
        core = self._core
        if core.tap is not None:
            with core.lock:
                if core.tap is not None:
                    core.tap.sent(connection_id, payload)

    def ping(self, connection_id: int) -> None:
        """Send a ping on a connection, unless it has ended."""
        self.perform(Ping(connection_id))

    def renewed(self, connection_id: int, error: WSClientError | None, has_expired: bool) -> None:
        """Note that the token of a connection is renewed, or was not because of ``error``."""
        with self._core.lock:
            connection = self._core.supervisor.connection(connection_id)
            if connection is not None:
                now = self._clock.monotonic()
                connection.renewal.finished(error, now, has_expired=has_expired)

    def ended(self, connection_id: int, error: BaseException) -> None:
        """Get the verdict on the end of a connection or attempt, then report both.

        Later reports of the same end are ignored.
        """
        is_known = self._core.supervisor.connections.get(connection_id) is not None
        if is_known and connection_id not in self._ended:
            self._ended.add(connection_id)
            then = partial(self._judged, connection_id, error)
            self._core.judge.judge(error, then, self._clock.monotonic())

    def _judged(self, connection_id: int, error: BaseException, verdict: Verdict) -> None:
        why = text_of(error)  # without the lock: it may run the __str__ of a user's exception
        with self._core.lock:
            self._core.supervisor.ended(connection_id, error, verdict, self._clock.monotonic(), why)
            self._core.deliver_released()
        self._ended.discard(connection_id)

    # The end.

    def fail(self, name: str, error: BaseException) -> None:
        """Fail the client, as its other thread ``name`` has ended by ``error``."""
        self._fail(name, error)
        self._report_death(name, error)

    def _report_death(self, name: str, error: BaseException) -> None:
        if not self._core.is_forked:
            self._core.emit(ThreadDied, name, error)

    def _fail(self, name: str, error: BaseException) -> None:
        """Make all calls raise, including those that are blocked."""
        core = self._core
        if core.is_forked:
            return  # the client belongs to the parent
        failure = WSClientError(
            f"internal error: {type(error).__name__} has ended the thread {name}; see the log"
        )
        failure.__cause__ = forget_locals(error)
        try:
            with core.lock:
                core.supervisor.fail(failure)
            self.settle_all()
        finally:
            for message_queue in core.router.queues:
                message_queue.fail(failure)
            for waiter in core.waiters.all():
                waiter.settle(failure)

    def abort(self) -> None:
        """Cut all connections. May be called on any thread."""
        for transport in list(self.transports.values()):
            transport.abort()

    def settle_all(self) -> None:
        """Perform the actions that callers and listeners wait for.

        Keeps those that end connections for the thread, and drops all others.
        """
        core = self._core
        with core.lock:
            self.todo.extend(core.supervisor.actions())
        kept = []
        for action in iter(self._next, None):
            if isinstance(action, (Settle, Fail, Notify, Abort)):
                self.perform(action)
            elif isinstance(action, (Hangup, Cut)):
                kept.append(action)
        self.todo.extend(kept)
