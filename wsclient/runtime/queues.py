"""A bounded, closable queue of messages: the hand-off from the reader to a caller.

Within a channel the order is always kept, and what is dropped leaves its gap on the next message
of its channel, be that one queued already or still to come. The last message of a lost channel,
after which none will come, is never dropped.

Consumers move messages from the queue to the batch, under the lock, and take them out of the batch
without it. What is in the batch is charged as what is in the queue.

A KeyboardInterrupt may come in a consumer's thread after any call, at a function's start and at a
jump back, but not inside a call that is all in C. So messages are moved by such calls only, and
nobody is given one by a call that returns: :meth:`MessageQueue.fill` hands them out, and the
consumer takes them from a C iterator in the very frame that returns them. State that belongs
together is assigned with no call in between, or can be found again from the messages
(``_is_torn``). Only consumers are interrupted: messages are put, and the queue is closed, on the
client's threads.
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

#: What a queued message costs at most beside its payload (bytes): the object, its fields, its
#: slot, and, of a message that came alone, all that one socket read costs (75).
MESSAGE_OVERHEAD = 240
#: The largest batch, in messages; and at most this part of the bound.
BATCH = 1024
BATCH_SHARE = 8
#: The time (ns) between two messages whose time in here is measured.
SAMPLE_EVERY = 10_000_000
#: How long (s) a reader waits for a consumer that it woke; see MessageQueue.pace.
PACE = 0.002

# In C, as whatever an interrupt must not tear.
_message = itemgetter(1)
_release = methodcaller("release")
_run_all = deque[None](maxlen=0).extend


def _cost(message: Message) -> int:
    return len(message.raw) + MESSAGE_OVERHEAD


def _charge(messages: Iterable[Message]) -> tuple[int, int]:
    """Return the number of ``messages`` and their charge. Others may take them meanwhile."""
    held = tuple(messages)
    return len(held), sum(map(_cost, held))


def _is_last(message: Message) -> bool:
    """True for the client's own last message of a lost channel."""
    return message.type == "lost" and not message.raw


