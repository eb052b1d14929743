"""A bounded, closable queue of messages: the hand-off from the reader to a caller.

Within a channel the order is always kept, and what is dropped leaves its gap on the next message
of its channel, be that one queued already or still to come.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from wsclient.errors import QueueOverflow, WaitTimeout, WSClientError
from wsclient.messages import Gap, Message
from wsclient.runtime.waiting import Deadline, acquire

__all__ = ["Mailbox"]

#: What a queued message costs beside its payload (bytes): the object, its fields, its slot.
MESSAGE_OVERHEAD = 150


def _cost(message: Message) -> int:
    return len(message.raw) + MESSAGE_OVERHEAD


def _hole(message: Message, reason: str) -> Gap:
    """The hole that a message leaves when it is dropped, its own gap included."""
    hole = Gap(reason, 1, message.previous_at)
    return hole if message.gap is None else message.gap.merge(hole)


class Mailbox:
    """``max_messages`` and ``max_bytes`` bound it (None: no bound), each message charged its
    payload and MESSAGE_OVERHEAD until it is taken. One message is always let in, however large.

    ``overflow`` is one of ``drop_oldest``, ``drop_newest``, ``conflate`` (at most one waiting a
    channel, the newest, in the place of the one it replaces) and ``error``.
    Every call but :meth:`take` returns at once.
    """

    def __init__(self, max_messages: int | None, max_bytes: int | None, overflow: str) -> None:
        self._max_messages = float("inf") if max_messages is None else max_messages
        self._max_bytes = float("inf") if max_bytes is None else max_bytes
        self._overflow = overflow
        #: Protects all below. Held while a batch is moved; never during a wait.
        self._lock = threading.Lock()
        self._queue: deque[Message] = deque()
        #: conflate: what waits, by channel, in the order of the channels' turns.
        self._latest: dict[str, Message] = {}
        self._bytes = 0
        #: Holes before the next message of a channel to be taken (drop_oldest) ...
        self._before_taken: dict[str, Gap] = {}
        #: ... and before the next one to be let in (drop_newest).
        self._before_put: dict[str, Gap] = {}
        #: One signal for each thread that waits in take(); released to wake it.
        self._waiting: deque[threading.Lock] = deque()
        self._closed = False
        self._failure: WSClientError | None = None
        self.dropped = 0

    def put(self, messages: Sequence[Message]) -> WSClientError | None:
        """Queue messages, applying the overflow policy, and wake whoever waits.

        Returns the QueueOverflow of ``overflow="error"`` when this put caused it.
        """
        let_in = self._conflate if self._overflow == "conflate" else self._append
        with self._lock:
            if self._closed:
                return None
            failed_before = self._failure is not None
            for message in messages:
                let_in(message)
            self._wake()
            return None if failed_before else self._failure

    def take(self, maximum: int | None, deadline: Deadline, taken: list[Message]) -> None:
        """Move up to ``maximum`` messages into ``taken``; blocks until there is at least one.

        Leaves it empty when the mailbox is closed. Raises WaitTimeout at the deadline, and what
        :meth:`fail` was given once the queue is empty. A KeyboardInterrupt may come at any point:
        the list is the caller's so that it can :meth:`put_back` what it did not get to hand on.
        """
        signal: threading.Lock | None = None
        try:
            while True:
                with self._lock:
                    if self._closed:
                        return
                    if self._queue or self._latest:
                        self._move(maximum, taken)
                        self._wake()
                        return
                    if self._failure is not None:
                        raise self._failure.fresh()
                    signal = threading.Lock()
                    signal.acquire()
                    self._waiting.append(signal)
                if not acquire(signal, deadline):
                    self._stop_waiting(signal)
                    raise WaitTimeout("no message within the timeout")
        except KeyboardInterrupt:
            if signal is not None:
                self._stop_waiting(signal)
            raise

    def put_back(self, taken: list[Message]) -> None:
        """Undo a take() that was interrupted before its messages reached anybody."""
        with self._lock:
            if self._closed:
                return
            for message in reversed(taken):
                if self._overflow == "conflate":
                    newer = self._latest.pop(message.channel, None)
                    if newer is not None and newer is not message:
                        hole = _hole(message, "conflate")
                        newer.gap = hole if newer.gap is None else hole.merge(newer.gap)
                        message = newer
                    self._latest = {message.channel: message, **self._latest}
                elif not (self._queue and self._queue[0] is message):
                    self._queue.appendleft(message)
            self._bytes = sum(map(_cost, self._queue)) + sum(map(_cost, self._latest.values()))
            self._wake()

    def __len__(self) -> int:
        return len(self._queue) + len(self._latest)

    @property
    def queued_bytes(self) -> int:
        """What the queued messages are charged."""
        return self._bytes

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def failure(self) -> WSClientError | None:
        return self._failure

    def pending_gap(self, channel: str) -> Gap | None:
        """A hole made here that no queued message of the channel carries yet."""
        with self._lock:
            return self._before_taken.get(channel) or self._before_put.get(channel)

    def fail(self, error: WSClientError) -> None:
        """No more will come: after what is queued, take() raises ``error``."""
        with self._lock:
            if self._failure is None:
                self._failure = error
            self._wake_all()

    def close(self) -> int:
        """End at once, waking all who wait. Returns how many messages were never taken."""
        with self._lock:
            unread = len(self)
            self._closed = True
            self._queue.clear()
            self._latest.clear()
            self._bytes = 0
            self._wake_all()
        return unread

    # Inside, under the lock.

    def _append(self, message: Message) -> None:
        if self._failure is not None:
            self.dropped += 1
            return
        cost = _cost(message)
        queue = self._queue
        if queue and self._is_full(len(queue), cost):
            if self._overflow == "drop_newest":
                self._drop(message, self._before_put)
                return
            if self._overflow == "error":
                self.dropped += 1
                self._failure = QueueOverflow(
                    f"the queue is full ({len(queue)} messages, {self._bytes} bytes): consume "
                    "faster, raise queue_size or queue_bytes, or choose another overflow policy"
                )
                return
            while queue and self._is_full(len(queue), cost):
                oldest = queue.popleft()
                self._bytes -= _cost(oldest)
                self._drop(oldest, self._before_taken)
        if self._before_put:
            self._mark(message, self._before_put)
        queue.append(message)
        self._bytes += cost

    def _conflate(self, message: Message) -> None:
        latest = self._latest
        older = latest.get(message.channel)
        if older is not None:
            self._bytes -= _cost(older)
            self.dropped += 1
            hole = _hole(older, "conflate")
            message.gap = hole if message.gap is None else hole.merge(message.gap)
        else:
            while latest and self._is_full(len(latest), _cost(message)):
                oldest = latest.pop(next(iter(latest)))
                self._bytes -= _cost(oldest)
                self._drop(oldest, self._before_put)
            self._mark(message, self._before_put)
        latest[message.channel] = message
        self._bytes += _cost(message)

    def _is_full(self, count: int, cost: int) -> bool:
        return count >= self._max_messages or self._bytes + cost > self._max_bytes

    def _drop(self, message: Message, holes: dict[str, Gap]) -> None:
        self.dropped += 1
        hole = _hole(message, "overflow")
        before = holes.get(message.channel)
        holes[message.channel] = hole if before is None else before.merge(hole)

    def _mark(self, message: Message, holes: dict[str, Gap]) -> None:
        hole = holes.pop(message.channel, None)
        if hole is not None:
            message.gap = hole if message.gap is None else hole.merge(message.gap)

    def _move(self, maximum: int | None, taken: list[Message]) -> None:
        # A message stands in ``taken`` before it leaves here: an interrupt between the two finds
        # it in both places, and put_back can tell.
        count = len(self) if maximum is None else min(maximum, len(self))
        queue, latest = self._queue, self._latest
        while len(taken) < count:
            if latest:
                channel, message = next(iter(latest.items()))
                taken.append(message)
                del latest[channel]
            else:
                message = queue[0]
                taken.append(message)
                del queue[0]
            self._bytes -= _cost(message)
            if self._before_taken:
                self._mark(message, self._before_taken)

    def _stop_waiting(self, signal: threading.Lock) -> None:
        with self._lock:
            if signal in self._waiting:
                self._waiting.remove(signal)
            else:
                # It was woken just as it gave up: the next in line must not miss the news.
                self._wake()

    def _wake(self) -> None:
        if self._waiting and (self._queue or self._latest or self._failure is not None):
            self._waiting.popleft().release()

    def _wake_all(self) -> None:
        while self._waiting:
            self._waiting.popleft().release()
