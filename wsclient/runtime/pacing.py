"""Pacing: a thread that puts messages lets the consumers that it has woken come first.

Without it the reader, which never stops, takes the interpreter's lock back before a woken consumer
gets it, and a message waits for several milliseconds.
"""

from __future__ import annotations

import time

from wsclient.threads.waitlist import new_signal

__all__ = ["PACE", "Handover", "Pacer"]

#: How long (s) a reader waits, after one read, for all consumers together that it has woken.
PACE = 0.002


class Handover:
    """The hand-over of messages from a put to the consumer of its queue that it has woken.

    All but :meth:`wait` is called under the queue's lock. A race with it costs one wait at most.
    """

    __slots__ = ("_came", "_pacer", "is_awaited", "is_late", "is_listed")

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        #: Released, once, when the consumer has come. A new one each time: who still waits for the
        #: one before must not take it.
        self._came = new_signal()
        self.is_awaited = False
        #: True while the pacer knows of it.
        self.is_listed = False
        #: True from when a consumer did not come in time until one comes.
        self.is_late = False

    def begin(self) -> None:
        """Note that a consumer has been woken."""
        if not self.is_awaited:
            self._came = new_signal()
            self.is_awaited = True
        if not self.is_listed:
            self.is_listed = True
            self._pacer.woken.append(self)

    def end(self) -> None:
        """Note that a consumer has come."""
        self.is_awaited = False
        self._came.release()

    def wait(self, seconds: float) -> None:
        """Wait until the consumer has come, for at most ``seconds``; then it is late."""
        self.is_listed = False
        if self.is_awaited and not self._came.acquire(timeout=seconds):
            self.is_late, self.is_awaited = self.is_awaited, False


class Pacer:
    """Waits for the consumers that a client's puts have woken."""

    __slots__ = ("woken",)

    def __init__(self) -> None:
        #: The hand-overs begun since the last wait. Never replaced: another thread may add one.
        self.woken: list[Handover] = []

    def wait(self) -> None:
        """Wait until all woken consumers have come for their messages, or for PACE.

        A consumer that did not come in time is not waited for again until one of its queue has
        come. The cost depends on how many were woken, not on how many queues there are.
        """
        woken = self.woken
        count = len(woken)
        if not count:
            return
        try:
            if count == 1:
                woken.pop(0).wait(PACE)
                return
            until = time.monotonic() + PACE
            for _ in range(count):
                woken.pop(0).wait(max(0.0, until - time.monotonic()))
        except IndexError:
            pass  # another reader has taken the others
