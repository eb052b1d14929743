"""The core of a client: its parts put together, and how it ends.

* To change something, a caller *posts* a function to the watchdog thread and waits for the answer
  (``calls.py``). So an interrupt in the caller's thread leaves nothing half done.
* To read something, a caller takes the lock and copies.
* Readers report what they have received, under the lock (``reception.py``).

The core does not refer to the client object. So a client that nothing holds is collected, and its
finalizer closes the core.
"""

from __future__ import annotations

import random
import threading
from functools import partial
from operator import attrgetter
from threading import get_ident

from wsclient.dialect.base import Dialect
from wsclient.errors import NotConnected, WaitTimeout
from wsclient.events import ThreadStuck
from wsclient.options import Options
from wsclient.runtime.calls import Calls
from wsclient.runtime.common import Common, answer
from wsclient.runtime.reception import Reception
from wsclient.runtime.watchdog import Watchdog
from wsclient.sansio.life import Phase
from wsclient.sansio.supervisor import Supervisor
from wsclient.threads.forking import forked_error, watch
from wsclient.threads.logs import FLUSH, ClientLog, flush
from wsclient.threads.waiting import NEVER, Deadline, Waiter
from wsclient.threads.workers import is_worker_thread, join
from wsclient.transport.source import Sources

__all__ = ["Core"]

#: How long (s) close() leaves the blocked calls to a watchdog that is held up by a hook of the
#: dialect. Then it ends them itself, and waits for the hook for the rest of its timeout.
HELD_UP = 0.25


class _ForkedLock:
    """A replacement for the lock in a forked child: entering it raises ClientForked."""

    def __enter__(self) -> None:
        raise forked_error()

    def __exit__(self, *_: object) -> None:
        pass


class Core(Common):
    """The owner of the supervisor, the router, the queues and the threads of one client.

    ``sources`` makes the source of each connection. ``log`` writes the client's log records.
    ``url`` is the client's address, None if it is a function.
    """

    def __init__(
        self,
        sources: Sources,
        options: Options,
        dialect: Dialect,
        log: ClientLog,
        url: str | None = None,
    ) -> None:
        super().__init__(sources, options, dialect, log, url)
        self.watchdog = Watchdog(self, sources)
        self.reception = Reception(self, self.watchdog)
        self.watchdog.receiver = self.reception
        #: When the present close() gives up waiting for the threads.
        self._closes_by = NEVER
        self.calls = Calls(self, self.watchdog)
        #: True from the moment on at which the client was to end soon.
        self.is_ending_soon = False
        watch(self)

    # The end.

    def close_soon(self, timeout: float | None = None) -> None:
        """Close without waiting and without a lock: safe in a finalizer or a signal handler."""
        limit = self.options.close_timeout if timeout is None else timeout
        self.is_ending_soon = True
        self.posts.put(partial(self._close, limit))

    def close(self, timeout: float, *, drain: bool = False) -> None:
        """Close, and wait for the threads to end, all within ``timeout`` seconds."""
        if self.is_forked:
            return  # this process has nothing to end
        close = (
            partial(self._drain, get_ident(), timeout) if drain else partial(self._close, timeout)
        )
        if self.locks.is_held or is_worker_thread():
            self.posts.put(close)  # a wait would be for the code that this call has interrupted
            return
        deadline = Deadline(timeout)
        waiter = Waiter()
        self.post(partial(answer, waiter, close))
        try:
            waiter.wait(Deadline(min(timeout, HELD_UP)))
        except TimeoutError:  # a hook of the dialect has not returned: end the blocked calls
            self.is_held_up = True
            close()
            self.watchdog.settle_all()
            for blocked in self.waiters.all():
                self.end_if_held_up(blocked)
        for thread in filter(None, self.watchdog.threads()):
            if not join(thread, deadline):
                self.emit(ThreadStuck, thread.name)
        if self.is_held_up:
            self.watchdog.abort()
        self.drain.look(float("inf"))  # the watchdog may be late, and these events come first
        if self.callbacks.thread is not threading.current_thread():
            self.callbacks.is_over = True
        self.end_events()  # else a watchdog that is held up would keep listeners waiting for ever
        if self.recorder is not None and not self.recorder.join(deadline):
            self.emit(ThreadStuck, "wsclient-recorder")
        flush(min(deadline.remaining(), FLUSH))

    def _close(self, timeout: float) -> None:
        """Close now, and discard what is queued. Ends a drain."""
        self._closes_by = Deadline(timeout)
        self.drain.stop()
        with self.lock:
            self.supervisor.close(self.clock.monotonic(), timeout)
            self.supervisor.drained()
        self.discard(self.router.queues)
        self.report_end()

    def _drain(self, closer: int, timeout: float) -> None:
        """Close, and begin to hand out what is queued, for a call of the thread ``closer``."""
        self._closes_by = Deadline(timeout)
        now = self.clock.monotonic()
        with self.lock:
            self.supervisor.close(now, timeout, drain=True)
        self.drain.begin(closer, now, timeout)
        self.report_end()
        if self.posts.is_over or not self.posts.has_begun:
            self.drain.look(float("inf"))  # no thread will

    def wait(self, deadline: Deadline) -> None:
        """Wait until a call of close() is complete. Raises the failure of a client that has failed.

        Raises NotConnected if there is nothing to wait for, and WaitTimeout at the deadline.
        """
        self.check_call()
        if threading.current_thread() in self.watchdog.threads():
            raise RuntimeError(
                "wait() was called on a thread of the client, which would wait for itself; call it "
                "on a thread of your own"
            )
        life = self.supervisor.life
        timeout = WaitTimeout("the client was not closed within the timeout")
        while not life.is_over:
            if life.failure is not None:
                raise life.failure.fresh()
            if life.phase is Phase.IDLE:
                raise NotConnected("not connected; call connect() first")
            if not self.awaiting_end.wait(lambda: not life.is_running, deadline):
                raise timeout
        for thread in filter(None, self.watchdog.threads()):
            limit = min(deadline, self._closes_by, key=attrgetter("at"))
            if not join(thread, limit) and limit is deadline:
                raise timeout
        if life.failure is not None:
            raise life.failure.fresh()

    def died(self, name: str, error: BaseException) -> None:
        """Fail the client, as its thread ``name`` has ended by ``error``."""
        self.post(partial(self.watchdog.fail, name, error))

    def forked(self) -> None:
        """Refuse every call that takes the lock, in a child process.

        Drop everything that could reach the parent's connection.
        """
        self.is_forked = True
        self.tap = None
        self.lock = _ForkedLock()
        self.event_hub.forked()
        self.watchdog.forked()
        # The old supervisor may be changed in part. Reads without the lock use the new one.
        self.supervisor = Supervisor(self.dialect, self.options, random.random)
        self.supervisor.fail(forked_error())
