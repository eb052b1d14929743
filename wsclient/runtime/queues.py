"""A bounded, closable queue of messages: the hand-off from the reader to a consumer.

The order within a channel is always kept. A dropped message leaves a gap on the next message of its
channel, whether that is already queued or still to come. The last message of a lost channel, after
which none will come, is never dropped.

Consumers move messages from the queue to the batch under the lock, and take them out of the batch
without it. Messages in the batch are charged like those in the queue.

In a consumer's thread a KeyboardInterrupt may come after any call, at the start of a function and
at a backward jump, but not inside a call that runs only C code. So only such calls move messages,
and no Python function returns one: :meth:`MessageQueue.fill` hands messages out, and the consumer
takes them from a C iterator in the frame that returns them to the user. State that belongs together
is assigned with no call in between, or can be computed again from the messages (``_is_torn``). Only
consumers are interrupted: messages are put, and the queue is closed, on the client's threads.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat, starmap
from operator import itemgetter, methodcaller

from wsclient.errors import QueueOverflow, WaitTimeout, WSClientError
from wsclient.messages import Gap, Message
from wsclient.runtime.forking import forked_error, watch
from wsclient.runtime.gaps import Gaps
from wsclient.runtime.locks import Locks
from wsclient.runtime.waiting import SLICE, Deadline
from wsclient.sansio.measures import Lags
from wsclient.stats import Lag, QueueStats

__all__ = ["MessageQueue"]

#: The most memory of a queued message in addition to its payload (bytes): the object, its fields,
#: its slot and, for a message that came alone, the objects of one socket read (75).
MESSAGE_OVERHEAD = 240
#: The largest batch (messages), and its largest share of the bound (one eighth).
BATCH = 1024
BATCH_SHARE = 8
#: The time (ns) between two messages whose consumer lag is measured.
SAMPLE_EVERY = 10_000_000
#: How long (s) a reader waits for a consumer that it woke; see MessageQueue.pace.
PACE = 0.002

# Written in C, so that no interrupt comes within a step.
_message = itemgetter(1)
_release = methodcaller("release")
_run_all = deque[None](maxlen=0).extend


def _cost(message: Message) -> int:
    return len(message.raw) + MESSAGE_OVERHEAD


def _charge(messages: Iterable[Message]) -> tuple[int, int]:
    """Return the number of ``messages`` and their charge. Consumers may take some meanwhile."""
    held = tuple(messages)
    return len(held), sum(map(_cost, held))


def _is_last(message: Message) -> bool:
    """Return whether ``message`` is the client's own last message of a lost channel."""
    return message.type == "lost" and not message.raw


