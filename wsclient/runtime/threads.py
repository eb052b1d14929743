"""Starting a thread where a Ctrl-C may strike."""

from __future__ import annotations

import _thread
import threading

from wsclient.errors import ThreadStartError
from wsclient.runtime.waiting import Waiter

__all__ = ["launch", "start"]


def start(thread: threading.Thread) -> None:
    """Start ``thread``, from one of our own. Raises ThreadStartError."""
    try:
        thread.start()
    except RuntimeError as error:
        raise _refused(thread, error) from error


def launch(thread: threading.Thread) -> None:
    """Start ``thread``, from any thread, so that an interrupt of this call leaves it started or
    not, and nothing in between. Raises ThreadStartError.

    ``Thread.start()`` waits in Python code. An interrupt there can leave a lock held that the new
    thread needs, so it is called where no interrupt comes.
    """
    started = Waiter()

    def run() -> None:
        try:
            start(thread)
        except BaseException as error:  # noqa: BLE001 - raised by the caller
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