class MessageQueue:
    """``max_messages`` and ``max_bytes`` bound it (None: no bound), each message charged its
    payload and MESSAGE_OVERHEAD until it is taken. One message is always let in, however large.

    ``overflow`` is one of ``drop_oldest`` (of those not in a consumer's batch), ``drop_newest``,
    ``conflate`` (at most one waiting a channel, the newest, in the place of the one it replaces)
    and ``error``. Every call but :meth:`fill` and :meth:`pace` returns at once.

    What is dropped leaves a gap: see :class:`wsclient.runtime.gaps.Gaps`, also for ``wanted``.
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
        #: Protects all below, but for _batch, whose own calls are atomic. Held while messages are
        #: moved; never during a wait.
        self._locks = locks or Locks()
        self._new_lock()
        self._queue: deque[Message] = deque()
        #: [messages, bytes charged] of each piece of the queue, of a batch's size where possible.
        self._pieces: deque[list[int]] = deque()
        #: conflate: what waits, by channel, in the order of the channels' turns.
        self._latest: OrderedDict[str, Message] = OrderedDict()
        #: Handed out to the consumers. A message that is put takes it back with ``conflate``.
        self._batch: deque[Message] = deque()
        #: Each step takes the next message out of one of the three; IndexError or KeyError when
        #: there is none.
        self._queued = starmap(self._queue.popleft, repeat(()))
        self._conflated = map(_message, starmap(self._latest.popitem, repeat((False,))))
        self.handed_out: Iterator[Message] = starmap(self._batch.popleft, repeat(()))
        #: What all is charged, and how much of it for how many that were in the batch.
        self._bytes = 0
        self._batch_bytes = 0
        self._batch_count = 0
        #: The account of the queue and of the batch may not be what they hold.
        self._is_torn = False
        #: Of messages dropped, for the next one to be let in (drop_newest) or to be handed out.
        self._wanted = wanted
        self._gaps = Gaps(wanted)
        self._is_marked_when_put = overflow == "drop_newest"
        #: One signal for each thread that waits in fill(); released to wake it.
        self._waiting: list[threading.Lock] = []
        #: Released when the consumer that a put woke has come for the messages.
        self._collected = threading.Lock()
        self._collected.acquire()
        self._is_paced = False
        self._is_late = False
        self._closed = False
        self._is_roused = False
        self._failure: WSClientError | None = None
        self.dropped = 0
        #: From the receipt of a message to its being handed out; of the first of a batch, and of
        #: one in SAMPLE_EVERY.
        self.lags = Lags()
        self._sampled_at = 0
        watch(self)

    # The reader's side.

    def put(self, messages: Sequence[Message], size: int | None = None) -> WSClientError | None:
        """Queue messages, applying the overflow policy, and wake whoever waits.

        ``size`` is that of their payloads together (bytes), for a caller that knows it. Returns the
        QueueOverflow of ``overflow="error"`` when this put caused it.
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
        """Give way to the consumer that the last put woke, until it has come for the messages.

        Without this the reader, which never stops, takes the interpreter's lock back before the
        consumer gets it, and a message waits for several milliseconds. One that does not come in
        time is not waited for again until it does.
        """
        if self._is_paced and not self._collected.acquire(timeout=PACE):
            with self._lock:
                self._is_late, self._is_paced = self._is_paced, False

    # The consumers' side.

    def fill(self, maximum: int | None, deadline: Deadline) -> bool:
        """Hand out ``maximum`` messages, or all (None), for :attr:`handed_out` to take. Blocks
        until there is one.

        Another consumer may be faster to take it: then call again. Returns False when the queue
        is closed, and True with nothing handed out once after :meth:`rouse`. Raises WaitTimeout at
        the deadline, what :meth:`fail` was given once the queue is empty, and ReentrantCall where
        it would wait for what this thread holds.
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
                        # The next in line may find nothing; but should we be interrupted before
                        # we take it, nobody else would be woken for this message.
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
                # In slices, at the end of which a wake-up is made up for that went to one who was
                # interrupted again as it gave up.
                signal.acquire(timeout=min(remaining, SLICE))
        except BaseException:  # also what a signal handler of the user's raises
            self._give_up(signal)
            raise

    def rouse(self) -> None:
        """Have the one consumer look at something else: its fill() returns."""
        with self._lock:
            self._is_roused = True
            self._wake_all()

    def __bool__(self) -> bool:
        return bool(self._batch or self._queue or self._latest)

    def __len__(self) -> int:
        return len(self._batch) + len(self._queue) + len(self._latest)

    @property
    def queued_bytes(self) -> int:
        """What the queued messages are charged."""
        self._check()
        with self._lock:
            self._discharge()
            return self._bytes

    def pending_gap(self, channel: str) -> Gap | None:
        """A gap made here that no queued message of the channel carries yet."""
        if not self._gaps.are_possible:
            return None
        self._check()
        with self._lock:
            return self._gaps.pending(channel)

    def waits_since(self, channel: str, before: int) -> int | None:
        """When the oldest message of ``channel`` in here was received; None where there is none
        that was received before ``before`` (ns since the epoch)."""
        with self._lock:
            for message in chain(list(self._batch), self._queue):
                if message.received_at >= before:
                    return None  # so was what is behind it
                if message.channel == channel:
                    return message.received_at
            return None

    def stats(self, now: int) -> tuple[QueueStats, Lags]:
        """What waits at ``now`` (ns since the epoch), and all that was measured."""
        self._check()
        lags = self.lags.copy(self._lock)
        with self._lock:
            self._discharge()
            oldest, lag = self._oldest(now), Lag(lags.total)
            return QueueStats(len(self), self._bytes, oldest, self.dropped, lag), lags

    def forget(self, channel: str) -> None:
        """Drop the measures of a channel that is no longer wanted."""
        with self._lock:
            self.lags.forget(channel)

    # Its end.

    @property
    def conflates(self) -> bool:
        """True when messages are dropped on purpose, by newer ones of their channel."""
        return self.overflow == "conflate"

    @property
    def is_closed(self) -> bool:
        return self._closed

    def fail(self, error: WSClientError) -> None:
        """No more will come: after what is queued, fill() raises ``error``."""
        with self._lock:
            if self._failure is None:
                self._failure = error
            self._wake_all()

    def close(self) -> int:
        """End at once, waking all who wait. Returns how many messages were never taken."""
        with self._lock:
            unread = len(self)
            self._closed = True
            for messages in (self._batch, self._queue, self._latest):
                messages.clear()
            self._recount()
            self._wake_all()
        return unread

    def forked(self) -> None:
        """In a child process: drop what is queued; fill() raises ClientForked."""
        self._new_lock()  # the old one's holder may not exist here
        self.close()
        self._closed = False
        self.fail(forked_error())

    def _check(self) -> None:
        """Raise ReentrantCall where this thread would wait for itself."""
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
        """Take off what has been consumed of the batch."""
        if self._is_torn:
            self._recount()
        elif len(self._batch) != self._batch_count:
            count, cost = _charge(self._batch)
            self._bytes += cost - self._batch_bytes
            self._batch_count, self._batch_bytes = count, cost

    def _recount(self) -> None:
        """Find the whole account again from the messages."""
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
        """Move messages until ``maximum`` or all (None) are in the batch. False if it is empty."""
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
            if len(queue) <= limit and not self._batch_count:  # as nearly always: they are all
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
        """Queue again, before all others, what was handed out and not taken."""
        left: list[Message] = []
        try:
            left.extend(starmap(self._batch.pop, repeat(())))
        except IndexError:
            pass  # that was all
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
        """The age (s) of the oldest message that a frame brought."""
        # Consumers take from the batch without the lock.
        waiting = chain(list(self._batch), self._queue, self._latest.values())
        brought = (m.received_at for m in waiting if m.arrival.decoder is not None)
        # In the order of their coming, but for those that replaced another.
        oldest = min(brought, default=None) if self._latest else next(brought, None)
        return None if oldest is None else (now - oldest) / 1e9

    def _next_pieces(self, limit: int) -> tuple[int, int]:
        """Take whole pieces off the account of the queue, or a part of one that is larger than
        ``limit`` (messages). Returns how many messages they are, and what they are charged."""
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
                # It was woken just as it gave up: wake the next in line instead.
                self._wake()

    def _wake(self) -> None:
        if self._waiting and (self or self._failure is not None):
            self._release(1)

    def _wake_all(self) -> None:
        self._release(len(self._waiting))

    def _release(self, count: int) -> None:
        _run_all(map(_release, starmap(self._waiting.pop, repeat((0,), count))))