class MessageQueue:
    """A bounded queue of messages for one or more consumers.

    ``max_messages`` and ``max_bytes`` are its bounds (None: no bound). Each message is charged its
    payload and MESSAGE_OVERHEAD until it is taken. An empty queue accepts one message of any size.

    ``overflow`` is one of ``drop_oldest`` (the oldest that is not in a consumer's batch),
    ``drop_newest``, ``conflate`` (at most one message per channel waits, the newest, in the place
    of the one it replaces) and ``error``. Every call except :meth:`fill` and :meth:`pace` returns
    at once.

    A dropped message leaves a gap: see :class:`wsclient.runtime.gaps.Gaps`, also for ``wanted``.
    """

    def __init__(
        self,
        max_messages: int | None,
        max_bytes: int | None,
        overflow: str,
        batch_size: int = BATCH,
        name: str = "",
        locks: Locks | None = None,
        wanted: Container[str] = (),
    ) -> None:
        self.name = name
        self._max_messages = float("inf") if max_messages is None else max_messages
        self._max_bytes = float("inf") if max_bytes is None else max_bytes
        self.overflow = overflow
        self._batch_size = batch_size
        if max_messages is not None:
            self._batch_size = max(1, min(batch_size, max_messages // BATCH_SHARE))
        #: Protects everything below except _batch, whose own calls are atomic. Held while messages
        #: are moved; never during a wait.
        self._locks = locks or Locks()
        self._new_lock()
        self._queue: deque[Message] = deque()
        #: [messages, bytes charged] of each piece of the queue, a batch's size if possible.
        self._pieces: deque[list[int]] = deque()
        #: With ``conflate``: the waiting messages by channel, in the order in which they leave.
        self._latest: OrderedDict[str, Message] = OrderedDict()
        #: Messages handed out to the consumers. With ``conflate``, put() takes them back.
        self._batch: deque[Message] = deque()
        #: Each step takes the next message out of one of the three; raises IndexError or KeyError
        #: when there is none.
        self._queued = starmap(self._queue.popleft, repeat(()))
        self._conflated = map(_message, starmap(self._latest.popitem, repeat((False,))))
        self.handed_out: Iterator[Message] = starmap(self._batch.popleft, repeat(()))
        #: The charge of all messages, the part of it for the batch, and how many messages of the
        #: batch that part covers.
        self._bytes = 0
        self._batch_bytes = 0
        self._batch_count = 0
        #: True while these counts may not match the contents of the queue and the batch.
        self._is_torn = False
        #: The gaps of dropped messages. The next message carries its gap from when it is put
        #: (drop_newest) or from when it is handed out.
        self._wanted = wanted
        self._gaps = Gaps(wanted)
        self._is_marked_when_put = overflow == "drop_newest"
        #: One signal for each thread that waits in fill(); released to wake it.
        self._waiting: list[threading.Lock] = []
        #: Released when the consumer that put() woke has come for the messages.
        self._collected = threading.Lock()
        self._collected.acquire()
        self._is_paced = False
        self._is_late = False
        self._closed = False
        self._is_roused = False
        self._failure: WSClientError | None = None
        self.dropped = 0
        #: The times from the receipt of a message until it is handed out, measured for the first
        #: message of a batch, at most once per SAMPLE_EVERY.
        self.lags = Lags()
        self._sampled_at = 0
        watch(self)

    # The reader's side.

    def put(self, messages: Sequence[Message], size: int | None = None) -> WSClientError | None:
        """Queue messages, apply the overflow policy, and wake a waiting consumer.

        ``size`` is the total size of their payloads (bytes), if the caller knows it. Returns the
        QueueOverflow of ``overflow="error"`` if this call caused it.
        """
        if size is None:
            size = sum([len(message.raw) for message in messages])
        cost = size + len(messages) * MESSAGE_OVERHEAD
        with self._lock:
            if self._closed:
                return None
            if self._is_torn:
                self._recount()
            failed_before = self._failure is not None
            if failed_before:
                self.dropped += len(messages)
            elif self.overflow == "conflate":
                if self._batch:
                    self._take_back()
                for message in messages:
                    self._conflate(message)
            elif self._is_full(len(messages), cost) or (
                self._is_marked_when_put and self._gaps.are_possible
            ):
                for message in messages:
                    self._append(message)
            else:
                self._queue.extend(messages)
                self._add_piece(len(messages), cost)
                self._bytes += cost
            if self._waiting and not self._is_late:
                self._collected.acquire(blocking=False)
                self._is_paced = True
            self._wake()
            return None if failed_before else self._failure

    def pace(self) -> None:
        """Wait until the consumer that the last put woke has come for the messages, or for PACE.

        Without this the reader, which never stops, takes the interpreter's lock back before the
        consumer gets it, and a message waits for several milliseconds. After a consumer that did
        not come in time, the reader does not wait again until one has come.
        """
        if self._is_paced and not self._collected.acquire(timeout=PACE):
            with self._lock:
                self._is_late, self._is_paced = self._is_paced, False

    # The consumers' side.

    def fill(self, maximum: int | None, deadline: Deadline) -> bool:
        """Hand out messages, which the caller takes from :attr:`handed_out`.

        Hands out all messages if ``maximum`` is None, else at least ``maximum``, or all if there
        are fewer. Blocks until there is one. If another consumer takes it first, call again.
        Returns False when the queue is closed, and once after :meth:`rouse` True without a message.
        Raises WaitTimeout at the deadline, the error of :meth:`fail` once the queue is empty, and
        ReentrantCall if it would wait for a lock that this thread holds.
        """
        if self._is_held():
            self._locks.check()
        signal: threading.Lock | None = None
        try:
            while True:
                with self._lock:
                    if signal in self._waiting:
                        self._waiting.remove(signal)
                    if self._closed:
                        return False
                    if self._hand_out(maximum):
                        # The next consumer may find nothing. But if this one is interrupted before
                        # it takes the message, no other would be woken for it.
                        self._wake()
                        return True
                    if self._is_roused:
                        self._is_roused = False
                        return True
                    if self._failure is not None:
                        raise self._failure.fresh()
                    remaining = deadline.remaining()
                    if not remaining:
                        raise WaitTimeout("no message within the timeout")
                    signal = threading.Lock()
                    signal.acquire()
                    self._waiting.append(signal)
                self._locks.check()
                # In slices: the next check replaces a wake-up that went to a consumer which was
                # interrupted a second time while it gave up.
                signal.acquire(timeout=min(remaining, SLICE))
        except BaseException:  # also an exception from a user's signal handler
            self._give_up(signal)
            raise

    def rouse(self) -> None:
        """Make fill() of the only consumer return, so that it can check something else."""
        with self._lock:
            self._is_roused = True
            self._wake_all()

    def __bool__(self) -> bool:
        return bool(self._batch or self._queue or self._latest)

    def __len__(self) -> int:
        return len(self._batch) + len(self._queue) + len(self._latest)

    @property
    def queued_bytes(self) -> int:
        """The charge of the queued messages (bytes)."""
        self._check()
        with self._lock:
            self._discharge()
            return self._bytes

    def pending_gap(self, channel: str) -> Gap | None:
        """Return a gap made by this queue that no queued message of the channel carries yet."""
        if not self._gaps.are_possible:
            return None
        self._check()
        with self._lock:
            return self._gaps.pending(channel)

    def waits_since(self, channel: str, before: int) -> int | None:
        """Return when the oldest queued message of ``channel`` was received (ns since the epoch).

        None if no such message was received before ``before`` (ns since the epoch).
        """
        with self._lock:
            for message in chain(list(self._batch), self._queue):
                if message.received_at >= before:
                    return None  # so were all messages after it
                if message.channel == channel:
                    return message.received_at
            return None

    def stats(self, now: int) -> tuple[QueueStats, Lags]:
        """Return the statistics at ``now`` (ns since the epoch), and the measured lags."""
        self._check()
        lags = self.lags.copy(self._lock)
        with self._lock:
            self._discharge()
            oldest, lag = self._oldest(now), Lag(lags.total)
            return QueueStats(len(self), self._bytes, oldest, self.dropped, lag), lags

    def forget(self, channel: str) -> None:
        """Drop the measured lags of a channel that is no longer wanted."""
        with self._lock:
            self.lags.forget(channel)

    # Its end.

    @property
    def conflates(self) -> bool:
        """True when newer messages of a channel replace older ones on purpose."""
        return self.overflow == "conflate"

    @property
    def is_closed(self) -> bool:
        return self._closed

    def fail(self, error: WSClientError) -> None:
        """Make fill() raise ``error`` after the messages that are queued."""
        with self._lock:
            if self._failure is None:
                self._failure = error
            self._wake_all()

    def close(self) -> int:
        """Close the queue and wake all waiting threads. Return how many messages are discarded."""
        with self._lock:
            unread = len(self)
            self._closed = True
            for messages in (self._batch, self._queue, self._latest):
                messages.clear()
            self._recount()
            self._wake_all()
        return unread

    def forked(self) -> None:
        """Drop the queued messages in a child process; fill() raises ClientForked there."""
        self._new_lock()  # the holder of the old lock may not exist here
        self.close()
        self._closed = False
        self.fail(forked_error())

    def _check(self) -> None:
        """Raise ReentrantCall if this thread would wait for itself."""
        if self._is_held():
            self._locks.check()

    def _new_lock(self) -> None:
        self._lock = self._locks.new("a queue")
        self._is_held: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]

    # Inside, under the lock.

    def _append(self, message: Message) -> None:
        cost = _cost(message)
        queue = self._queue
        if self._failure is not None:
            self.dropped += 1
            return
        if self and self._is_full(1, cost) and not _is_last(message):
            if self.overflow == "drop_newest":
                self._drop(message)
                return
            if self.overflow == "error":
                self.dropped += 1
                self._failure = QueueOverflow(
                    f"the queue is full ({len(self)} messages, {self._bytes} bytes): consume "
                    "faster, raise queue_size or queue_bytes, or choose another overflow policy"
                )
                return
            kept: list[Message] = []
            while queue and self._is_full(1, cost):
                oldest = queue.popleft()
                self._take_off(1, _cost(oldest))
                if _is_last(oldest):
                    kept.append(oldest)
                    continue
                self._bytes -= _cost(oldest)
                self._drop(oldest)
            if kept:
                queue.extendleft(reversed(kept))
                self._pieces.appendleft([len(kept), sum(map(_cost, kept))])
        if self._is_marked_when_put:
            self._gaps.mark((message,))
        queue.append(message)
        self._add_piece(1, cost)
        self._bytes += cost

    def _conflate(self, message: Message) -> None:
        latest = self._latest
        cost = _cost(message)
        older = latest.get(message.channel)
        if older is not None:
            self._bytes -= _cost(older)
            self._drop(older, "conflate")
        latest[message.channel] = message
        while self._is_full(0, cost):
            others = (m for m in latest.values() if m is not message and not _is_last(m))
            oldest = next(others, None)
            if oldest is None:
                break
            del latest[oldest.channel]
            self._bytes -= _cost(oldest)
            self._drop(oldest)
        self._bytes += cost

    def _is_full(self, count: int, cost: int) -> bool:
        if len(self) + count <= self._max_messages and self._bytes + cost <= self._max_bytes:
            return False
        self._discharge()
        return len(self) + count > self._max_messages or self._bytes + cost > self._max_bytes

    def _discharge(self) -> None:
        """Subtract the charge of the messages that consumers have taken from the batch."""
        if self._is_torn:
            self._recount()
        elif len(self._batch) != self._batch_count:
            count, cost = _charge(self._batch)
            self._bytes += cost - self._batch_bytes
            self._batch_count, self._batch_bytes = count, cost

    def _recount(self) -> None:
        """Compute all counts and charges again from the messages."""
        count, cost = _charge(self._batch)
        queued, queued_cost = _charge(self._queue)
        total = cost + queued_cost + _charge(self._latest.values())[1]
        pieces = deque([[queued, queued_cost]] if queued else [])
        self._batch_count, self._batch_bytes = count, cost
        self._pieces, self._bytes, self._is_torn = pieces, total, False

    def _drop(self, message: Message, reason: str = "overflow") -> None:
        self.dropped += 1
        self._gaps.add(message, reason)

    def _hand_out(self, maximum: int | None) -> bool:
        """Move messages until ``maximum``, or all (None), are in the batch.

        Returns False if the batch is empty.
        """
        batch = self._batch
        wanted = len(self) if maximum is None else maximum
        if len(batch) < wanted and (self._queue or self._latest):
            if self._is_torn:
                self._recount()
            elif not batch:
                self._bytes -= self._batch_bytes
                self._batch_bytes = self._batch_count = 0
            self._is_torn = True
            if self.overflow == "conflate":
                self._move_latest(wanted - len(batch))
            else:
                self._move(wanted)
            self._is_torn = False
        if not batch:
            return False
        self._is_late = False
        if self._is_paced:
            self._is_paced = False
            self._collected.release()
        return True

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

    def _move_latest(self, wanted: int) -> None:
        latest = self._latest
        self._measure(latest.values())
        count = min(wanted, len(latest))
        self._batch_count += count
        self._batch_bytes += sum(map(_cost, islice(latest.values(), count)))
        if self._gaps.are_possible:
            self._gaps.mark(islice(latest.values(), count))
        self._batch.extend(islice(self._conflated, count))

    def _take_back(self) -> None:
        """Put messages that were handed out and not taken back at the front of the queue."""
        left: list[Message] = []
        try:
            left.extend(starmap(self._batch.pop, repeat(())))
        except IndexError:
            pass  # the batch is empty
        self._bytes += sum(map(_cost, left)) - self._batch_bytes
        self._batch_count = self._batch_bytes = 0
        for message in left:
            self._latest[message.channel] = message
            self._latest.move_to_end(message.channel, last=False)

    def _measure(self, messages: Iterable[Message]) -> None:
        """Record how long the first message has been queued, if it came in a frame."""
        now = time.time_ns()
        if 0 <= now - self._sampled_at < SAMPLE_EVERY:
            return
        for message in islice(messages, 1):
            if message.arrival.decoder is not None:
                self._sampled_at = now
                channel, ago = message.channel, now - message.arrival.received_at
                self.lags.record(channel, ago, is_wanted=channel in self._wanted)

    def _oldest(self, now: int) -> float | None:
        """Return the age (s) of the oldest waiting message that came in a frame."""
        # Consumers take from the batch without the lock.
        waiting = chain(list(self._batch), self._queue, self._latest.values())
        brought = (m.received_at for m in waiting if m.arrival.decoder is not None)
        # They are in the order of their receipt, except those that replaced another.
        oldest = min(brought, default=None) if self._latest else next(brought, None)
        return None if oldest is None else (now - oldest) / 1e9

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
            count, cost = limit, sum(map(_cost, islice(self._queue, limit)))
            self._take_off(count, cost)
        return count, cost

    def _add_piece(self, count: int, cost: int) -> None:
        last = self._pieces[-1] if self._pieces else None
        if last is not None and last[0] + count <= self._batch_size:
            last[0] += count
            last[1] += cost
        else:
            self._pieces.append([count, cost])

    def _take_off(self, count: int, cost: int) -> None:
        piece = self._pieces[0]
        piece[0] -= count
        piece[1] -= cost
        if not piece[0]:
            self._pieces.popleft()

    def _give_up(self, signal: threading.Lock | None) -> None:
        with self._lock:
            if signal in self._waiting:
                self._waiting.remove(signal)
            else:
                # The thread was woken just as it gave up: wake the next one instead.
                self._wake()

    def _wake(self) -> None:
        if self._waiting and (self or self._failure is not None):
            self._release(1)

    def _wake_all(self) -> None:
        self._release(len(self._waiting))

    def _release(self, count: int) -> None:
        _run_all(map(_release, starmap(self._waiting.pop, repeat((0,), count))))
