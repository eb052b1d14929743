"""The queues whose messages leave in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from wsclient.errors import QueueOverflow
from wsclient.messages import Message
from wsclient.runtime.gaps import Gaps
from wsclient.runtime.queues import MessageQueue, cost_of, is_last
from wsclient.threads.pops import pops

__all__ = ["FifoQueue"]


class FifoQueue(MessageQueue):
    """A queue that, when full, drops the oldest message, drops the newest one, or fails.

    ``overflow`` is ``drop_oldest``, ``drop_newest`` or ``error``. A spare queue does not fail: it
    drops the oldest message instead.
    """

    __slots__ = ("_is_marked_when_put", "_queue", "overflow")

    def __init__(
        self, max_messages: int | None, max_bytes: int | None, overflow: str, **others: Any
    ) -> None:
        queue = self._queue = deque[Message]()
        super().__init__(queue, queue, pops(queue.popleft), max_messages, max_bytes, **others)
        self.overflow = overflow
        #: The next message carries its gap from when it is put (drop_newest) or from when it is
        #: handed out.
        self._is_marked_when_put = overflow == "drop_newest"
        if self._is_marked_when_put:
            self._gaps_at_head = Gaps(self._wanted)

    def _add(self, messages: Sequence[Message], cost: int) -> None:
        if self._is_full(len(messages), cost) or (
            self._is_marked_when_put and self._gaps.are_possible
        ):
            for message in messages:
                self._append(message)
            return
        self._queue.extend(messages)
        self._bytes += cost

    def _append(self, message: Message) -> None:
        cost = cost_of(message)
        queue = self._queue
        if self._failure is not None:
            self.dropped += 1
            self.overflowed += 1
            return
        if queue and self._is_full(1, cost) and not is_last(message):
            if self.overflow == "drop_newest":
                self._drop(message)
                return
            if self.overflow == "error" and not self.is_spare:
                self._fail()
                return
            kept: list[Message] = []
            while queue and self._is_full(1, cost):
                oldest = queue.popleft()
                if is_last(oldest):
                    kept.append(oldest)
                    continue
                self._bytes -= cost_of(oldest)
                self._drop(oldest)
            queue.extendleft(reversed(kept))
        if self._is_marked_when_put:
            self._gaps.mark((message,))
        queue.append(message)
        self._bytes += cost

    def _fail(self) -> None:
        self.dropped += 1
        self.overflowed += 1
        self._failure = QueueOverflow(
            f"the queue is full ({len(self._queue)} messages, {self._bytes} bytes): consume "
            "faster, raise queue_size or queue_bytes, or choose another overflow policy"
        )

    def _key(self, message: Message) -> int:
        return 0
