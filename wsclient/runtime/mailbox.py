"""A bounded, closable queue of messages: the hand-off from the reader to a caller.

Within a channel the order is always kept, and what is dropped leaves its gap on the next message
of its channel, be that one queued already or still to come.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import islice, repeat, starmap
from operator import itemgetter, methodcaller

from wsclient.errors import QueueOverflow, WaitTimeout, WSClientError
from wsclient.messages import Gap, Message
from wsclient.runtime.waiting import Deadline, acquire

__all__ = ["Mailbox"]

#: What a queued message costs beside its payload (bytes): the object, its fields, its slot.
MESSAGE_OVERHEAD = 150

# A KeyboardInterrupt can come between any two calls, but not inside one that is all in C. So
# whatever must not be torn is one such call.
_message = itemgetter(1)
_release = methodcaller("release")
_run_all = deque[None](maxlen=0).extend


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
        self._latest: OrderedDict[str, Message] = OrderedDict()
        #: Each step takes the next message out of one of the two.
        self._queued = starmap(self._queue.popleft, repeat(()))
        self._conflated = map(_message, starmap(self._latest.popitem, repeat((False,))))
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
                if self._failure is None:
                    let_in(message)
                else:
                    self.dropped += 1
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
        except BaseException:  # also what a signal handler of the user's raises
            if signal is not None:
                self._stop_waiting(signal)
            raise

    def put_back(self, taken: list[Message]) -> None:
        """Undo a take() that was interrupted before its messages reached anybody."""
        with self._lock:
            if self._closed:
                return
            for message in reversed(taken):
                if self._overflow != "conflate":
                    self._queue.appendleft(message)
                    continue
                newer = self._latest.setdefault(message.channel, message)
                if newer is not message:
                    self._replace(message, newer)
                self._latest.move_to_end(message.channel, last=False)
            for channel in {message.channel for message in taken} & self._before_taken.keys():
                self._pass_on(channel, len(taken))
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
            earlier, later = self._before_taken.get(channel), self._before_put.get(channel)
        return later if earlier is None else earlier.merge(later)

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
        cost = _cost(message)
        if self._before_put:
            self._mark(message, self._before_put)
        older = latest.get(message.channel)
        if older is not None:
            self._bytes -= _cost(older)
            self._replace(older, message)
        latest[message.channel] = message
        while len(latest) > 1 and self._is_full(len(latest) - 1, cost):
            first, second = islice(latest, 2)
            oldest = latest.pop(second if first == message.channel else first)
            self._bytes -= _cost(oldest)
            self._drop(oldest, self._before_put)
        self._bytes += cost

    def _is_full(self, count: int, cost: int) -> bool:
        return count >= self._max_messages or self._bytes + cost > self._max_bytes

    def _drop(self, message: Message, holes: dict[str, Gap]) -> None:
        self.dropped += 1
        hole = _hole(message, "overflow")
        before = holes.get(message.channel)
        holes[message.channel] = hole if before is None else before.merge(hole)

    def _replace(self, older: Message, newer: Message) -> None:
        self.dropped += 1
        newer.gap = _hole(older, "conflate").merge(newer.gap)

    def _mark(self, message: Message, holes: dict[str, Gap]) -> None:
        hole = holes.get(message.channel)
        if hole is not None:
            # No call, and so no interrupt, between these two.
            message.gap = hole.merge(message.gap)
            del holes[message.channel]

    def _pass_on(self, channel: str, skip: int) -> None:
        """Messages of ``channel`` came back before a hole that is marked on what follows them."""
        for message in islice(self._queue, skip, None):
            if message.channel == channel:
                self._mark(message, self._before_taken)
                break
        else:
            self._before_put[channel] = self._before_taken.pop(channel)

    def _move(self, maximum: int | None, taken: list[Message]) -> None:
        count = len(self) if maximum is None else min(maximum, len(self))
        if self._before_taken:
            for message in islice(self._queue, count):
                self._mark(message, self._before_taken)
        taken.extend(islice(self._conflated if self._latest else self._queued, count))
        for message in taken:
            self._bytes -= _cost(message)

    def _stop_waiting(self, signal: threading.Lock) -> None:
        with self._lock:
            if signal in self._waiting:
                self._waiting.remove(signal)
            else:
                # It was woken just as it gave up: the next in line must not miss the news.
                self._wake()

    def _wake(self) -> None:
        if self._waiting and (self._queue or self._latest or self._failure is not None):
            self._release(1)

    def _wake_all(self) -> None:
        self._release(len(self._waiting))

    def _release(self, count: int) -> None:
        _run_all(map(_release, starmap(self._waiting.popleft, repeat((), count))))
