"""Waiting, so that Ctrl-C is always heard and never leaves a lock held.

``threading.Condition`` and ``concurrent.futures.Future`` take their locks in Python code: a
KeyboardInterrupt that lands there leaves the lock held for ever, and the next thread to settle a
result would hang. A bare lock used as a signal has no such place: nothing is held while waiting.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from wsclient.errors import WSClientError
from wsclient.runtime.forking import forked_error, watch

__all__ = ["NEVER", "SLICE", "Deadline", "Waiter", "acquire"]

#: A Ctrl-C just before a lock's wait is not heard while that lasts, nor, on Windows, is one during
#: it. So waits are cut into slices (s).
SLICE = 0.1 if os.name == "nt" else 1.0


class Deadline:
    """One timeout over several steps, on the monotonic clock (s); None never ends."""

    def __init__(self, timeout: float | None) -> None:
        self.at = float("inf") if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float:
        return max(0.0, self.at - time.monotonic())


NEVER = Deadline(None)


def acquire(signal: threading.Lock, deadline: Deadline) -> bool:
    """Wait until ``signal`` is released, and take it. False when the deadline came first."""
    while True:
        remaining = deadline.remaining()
        if signal.acquire(timeout=min(remaining, SLICE)):
            return True
        if remaining <= SLICE:
            return False


class Waiter:
    """A result that one thread waits for and another settles, once; later settles are ignored."""

    __slots__ = ("__weakref__", "_error", "_result", "_right", "_signal", "settled")

    def __init__(self) -> None:
        self._signal = threading.Lock()
        self._signal.acquire()
        #: Whoever pops it may settle this.
        self._right = [None]
        self._result: Any = None
        self._error: BaseException | None = None
        self.settled = False
        watch(self)

    def settle(self, error: BaseException | None = None, result: Any = None) -> None:
        """End the wait, from any thread."""
        try:
            self._right.pop()
        except IndexError:
            return
        self._result, self._error = result, error
        self.settled = True
        self._signal.release()

    def forked(self) -> None:
        """In a child process, where nobody is left to settle it."""
        self._error, self.settled = forked_error(), True
        if self._signal.locked():
            self._signal.release()

    def wait(self, deadline: Deadline | None = None) -> Any:
        """The result, or raise the error. Raises TimeoutError when the deadline came first."""
        if not self.settled and not acquire(self._signal, deadline or NEVER):
            raise TimeoutError
        if self._error is None:
            return self._result
        error = self._error
        raise error.fresh() if isinstance(error, WSClientError) else error
