"""A bounded, closable queue of messages: the hand-off from the reader to a caller.

Within a channel the order is always kept, and what is dropped leaves its gap on the next message
of its channel, be that one queued already or still to come. The last message of a lost channel,
after which none will come, is never dropped.

Consumers take messages out of the queue by the batch, under the lock, and the messages out of the
batch one by one, without it. What is in the batch is charged as what is in the queue.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat, starmap
from operator import itemgetter, methodcaller

from wsclient.errors import QueueOverflow, WaitTimeout, WSClientError
from wsclient.messages import Gap, Message
from wsclient.runtime.forking import forked_error, watch
from wsclient.runtime.waiting import Deadline, acquire
from wsclient.sansio.measures import Lags
from wsclient.stats import Lag, QueueStats

__all__ = ["Mailbox"]

#: What a queued message costs at most beside its payload (bytes): the object, its fields, its
#: slot, and, of a message that came alone, all that one socket read costs (75).
MESSAGE_OVERHEAD = 240
#: The largest batch, in messages; and at most this part of the bound.
BATCH = 1024
BATCH_SHARE = 8
#: The time (ns) between two messages whose time in here is measured.
SAMPLE_EVERY = 10_000_000
#: How long (s) a reader waits for a consumer that it woke; see Mailbox.pace.
PACE = 0.002

# A KeyboardInterrupt can come between any two calls, but not inside one that is all in C. So
# whatever must not be torn is one such call.
_message = itemgetter(1)
_release = methodcaller("release")
_run_all = deque[None](maxlen=0).extend


def _cost(message: Message) -> int:
    return len(message.raw) + MESSAGE_OVERHEAD


def _since(message: Message) -> int | None:
    """When the last message came before this one and the hole that it carries."""
    return message.previous_at if message.gap is None else message.gap.since


def _is_last(message: Message) -> bool:
    """Is it the client's own word on a lost channel?"""
    return message.type == "lost" and not message.raw


class _Hole:
    """Messages of one channel dropped in a row, counted as cheaply as they may come."""

    __slots__ = ("dropped", "gap", "reason", "since")

    def __init__(self, reason: str, since: int | None) -> None:
        self.reason = reason
        self.since = since
        self.dropped = 0
        self.gap: Gap | None = None

    def add(self, message: Message) -> None:
        """One more, with the gap that it carries itself."""
        self.dropped += 1
        if message.gap is not None:
            self.dropped -= message.gap.reason == "duplicate"  # it has come before
            self.gap = message.gap if self.gap is None else self.gap.merge(message.gap)

    def absorb(self, later: _Hole | None) -> None:
        """The hole right after this one is part of it."""
        if later is not None:
            gap = later.merged(None)
            self.gap = gap if self.gap is None else self.gap.merge(gap)

    def merged(self, later: Gap | None) -> Gap:
        hole = Gap(self.reason, self.dropped, self.since).merge(self.gap)
        return hole.merge(later)


