"""The drain of ``close(drain=True)``: what is queued is handed out before the client ends.

A drain waits for the queues that another thread reads: a thread of ours (``on()`` functions, order
books) or of the user. The thread that calls ``close()`` cannot read meanwhile, so what it reads
stays readable afterwards, and so does what nothing reads.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Sequence

from wsclient.runtime.queues import MessageQueue

__all__ = ["Draining"]

#: The time (s) between two looks at the queues. Most consumers take messages without a call that
#: could report the last one.
LOOK_EVERY = 0.01
#: How much of the timeout of close() is kept for the threads to end: a share, and the most (s).
ENDING_SHARE, MAX_ENDING = 0.1, 0.25


class Draining:
    """The drain of one client.

    ``queues`` returns its queues, ``threads`` our threads that read some of them. ``end`` ends the
    drain; it gets the queues that are not empty in time. The watchdog thread makes all calls,
    except that a ``close()`` which it holds up makes them instead.
    """

    __slots__ = ("_closers", "_end", "_queues", "_threads", "_until")

    def __init__(
        self,
        queues: Callable[[], Sequence[MessageQueue]],
        threads: Callable[[], Iterable[threading.Thread | None]],
        end: Callable[[Sequence[MessageQueue]], None],
    ) -> None:
        self._queues = queues
        self._threads = threads
        self._end = end
        #: When the drain ends at the latest (monotonic s); None while there is none.
        self._until: float | None = None
        #: The threads that have called close().
        self._closers: set[int] = set()

    @property
    def is_on(self) -> bool:
        """True during a drain."""
        return self._until is not None

    def begin(self, closer: int, now: float, timeout: float) -> None:
        """Take nothing more in, and begin the drain, for the thread ``closer``.

        If a drain is under way, the earlier of the two ends counts.
        """
        self._closers.add(closer)
        for queue in self._queues():
            queue.finish()
        until = now + timeout - min(timeout * ENDING_SHARE, MAX_ENDING)
        self._until = until if self._until is None else min(self._until, until)

    def look(self, now: float) -> float:
        """End the drain if it is complete or its time is over.

        Returns when to look again (monotonic s, ``inf`` for never).
        """
        if self._until is None:
            return float("inf")
        left = self._left()
        if left and now < self._until:
            return min(self._until, now + LOOK_EVERY)
        self._end(left)  # twice, if close() makes this call meanwhile: that does no harm
        self._until = None
        return now

    def stop(self) -> None:
        """Forget the drain: the caller closes all queues."""
        self._until = None

    def _left(self) -> list[MessageQueue]:
        """Return the queues that another living thread is still to empty."""
        ours = {thread.ident for thread in self._threads() if thread is not None}
        alive = sys._current_frames().keys() - self._closers
        return [
            queue
            for queue in self._queues()
            # One of our threads closes its queue when it has come to the end of its work.
            if not queue.is_closed and queue.consumer in alive and (queue or queue.consumer in ours)
        ]
