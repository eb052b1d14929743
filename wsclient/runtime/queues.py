"""A bounded, closable queue of messages: the hand-off from the reader to a consumer.

The order within a channel is always kept. A dropped message leaves a gap on the next message of its
channel, whether that is already queued or still to come. The last message of a lost channel, after
which none will come, is never dropped.

Consumers move messages from the queue to the batch under the lock, and take them out of the batch
without it. The bounds apply to the queue; what is in the batch belongs to the consumers. A batch is
as large as a consumer asks for, or about an eighth of the bounds if that is more.

A queue may have declared types. Then a consumer decodes the first messages of the queue without the
lock, since code of the user may run, and stores the data in the messages under the lock. Only
decoded messages enter the batch. One that does not fit its type leaves the queue and is counted as
``invalid`` in a gap. What is dropped before it comes to the head of the queue costs no decoding.

Only consumers are interrupted (see :mod:`wsclient.threads.pops`): messages are put, and the queue
is closed, on the client's threads. :meth:`MessageQueue.fill` hands messages out, and the consumer
takes them from :attr:`MessageQueue.handed_out` in the frame that returns them to the user. State
that belongs together is assigned with no call in between, or can be computed again from the
messages (``_is_torn``).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from itertools import chain, islice
from threading import get_ident
from typing import Any

from wsclient.errors import WaitTimeout, WSClientError
from wsclient.messages import Gap, Message
from wsclient.runtime.decoding import Outcome, decoded, fitting, store
from wsclient.runtime.gaps import Gaps
from wsclient.runtime.pacing import Handover, Pacer
from wsclient.stream.declared import Types
from wsclient.telemetry.histogram import Lags
from wsclient.telemetry.stats import Lag, QueueStats
from wsclient.threads.forking import forked_error, watch
from wsclient.threads.locks import Locks
from wsclient.threads.pops import pops
from wsclient.threads.waiting import Deadline
from wsclient.threads.waitlist import WaitList, new_signal, pause

__all__ = ["BATCH", "MessageQueue", "charge", "cost_of", "is_last"]

#: The most memory of a queued message in addition to its payload (bytes): the object, its fields,
#: its slot and, for a message that came alone, the objects of one socket read (75).
MESSAGE_OVERHEAD = 240
#: The largest batch (messages) that no consumer asked for, and its largest share of the bounds (one
#: eighth).
BATCH = 1024
BATCH_SHARE = 8
#: About how many bytes are decoded at once to declared types. The objects of more, all alive at
#: once, would burden the garbage collector and the processor's cache; and the first message waits
#: until all are decoded.
DECODED_AT_ONCE = 32 * 1024
#: The time (ns) between two messages whose consumer lag is measured.
SAMPLE_EVERY = 10_000_000


def cost_of(message: Message) -> int:
    """Return the charge of a message (bytes)."""
    return len(message.raw) + MESSAGE_OVERHEAD


def charge(messages: Iterable[Message]) -> int:
    """Return the charge of ``messages`` (bytes)."""
    sizes = [len(message.raw) for message in messages]
    return sum(sizes) + len(sizes) * MESSAGE_OVERHEAD


def is_last(message: Message) -> bool:
    """Return whether ``message`` is the client's own last message of a lost channel."""
    return message.type == "lost" and not message.raw


