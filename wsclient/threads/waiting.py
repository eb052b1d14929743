"""Waiting that a Ctrl-C always interrupts, and that never leaves a lock held.

``threading.Condition`` and ``concurrent.futures.Future`` take their locks in Python code. A
KeyboardInterrupt there leaves the lock held for ever, and the next thread that settles a result
hangs. A bare lock used as a signal has no such place: nothing is held while waiting.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from wsclient.errors import WSClientError
from wsclient.threads.forking import forked_error, watch

__all__ = ["NEVER", "SLICE", "Deadline", "Permit", "Waiter", "acquire"]

#: The longest single wait (s). A Ctrl-C that comes just before a wait for a lock, or, on Windows,
#: during it, takes effect only when the wait ends. So waits are cut into slices.
SLICE = 0.1 if os.name == "nt" else 1.0


class Deadline:
    """A timeout (s) for several steps together, on the monotonic clock. None never ends."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self.at = float("inf") if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float:
        """Return the time left (s), at least 0."""
        return max(0.0, self.at - time.monotonic())


NEVER = Deadline(None)


def acquire(signal: threading.Lock, deadline: Deadline) -> bool:
    """Wait until ``signal`` is released, and take it. Return False at the deadline."""
    while True:
        remaining = deadline.remaining()
        if signal.acquire(timeout=min(remaining, SLICE)):
            return True
        if remaining <= SLICE:
            return False


class Permit:
    """Something that one thread at a time may have: :meth:`take` says whether it is this one.

    ``pop`` is one call that is written in C. So of two threads only one gets the element, and no
    lock is needed, which an interrupt or a fork might leave held.
    """

    __slots__ = ("_free",)

    def __init__(self) -> None:
        self._free = [None]

    def take(self) -> bool:
        """Take the permit. Return False if another thread has it."""
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def give_back(self) -> None:
        """Let another thread take the permit."""
        self._free.append(None)


class Waiter:
    """A result that one thread waits for and another settles. Only the first settle() counts."""

    __slots__ = ("__weakref__", "_error", "_permit", "_result", "_signal", "settled")

    def __init__(self) -> None:
        self._signal = threading.Lock()
        self._signal.acquire()
        #: Whoever takes it settles the result.
        self._permit = Permit()
        self._result: Any = None
        self._error: BaseException | None = None
        self.settled = False
        watch(self)

    def settle(self, error: BaseException | None = None, result: Any = None) -> bool:
        """End the wait with a result, or with an error to raise. May be called on any thread.

        Returns False if it has ended already.
        """
        if not self._permit.take():
            return False
        self._result, self._error = result, error
        self.settled = True
        self._signal.release()
        return True

    def forked(self) -> None:
        """Settle with ClientForked in a child process, where no other thread can settle it."""
        self._error, self.settled = forked_error(), True
        if self._signal.locked():
            self._signal.release()

    def wait(self, deadline: Deadline | None = None) -> Any:
        """Wait; return the result or raise the error. Raises TimeoutError at the deadline."""
        if not self.settled and not acquire(self._signal, deadline or NEVER):
            raise TimeoutError
        if self._error is None:
            return self._result
        error = self._error
        raise error.fresh() if isinstance(error, WSClientError) else error