class Mailbox:
    """``max_messages`` and ``max_bytes`` bound it (None: no bound), each message charged its
    payload and MESSAGE_OVERHEAD until it is taken. One message is always let in, however large.

    ``overflow`` is one of ``drop_oldest`` (of those not in a consumer's batch), ``drop_newest``,
    ``conflate`` (at most one waiting a channel, the newest, in the place of the one it replaces)
    and ``error``. Every call but :meth:`take` and :meth:`pace` returns at once.
    """

    def __init__(
        self,
        max_messages: int | None,
        max_bytes: int | None,
        overflow: str,
        batch_size: int = BATCH,
        name: str = "",
    ) -> None:
        self.name = name
        self._max_messages = float("inf") if max_messages is None else max_messages
        self._max_bytes = float("inf") if max_bytes is None else max_bytes
        self._overflow = overflow
        self._batch_size = batch_size
        if max_messages is not None:
            self._batch_size = max(1, min(batch_size, max_messages // BATCH_SHARE))
        #: Protects all below, but for _batch, whose own calls are atomic. Held while messages are
        #: moved; never during a wait.
        self._lock = threading.Lock()
        self._queue: deque[Message] = deque()
        #: [messages, bytes charged] of each piece of the queue, of a batch's size where possible.
        self._pieces: deque[list[int]] = deque()
        #: conflate: what waits, by channel, in the order of the channels' turns.
        self._latest: OrderedDict[str, Message] = OrderedDict()
        #: Handed out to the consumers; empty with ``conflate``.
        self._batch: deque[Message] = deque()
        #: Each step takes the next message out of one of the three.
        self._queued = starmap(self._queue.popleft, repeat(()))
        self._conflated = map(_message, starmap(self._latest.popitem, repeat((False,))))
        self.handed_out: Iterator[Message] = starmap(self._batch.popleft, repeat(()))
        #: What all is charged, and how much of it for how many that were in the batch.
        self._bytes = 0
        self._batch_bytes = 0
        self._batch_count = 0
        #: Holes before the next message of a channel to be taken (drop_oldest, conflate) ...
        self._before_taken: dict[str, _Hole] = {}
        #: ... and before the next one to be let in (drop_newest).
        self._before_put: dict[str, _Hole] = {}
        #: One signal for each thread that waits in take(); released to wake it.
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
            failed_before = self._failure is not None
            if failed_before:
                self.dropped += len(messages)
            elif self._overflow == "conflate":
                for message in messages:
                    self._conflate(message)
            elif self._before_put or self._is_full(len(messages), cost):
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

    def take(self, maximum: int | None, deadline: Deadline, taken: list[Message]) -> None:
        """Move up to ``maximum`` messages into ``taken``; blocks until there is at least one.

        Leaves it empty when the mailbox is closed, and once after :meth:`rouse`. Raises WaitTimeout
        at the deadline, and what :meth:`fail` was given once the queue is empty. A
        KeyboardInterrupt may come at any point: the list is the caller's so that it can
        :meth:`put_back` what it did not get to hand on.
        """
        signal: threading.Lock | None = None
        try:
            while True:
                with self._lock:
                    if self._closed:
                        return
                    self._move(maximum, taken)
                    if taken:
                        self._wake()
                        return
                    if self._is_roused:
                        self._is_roused = False
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
            with self._lock:
                self._count_bytes()  # it may have been torn between a message and its account
            raise

    def rouse(self) -> None:
        """Have the one consumer look at something else: its take() returns, empty if need be."""
        with self._lock:
            self._is_roused = True
            self._wake_all()

    def put_back(self, taken: list[Message]) -> None:
        """Undo a take() that was interrupted before its messages reached anybody."""
        with self._lock:
            if self._closed:
                return
            if self._overflow != "conflate":
                self._requeue(taken)
                taken = []
            for message in reversed(taken):
                newer = self._latest.setdefault(message.channel, message)
                if newer is message:
                    self._postpone(message.channel)
                else:
                    self._drop(message, self._before_taken, "conflate").since = _since(message)
                self._latest.move_to_end(message.channel, last=False)
            self._count_bytes()
            self._wake()

    def __bool__(self) -> bool:
        return bool(self._batch or self._queue or self._latest)

    def __len__(self) -> int:
        return len(self._batch) + len(self._queue) + len(self._latest)

    @property
    def queued_bytes(self) -> int:
        """What the queued messages are charged."""
        with self._lock:
            self._discharge()
            return self._bytes

    def pending_gap(self, channel: str) -> Gap | None:
        """A hole made here that no queued message of the channel carries yet."""
        if not (self._before_taken or self._before_put):
            return None  # as nearly always
        with self._lock:
            earlier, later = self._before_taken.get(channel), self._before_put.get(channel)
            gap = None if later is None else later.merged(None)
            return gap if earlier is None else earlier.merged(gap)

    def waits_since(self, channel: str, before: int) -> int | None:
        """When the oldest message of ``channel`` in here was received; None where there is none
        that was received before ``before`` (ns since the epoch)."""
        with self._lock:
            for message in chain(tuple(self._batch), self._queue):
                if message.received_at >= before:
                    return None  # so was what is behind it
                if message.channel == channel:
                    return message.received_at
            return None

    def stats(self, now: int) -> tuple[QueueStats, Lags]:
        """What waits at ``now`` (ns since the epoch), and all that was measured."""
        lags = self.lags.copy(self._lock)
        with self._lock:
            self._discharge()
            oldest, lag = self._oldest(now), Lag(lags.total)
            return QueueStats(len(self), self._bytes, oldest, self.dropped, lag), lags

    def forget(self, channel: str) -> None:
        """The channel is wanted no longer: measure it anew, should it come back."""
        with self._lock:
            self.lags.forget(channel)

    # Its end.

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def failure(self) -> WSClientError | None:
        return self._failure

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
            for messages in (self._batch, self._queue, self._latest):
                messages.clear()
            self._count_bytes()
            self._wake_all()
        return unread

    def forked(self) -> None:
        """In a child process: what is queued is the parent's, and take() says so."""
        self._lock = threading.Lock()  # its holder may not exist here
        self.close()
        self._closed = False
        self.fail(forked_error())

    # Inside, under the lock.

    def _append(self, message: Message) -> None:
        cost = _cost(message)
        queue = self._queue
        if self._failure is not None:
            self.dropped += 1
            return
        if self and self._is_full(1, cost) and not _is_last(message):
            if self._overflow == "drop_newest":
                self._drop(message, self._before_put)
                return
            if self._overflow == "error":
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
                self._drop(oldest, self._before_taken)
            if kept:
                queue.extendleft(reversed(kept))
                self._pieces.appendleft([len(kept), sum(map(_cost, kept))])
        if self._before_put:
            self._mark(message, self._before_put)
        queue.append(message)
        self._add_piece(1, cost)
        self._bytes += cost

    def _conflate(self, message: Message) -> None:
        latest = self._latest
        cost = _cost(message)
        older = latest.get(message.channel)
        if older is not None:
            self._bytes -= _cost(older)
            self._drop(older, self._before_taken, "conflate")
        if self._before_put:
            self._mark(message, self._before_put)
        latest[message.channel] = message
        while self._is_full(0, cost):
            others = (m for m in latest.values() if m is not message and not _is_last(m))
            oldest = next(others, None)
            if oldest is None:
                break
            del latest[oldest.channel]
            self._bytes -= _cost(oldest)
            self._drop(oldest, self._before_taken)
        self._bytes += cost

    def _is_full(self, count: int, cost: int) -> bool:
        if len(self) + count <= self._max_messages and self._bytes + cost <= self._max_bytes:
            return False
        self._discharge()
        return len(self) + count > self._max_messages or self._bytes + cost > self._max_bytes

    def _discharge(self) -> None:
        """Take off what has been consumed of the batch."""
        if len(self._batch) != self._batch_count:
            charged = self._batch_bytes
            self._count_batch()
            self._bytes -= charged - self._batch_bytes

    def _count_batch(self) -> None:
        left = tuple(self._batch)
        self._batch_bytes = sum(map(_cost, left))
        self._batch_count = len(left)

    def _drop(self, message: Message, holes: dict[str, _Hole], reason: str = "overflow") -> _Hole:
        self.dropped += 1
        hole = holes.get(message.channel)
        if hole is None:
            hole = holes[message.channel] = _Hole(reason, _since(message))
        elif reason == "overflow":
            hole.reason = reason
        hole.add(message)
        return hole

    def _mark(self, message: Message, holes: dict[str, _Hole]) -> None:
        hole = holes.get(message.channel)
        if hole is not None:
            gap = hole.merged(message.gap)
            # No call, and so no interrupt, between these two.
            message.gap = gap
            del holes[message.channel]

    def _move(self, maximum: int | None, taken: list[Message]) -> None:
        wanted = len(self) if maximum is None else maximum
        if self._overflow == "conflate":
            self._move_latest(wanted, taken)
        else:
            if len(self._batch) < wanted:
                self._hand_out(max(wanted, self._batch_size))
            try:
                taken.extend(islice(self.handed_out, wanted))
            except IndexError:
                pass  # that was all; other consumers take from the batch too
        if taken:
            self._is_late = False
            if self._is_paced:
                self._is_paced = False
                self._collected.release()

    def _move_latest(self, count: int, taken: list[Message]) -> None:
        count = min(count, len(self._latest))
        self._measure(self._latest.values())
        for message in islice(self._latest.values(), count):
            self._bytes -= _cost(message)
            self._mark(message, self._before_taken)
        taken.extend(islice(self._conflated, count))

    def _hand_out(self, count: int) -> None:
        self._measure(self._queue)
        if not self._batch:
            self._bytes -= self._batch_bytes
            self._batch_bytes = self._batch_count = 0
        count, cost = self._next_pieces(count)
        self._batch_count += count
        self._batch_bytes += cost
        if self._before_taken:
            for message in islice(self._queue, count):
                self._mark(message, self._before_taken)
        self._batch.extend(islice(self._queued, count))

    def _measure(self, messages: Iterable[Message]) -> None:
        """How long the first of them has been here, if a frame brought it."""
        now = time.time_ns()
        if 0 <= now - self._sampled_at < SAMPLE_EVERY:
            return
        for message in islice(messages, 1):
            if message.arrival.decoder is not None:
                self._sampled_at = now
                self.lags.record(message.channel, now - message.arrival.received_at)

    def _oldest(self, now: int) -> float | None:
        """The age (s) of the oldest message that a frame brought."""
        # Consumers take from the batch without the lock.
        waiting = chain(tuple(self._batch), self._queue, self._latest.values())
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

    def _requeue(self, taken: list[Message]) -> None:
        """Back to the front of the queue, and with them what is left of the batch behind them."""
        returned = list(taken)
        try:
            while True:
                returned.insert(len(taken), self._batch.pop())
        except IndexError:
            pass
        self._queue.extendleft(reversed(returned))
        # They came before the holes that wait: those belong to what follows them.
        for channel in {message.channel for message in returned} & self._before_taken.keys():
            for message in islice(self._queue, len(returned), None):
                if message.channel == channel:
                    self._mark(message, self._before_taken)
                    break
            else:
                self._postpone(channel)

    def _postpone(self, channel: str) -> None:
        """The hole that waits is not before what is queued of the channel, but after it."""
        hole = self._before_taken.pop(channel, None)
        if hole is not None:
            hole.absorb(self._before_put.get(channel))
            self._before_put[channel] = hole

    def _count_bytes(self) -> None:
        self._count_batch()
        queued = sum(map(_cost, tuple(self._queue)))
        self._pieces.clear()
        if queued:
            self._pieces.append([len(self._queue), queued])
        self._bytes = self._batch_bytes + queued + sum(map(_cost, self._latest.values()))

    def _stop_waiting(self, signal: threading.Lock) -> None:
        with self._lock:
            if signal in self._waiting:
                self._waiting.remove(signal)
            else:
                # It was woken just as it gave up: the next in line must not miss the news.
                self._wake()

    def _wake(self) -> None:
        if self._waiting and (self or self._failure is not None):
            self._release(1)

    def _wake_all(self) -> None:
        self._release(len(self._waiting))

    def _release(self, count: int) -> None:
        _run_all(map(_release, starmap(self._waiting.pop, repeat((0,), count))))