class MessageQueue:
    """A bounded queue of messages for one or more consumers: the hand-off of every policy.

    ``max_messages`` and ``max_bytes`` are its bounds (None: no bound). Each message is charged its
    payload and MESSAGE_OVERHEAD until it is handed out. An empty queue accepts one message of any
    size. Every call except :meth:`fill` returns at once.

    A subclass keeps the waiting messages in a ``store``, which ``waiting_messages`` shows in the
    order in which they leave; each step of ``leaving`` takes out the next one, whose key ``_key``
    returns. It says how messages enter it (``_add``). A dropped message leaves a gap: see
    :class:`wsclient.runtime.gaps.Gaps`, also for ``wanted``.

    ``types`` are the declared types. ``report`` is called, without the lock, while misfits are not
    reported: messages that did not fit their type.
    """

    __slots__ = (
        "__weakref__",
        "_batch",
        "_batch_bytes",
        "_batch_size",
        "_bytes",
        "_failure",
        "_gaps",
        "_gaps_at_head",
        "_handover",
        "_is_finished",
        "_is_held",
        "_is_roused",
        "_is_torn",
        "_leaving",
        "_lock",
        "_locks",
        "_max_bytes",
        "_max_messages",
        "_report",
        "_sampled_at",
        "_store",
        "_time_ns",
        "_waiting_messages",
        "_wanted",
        "consumer",
        "dropped",
        "give",
        "handed_out",
        "is_closed",
        "is_doubled",
        "is_used",
        "lags",
        "name",
        "overflowed",
        "pull",
        "pull_one",
        "take_back",
        "types",
        "waiting",
    )

    #: What happens when the queue is full; the option ``overflow``.
    overflow: str
    #: The messages leave in the order of their receipt.
    is_in_order = True

    def __init__(
        self,
        store: deque[Message] | OrderedDict[str, Message],
        waiting_messages: Collection[Message],
        leaving: Iterator[Message],
        max_messages: int | None,
        max_bytes: int | None,
        batch_size: int = BATCH,
        name: str = "",
        locks: Locks | None = None,
        wanted: Container[str] = (),
        pacer: Pacer | None = None,
        time_ns: Callable[[], int] | None = None,
        types: Types | None = None,
        report: Callable[[Gaps], object] | None = None,
    ) -> None:
        self.name = name
        self.types = types
        self._report = report
        #: The clock of the messages' receive times (ns since the epoch).
        self._time_ns = time_ns or time.time_ns
        self._max_messages = float("inf") if max_messages is None else max_messages
        self._max_bytes = float("inf") if max_bytes is None else max_bytes
        #: The bounds of a batch that no consumer asked for (messages, bytes).
        self._batch_size = batch_size
        if max_messages is not None:
            self._batch_size = max(1, min(batch_size, max_messages // BATCH_SHARE))
        self._batch_bytes = self._max_bytes / BATCH_SHARE
        #: Protects everything below except _batch, whose own calls are atomic. Held while messages
        #: are moved; never during a wait.
        self._locks = locks or Locks()
        self._new_lock()
        self._store = store
        self._waiting_messages = waiting_messages
        self._leaving = leaving
        #: Messages handed out to the consumers. Each step of ``handed_out`` takes the next one.
        self._batch: deque[Message] = deque()
        self.handed_out: Iterator[Message] = pops(self._batch.popleft)
        #: The charge of the store.
        self._bytes = 0
        #: True while the charge may not match the contents of the store.
        self._is_torn = False
        #: The gaps of dropped messages, and those of messages that left at the head of the store.
        self._wanted = wanted
        self._gaps = self._gaps_at_head = Gaps(wanted)
        #: The threads that wait in fill().
        self.waiting = WaitList()
        self._handover = Handover(pacer or Pacer())
        #: Called without the lock by a consumer that finds the queue empty, to bring messages; None
        #: if other threads bring them. It returns when there are some or the queue is closed.
        self.pull: Callable[[MessageQueue, Deadline], None] | None = None
        #: Called before :meth:`fill` by an iteration that finds the queue empty: may :attr:`give`
        #: one message, for speed, or return False. It takes the ``at`` of a deadline of the core.
        self.pull_one: Callable[..., bool] | None = None
        #: Hands out a message that was never queued.
        self.give = self._batch.append
        #: Takes back what was handed out last, the newest message first, so that it is handed out
        #: again. One call written in C: an interrupt comes before or after it.
        self.take_back = self._batch.extendleft
        self.is_closed = False
        #: True once no message is taken in; the queue closes when a consumer finds it empty.
        self._is_finished = False
        #: The thread that has asked for messages last (its ``get_ident()``), None before the first.
        self.consumer: int | None = None
        self._is_roused = False
        self._failure: WSClientError | None = None
        #: How many messages were dropped, and how many of them because the queue was full, not
        #: because a newer message replaced them on purpose.
        self.dropped = 0
        self.overflowed = 0
        #: True once a consumer has been handed a message.
        self.is_used = False
        #: True while each message also goes to another queue. Set by the router.
        self.is_doubled = False
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
        with self._lock:
            if self.is_closed or self._is_finished:
                return None
            if self._failure is not None:
                self.dropped += len(messages)
                self.overflowed += len(messages)
                return None
            self._recount()
            self._add(messages, size + len(messages) * MESSAGE_OVERHEAD)
            if self.waiting:
                if not self._handover.is_late:
                    self._handover.begin()
                self.waiting.wake()
            return self._failure

    def _add(self, messages: Sequence[Message], cost: int) -> None:
        """Put ``messages``, whose total charge is ``cost``, into the store, by the policy."""
        raise NotImplementedError

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
        self.consumer = get_ident()
        signal: threading.Lock | None = None
        types, found = self.types, list[Outcome]()
        misfits = self.invalid if types else 0
        #: How many messages are to be handed out; and, with declared types, how many of those that
        #: were waiting are to be decoded even after the deadline. None: to be determined.
        wanted, left = maximum, None if types else 0
        try:
            while True:
                if self.pull is not None and not self:
                    self.pull(self, deadline)
                with self._lock:
                    if signal is not None:
                        self.waiting.discard(signal)
                    if self.is_closed:
                        return False
                    if left is None:
                        left = len(self)
                        wanted = maximum or left  # not those that come while they are decoded
                    store(found)
                    if self._hand_out(wanted):
                        if self.waiting:
                            self.waiting.wake()
                        return True
                    if self._is_roused:
                        self._is_roused = False
                        return True
                    head = self._head(wanted)
                    if not head and self._failure is not None:
                        raise self._failure.fresh()
                    if not head and self._is_finished:
                        self.is_closed = True
                        self.waiting.wake_all()
                        return False
                    remaining = deadline.remaining()
                    if not remaining and not (head and left > 0):
                        if self._batch:
                            return True
                        misfits = self.invalid - misfits
                        raise WaitTimeout(
                            "no message within the timeout"
                            f"{f'; {misfits:,} did not fit the declared type' if misfits else ''}"
                        )
                    if not head and self.pull is None:
                        signal = new_signal()
                        self.waiting.append(signal)
                self._locks.check()
                if types and head:
                    left -= len(head)
                    found = decoded(head, types)
                elif signal is not None:
                    self._report_misfits()
                    pause(signal, remaining)
                    left, found = None if types else 0, []
        except BaseException:  # also an exception from a user's signal handler
            self.waiting.discard(signal)
            if self or self._failure is not None:
                self.waiting.wake()
            raise
        finally:
            self._report_misfits()

    def rouse(self) -> None:
        """Make fill() of the only consumer return, so that it can check something else."""
        with self._lock:
            self._is_roused = True
            self.waiting.wake_all()

    def __bool__(self) -> bool:
        return bool(self._batch or self._store)

    def __len__(self) -> int:
        return len(self._batch) + len(self._store)

    @property
    def invalid(self) -> int:
        """The number of messages that did not fit their declared type."""
        return self._gaps_at_head.misfits

    @property
    def is_spare(self) -> bool:
        """True while nothing was ever taken, and every message also goes to another queue."""
        return self.is_doubled and not self.is_used

    @property
    def queued_bytes(self) -> int:
        """The charge of the queued messages (bytes)."""
        self._check()
        with self._lock:
            return self._charge()

    def pending_gap(self, channel: str) -> Gap | None:
        """Return a gap made by this queue that no queued message of the channel carries yet."""
        tail, head = self._gaps, self._gaps_at_head
        if not tail.are_possible and not head.are_possible:
            return None
        self._check()
        with self._lock:
            gap = tail.pending(channel)
            before = None if head is tail else head.pending(channel)
            return gap if before is None else before.merge(gap)

    def waits_since(self, channel: str, before: int) -> int | None:
        """Return when the oldest queued message of ``channel`` was received (ns since the epoch).

        None if no such message was received before ``before`` (ns since the epoch).
        """
        with self._lock:
            for message in chain(list(self._batch), self._waiting_messages):
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
            # Consumers take from the batch without the lock.
            times = _times(chain(list(self._batch), self._waiting_messages))
            oldest = next(times, None) if self.is_in_order else min(times, default=None)
            age = None if oldest is None else (now - oldest) / 1e9
            size = self._charge()
            return QueueStats(len(self), size, age, self.dropped, Lag(lags.total)), lags

    def has_room(self, count: int, size: int) -> bool:
        """Return whether :meth:`put` would drop nothing for ``count`` messages of ``size`` bytes.

        ``size`` is the total size of their payloads.
        """
        with self._lock:
            return not self._store or not self._is_full(count, size + count * MESSAGE_OVERHEAD)

    def forget(self, channel: str) -> None:
        """Forget what is known of a channel that is no longer wanted."""
        with self._lock:
            self.lags.forget(channel)
        if self.types is not None:
            self.types.forget(channel)

    # The end.

    def fail(self, error: WSClientError) -> None:
        """Make fill() raise ``error`` after the messages that are queued."""
        with self._lock:
            if self._failure is None:
                self._failure = error
            self.waiting.wake_all()

    def finish(self) -> None:
        """Take nothing more in. The queue closes when a consumer finds it empty."""
        with self._lock:
            self._is_finished = True
            self.waiting.wake_all()

    def close(self) -> int:
        """Close the queue and wake all waiting threads. Return how many messages are discarded."""
        with self._lock:
            unread = len(self)
            self.is_closed = True
            self._batch.clear()
            self._store.clear()
            self._bytes, self._is_torn = 0, False
            self.waiting.wake_all()
        return unread

    def forked(self) -> None:
        """Drop the queued messages in a child process; fill() raises ClientForked there."""
        self._new_lock()  # the holder of the old lock may not exist here
        self.close()
        self.is_closed = False
        self.fail(forked_error())

    def _check(self) -> None:
        """Raise ReentrantCall if this thread would wait for itself."""
        if self._is_held():
            self._locks.check()

    def _report_misfits(self) -> None:
        """Report misfits that are not reported. A second report does no harm."""
        gaps = self._gaps_at_head
        if gaps.misfits != gaps.reported and self._report is not None:
            self._report(gaps)

    def _new_lock(self) -> None:
        self._lock = self._locks.new("a queue")
        self._is_held: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]

    # Inside, under the lock.

    def _is_full(self, count: int, cost: int) -> bool:
        return len(self._store) + count > self._max_messages or self._bytes + cost > self._max_bytes

    def _charge(self) -> int:
        """Return the charge of all messages."""
        self._recount()
        return self._bytes + charge(list(self._batch))  # consumers may take some meanwhile

    def _recount(self) -> None:
        """Compute the charge of the store again, if that may be necessary."""
        if self._is_torn:
            self._bytes = charge(self._waiting_messages)
            self._is_torn = False

    def _drop(self, message: Message) -> None:
        self.dropped += 1
        self.overflowed += 1
        self._gaps.add(message, "overflow")

    def _hand_out(self, maximum: int | None) -> bool:
        """Move messages until ``maximum``, or all (None), are in the batch.

        Returns False if there is none, or if messages must be decoded first.
        """
        batch, store = self._batch, self._store
        wanted = len(self) if maximum is None else maximum
        if len(batch) < wanted and store:
            self._recount()
            self._is_torn = True
            self._move(wanted)
            self._is_torn = False
            if self.types is not None and (not batch or (store and len(batch) < wanted)):
                return False
        elif not batch:
            return False
        self.is_used = True
        self._came()
        return True

    def _came(self) -> None:
        """Note that a consumer has come for messages."""
        handover = self._handover
        handover.is_late = False
        if handover.is_awaited:
            handover.end()

    def _move(self, wanted: int) -> None:
        """Move messages from the store until ``wanted`` are in the batch, or none is left.

        Stops at a message that is not decoded yet, and drops those that do not fit their type.
        """
        waiting, batch, gaps = self._waiting_messages, self._batch, self._gaps_at_head
        while waiting and len(batch) < wanted:
            total = len(waiting)
            count = min(total, self._portion(wanted - len(batch)))
            if self.types is not None:
                count = fitting(islice(waiting, count))
                if not count:
                    first = next(iter(waiting))
                    if first.kind is None:
                        break
                    cost = cost_of(first)
                    gaps.drop_misfit(first, self._store, self._key(first))
                    self._bytes -= cost
                    continue
            self._measure(waiting)
            cost = self._bytes if count == total else charge(islice(waiting, count))
            if gaps.are_possible:
                gaps.mark(islice(waiting, count))
            self._bytes -= cost
            batch.extend(islice(self._leaving, count))

    def _portion(self, needed: int) -> int:
        """Return how many messages to move at once: those ``needed``, or a batch if it is more.

        The bytes of a batch are estimated by the average charge.
        """
        count = self._batch_size
        if self._bytes > self._batch_bytes:
            count = min(count, int(self._batch_bytes * len(self._store) / self._bytes))
        return max(count, needed)

    def _key(self, message: Message) -> Any:
        """Return the key of the first message in the store."""
        raise NotImplementedError

    def _head(self, wanted: int | None) -> list[Message]:
        """Return the first messages of the store if they must be decoded to be handed out."""
        waiting = self._waiting_messages
        if self.types is None or not waiting:
            return []
        self._came()
        count = DECODED_AT_ONCE * len(waiting) // self._bytes  # by the average charge
        count = min(count, self._portion((wanted or 0) - len(self._batch)))
        return list(islice(waiting, max(1, count)))

    def _measure(self, messages: Iterable[Message]) -> None:
        """Record how long the first message has been queued, if it came in a frame."""
        now = self._time_ns()
        if 0 <= now - self._sampled_at < SAMPLE_EVERY:
            return
        for message in islice(messages, 1):
            if message.arrival.decoder is not None:
                self._sampled_at = now
                channel, ago = message.channel, now - message.arrival.received_at
                self.lags.record(channel, ago, is_wanted=channel in self._wanted)


def _times(messages: Iterable[Message]) -> Iterator[int]:
    """Return when the messages that came in frames were received."""
    return (m.received_at for m in messages if m.arrival.decoder is not None)
