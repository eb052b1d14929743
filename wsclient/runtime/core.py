"""The core of a client: its parts put together, and how it ends.

* To change something, a caller *posts* a function to the watchdog thread and waits for the answer
  (``calls.py``). So an interrupt in the caller's thread
  leaves nothing half done.
* To read something, a caller takes the lock and copies.
* Readers report what they have received, under the lock (``reception.py``).

The core does not refer to the client object. So a client that nothing holds is collected, and its
finalizer closes the core.
"""

from __future__ import annotations

import random
import threading
from functools import partial

from wsclient.dialect.base import Dialect
from wsclient.events import ThreadStuck, UnreadDiscarded
from wsclient.options import Options
from wsclient.runtime.calls import Calls
from wsclient.runtime.common import Common, answer
from wsclient.runtime.reception import Reception
from wsclient.runtime.watchdog import Watchdog
from wsclient.sansio.supervisor import Supervisor
from wsclient.threads.forking import forked_error, watch
from wsclient.threads.logs import FLUSH, ClientLog, flush
from wsclient.threads.waiting import Deadline, Waiter
from wsclient.threads.workers import is_worker_thread
from wsclient.transport.source import Sources

__all__ = ["Core"]

#: How long (s) close() waits for a watchdog that is held up before it does the work itself.
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
    """

    def __init__(
        self, sources: Sources, options: Options, dialect: Dialect, log: ClientLog
    ) -> None:
        super().__init__(sources, options, dialect, log)
        self.watchdog = Watchdog(self, sources)
        self.reception = Reception(self, self.watchdog)
        self.watchdog.receiver = self.reception
        self.calls = Calls(self, self.watchdog)
        watch(self)

    # The end.

    def close_soon(self) -> None:
        """Close without waiting and without a lock: safe in a finalizer or a signal handler."""
        self.posts.put(partial(self._close, self.options.close_timeout))

    def close(self, timeout: float) -> None:
        """Close, and wait for the threads to end, all within ``timeout`` seconds."""
        if self.is_forked:
            return  # this process has nothing to end
        if self.locks.is_held or is_worker_thread():
            self.close_soon()  # close() would wait for the code that this call has interrupted
            return
        deadline = Deadline(timeout)
        waiter = Waiter()
        self.post(partial(answer, waiter, partial(self._close, timeout)))
        try:
            waiter.wait(Deadline(min(timeout, HELD_UP)))
        except TimeoutError:  # a hook of the dialect has not returned: end everything else
            self.is_held_up = True
            self._close(timeout)
            self.watchdog.settle_all()
            for blocked in self.waiters.all():
                self.end_if_held_up(blocked)
        for thread in self.watchdog.threads():
            self._join(thread, deadline)
        if self.is_held_up:
            self.watchdog.abort()
        if self.callbacks.thread is not threading.current_thread():
            self.callbacks.is_over = True
        self.end_events()  # else a watchdog that is held up would keep listeners waiting for ever
        flush(min(deadline.remaining(), FLUSH))

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
