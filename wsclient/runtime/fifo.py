"""The queues whose messages leave in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from wsclient.errors import QueueOverflow
from wsclient.messages import Message
from wsclient.runtime.queues import MessageQueue, charge, cost_of, is_last
from wsclient.threads.pops import pops

__all__ = ["FifoQueue"]


class FifoQueue(MessageQueue):
    """A queue that, when full, drops the oldest message, drops the newest one, or fails.

    ``overflow`` is ``drop_oldest`` (the oldest that is not in a consumer's batch), ``drop_newest``
    or ``error``. A spare queue does not fail: it drops the oldest message instead.
    """

    __slots__ = ("_is_marked_when_put", "_pieces", "_queue", "_queued", "overflow")

    def __init__(
        self, max_messages: int | None, max_bytes: int | None, overflow: str, **others: Any
    ) -> None:
        self._queue: deque[Message] = deque()
        super().__init__(self._queue, self._queue, max_messages, max_bytes, **others)
        self.overflow = overflow
        #: Each step takes the oldest message out of the queue.
        self._queued = pops(self._queue.popleft)
        #: [messages, bytes charged] of each piece of the queue, a batch's size if possible.
        self._pieces: deque[list[int]] = deque()
        #: The next message carries its gap from when it is put (drop_newest) or from when it is
        #: handed out.
        self._is_marked_when_put = overflow == "drop_newest"

    def _add(self, messages: Sequence[Message], cost: int) -> None:
        count, queue, pieces = len(messages), self._queue, self._pieces
        is_tight = (
            len(queue) + len(self._batch) + count > self._max_messages
            or self._bytes + cost > self._max_bytes
        )
        if (is_tight and self._is_full(count, cost)) or (
            self._is_marked_when_put and self._gaps.are_possible
        ):
            for message in messages:
                self._append(message)
            return
        queue.extend(messages)
        self._bytes += cost
        if pieces and pieces[-1][0] + count <= self._batch_size:
            last = pieces[-1]
            last[0] += count
            last[1] += cost
        else:
            pieces.append([count, cost])

    def _append(self, message: Message) -> None:
        cost = cost_of(message)
        queue = self._queue
        if self._failure is not None:
            self.dropped += 1
            self.overflowed += 1
            return
        if self and self._is_full(1, cost) and not is_last(message):
            if self.overflow == "drop_newest":
                self._drop(message)
                return
            if self.overflow == "error" and not self.is_spare:
                self._fail()
                return
            kept: list[Message] = []
            while queue and self._is_full(1, cost):
                oldest = queue.popleft()
                self._take_off(1, cost_of(oldest))
                if is_last(oldest):
                    kept.append(oldest)
                    continue
                self._bytes -= cost_of(oldest)
                self._drop(oldest)
            if kept:
                queue.extendleft(reversed(kept))
                self._pieces.appendleft([*charge(kept)])
        if self._is_marked_when_put:
            self._gaps.mark((message,))
        queue.append(message)
        self._bytes += cost
        pieces = self._pieces
        if pieces and pieces[-1][0] < self._batch_size:
            pieces[-1][0] += 1
            pieces[-1][1] += cost
        else:
            pieces.append([1, cost])

    def _fail(self) -> None:
        self.dropped += 1
        self.overflowed += 1
        self._failure = QueueOverflow(
            f"the queue is full ({len(self)} messages, {self._bytes} bytes): consume "
            "faster, raise queue_size or queue_bytes, or choose another overflow policy"
        )

    def _recount(self) -> None:
        queued, cost = charge(self._queue)
        self._pieces = deque([[queued, cost]] if queued else [])
        super()._recount()  # last: only now nothing is torn

    def _move(self, wanted: int) -> None:
        queue, batch = self._queue, self._batch
        self._measure(queue)
        limit = max(wanted, self._batch_size)
        while queue and len(batch) < wanted:
            if len(queue) <= limit and not self._batch_count:  # nearly always: move all
                self._pieces.clear()
                count, cost = len(queue), self._bytes
            else:
                count, cost = self._next_pieces(limit)
            self._batch_count += count
            self._batch_bytes += cost
            if self._gaps.are_possible and not self._is_marked_when_put:
                self._gaps.mark(islice(queue, count))
            batch.extend(islice(self._queued, count))

    def _next_pieces(self, limit: int) -> tuple[int, int]:
        """Remove whole pieces from the list of pieces, or ``limit`` messages of a larger piece.

        Returns the number of their messages, at most ``limit``, and their charge (bytes).
        """
        count = cost = 0
        pieces = self._pieces
        while pieces and count + pieces[0][0] <= limit:
            more, bytes = pieces.popleft()
            count += more
            cost += bytes
        if pieces and not count:
            count, cost = limit, sum(map(cost_of, islice(self._queue, limit)))
            self._take_off(count, cost)
        return count, cost

    def _take_off(self, count: int, cost: int) -> None:
        piece = self._pieces[0]
        piece[0] -= count
        piece[1] -= cost
        if not piece[0]:
            self._pieces.popleft()
