"""The package's own threads: what marks them, and how a Ctrl-C does no harm as they start."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable

from wsclient.errors import ThreadStartError
from wsclient.threads.waiting import Waiter

__all__ = ["WorkerThread", "is_worker_thread", "launch", "start"]


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


def _refused(thread: threading.Thread, error: RuntimeError) -> ThreadStartError:
    return ThreadStartError(
        f"the thread {thread.name} cannot be started ({error}); end some threads, or raise the "
        "limit of the process, and call again"
    )
