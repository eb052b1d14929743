"""The functions that any thread posts to the watchdog thread, which runs them in order."""

from __future__ import annotations

import queue
from collections.abc import Callable

__all__ = ["Post", "Posts"]

Post = Callable[[], None]


class Posts:
    """The posts to one watchdog thread.

    ``SimpleQueue.put`` is safe even in a signal handler or a finalizer that interrupts another call
    of the queue. Before the thread starts and after it ends, the thread that posts a function runs
    it itself.
    """

    __slots__ = ("_queue", "has_begun", "is_over")

    def __init__(self) -> None:
        #: Each a function to call, or None to only check again.
        self._queue: queue.SimpleQueue[Post | None] = queue.SimpleQueue()
        #: True once there is a thread that runs the posts, and once that thread has ended.
        self.has_begun = self.is_over = False

    @property
    def put_now(self) -> Callable[[Post], None]:
        """The method :meth:`put`, written in C: safe where a second interrupt may follow one."""
        return self._queue.put

    def put(self, function: Post) -> None:
        """Run ``function`` on the thread, if there is one. Takes no lock."""
        self._queue.put(function)

    def post(self, function: Post) -> None:
        """Run ``function`` on the thread. If there is no thread, run it now."""
        self._queue.put(function)
        if self.is_over or not self.has_begun:
            self.drain()

    def wake(self) -> None:
        """Make the thread look again at what is due."""
        self._queue.put(None)

    def are_done(self) -> bool:
        """Return whether no post waits."""
        return self._queue.empty()

    def run(self, timeout: float, count: int) -> None:
        """Wait for a post, at most ``timeout`` (s); then run those that wait, at most ``count``."""
        try:
            for _ in range(count):
                post = self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
                timeout = 0.0
                if post is not None:
                    post()
        except queue.Empty:
            pass

    def drain(self) -> None:
        """Run all waiting posts, on a thread that may be a caller's."""
        try:
            while True:
                post = self._queue.get_nowait()
                if post is not None:
                    post()
        except queue.Empty:
            pass
