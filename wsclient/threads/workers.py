"""The package's own threads: what marks them; a Ctrl-C does no harm as they start or end."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable

from wsclient.errors import ThreadStartError
from wsclient.threads.waiting import Deadline, Waiter

__all__ = ["WorkerThread", "is_worker_thread", "join", "launch", "start"]

#: The time (s) between two looks at whether a thread has ended.
JOIN_EVERY = 0.001


class WorkerThread(threading.Thread):
    """One of our own threads. Blocking calls are forbidden on it: it would wait for itself."""

    def __init__(self, name: str, target: Callable[[], None]) -> None:
        super().__init__(name=name, target=target, daemon=True)


def is_worker_thread() -> bool:
    """Return whether the current thread is a WorkerThread."""
    return isinstance(threading.current_thread(), WorkerThread)


def start(thread: threading.Thread) -> None:
    """Start ``thread``; called on one of our own threads only. Raises ThreadStartError."""
    try:
        thread.start()
    except RuntimeError as error:
        raise _refused(thread, error) from error


def launch(thread: threading.Thread) -> None:
    """Start ``thread``; may be called on any thread. Raises ThreadStartError.

    An interrupt of this call leaves the thread either started or not. ``Thread.start()`` waits in
    Python code: an interrupt there can leave a lock held that the new thread needs. So a helper
    thread, where no interrupt comes, calls it.
    """
    started = Waiter()

    def run() -> None:
        try:
            start(thread)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            started.settle(error)
        else:
            started.settle()

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError as error:
        raise _refused(thread, error) from error
    started.wait()


def join(thread: threading.Thread, deadline: Deadline) -> bool:
    """Wait for the end of ``thread``, if it is another one. Return False at the deadline.

    Not by ``Thread.join()``: until Python 3.13 a Ctrl-C there marks a running thread as ended, and
    the next call would not wait for it.
    """
    if thread is threading.current_thread():
        return True
    while thread in threading.enumerate():
        remaining = deadline.remaining()
        if not remaining:
            return False
        time.sleep(min(remaining, JOIN_EVERY))
    return True


def _refused(thread: threading.Thread, error: RuntimeError) -> ThreadStartError:
    return ThreadStartError(
        f"the thread {thread.name} cannot be started ({error}); end some threads, or raise the "
        "limit of the process, and call again"
    )
