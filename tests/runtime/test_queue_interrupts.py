"""A KeyboardInterrupt at each point of a consumer's call: nothing is lost, doubled or torn."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from support.helpers import PACKAGE, Call, until
from support.inside import in_batch, lock_of, waiters_of
from support.interrupting import Point, points
from support.matrix import each_size
from support.queues import POLICIES, Account, Feed, Receiver, message_queue, names, take
from wsclient import Gap, Message, ReentrantCall, WaitTimeout
from wsclient.runtime.queues import MESSAGE_OVERHEAD, MessageQueue
from wsclient.threads import waitlist
from wsclient.threads.locks import Locks
from wsclient.threads.waiting import Deadline


def recv(receiver: Receiver) -> list[Message]:
    return [receiver.recv()]


def poll(receiver: Receiver) -> list[Message]:
    return [receiver.recv(timeout=0)]


def call_next(receiver: Receiver) -> list[Message]:
    return [next(receiver)]  # type: ignore[call-overload]


def two(receiver: Receiver) -> list[Message]:
    return receiver.recv_batch(2)


def all_there_are(receiver: Receiver) -> list[Message]:
    return receiver.recv_batch()


WAYS = [recv, poll, call_next, two, all_there_are]


def loop(receiver: Receiver, got: list[Message], count: int) -> None:
    """Take in a loop, so that the caller already has the messages before the interrupt."""
    for message in receiver:
        got.append(message)
        if len(got) == count:
            break


def check_account(queue: MessageQueue, feed: Feed, got: list[Message], point: Point) -> None:
    """Check that every message put is with the caller or still to come, gaps included."""
    receiver, account = Receiver(queue), Account()
    assert not lock_of(queue)._is_owned(), str(point)  # type: ignore[attr-defined]
    assert not waiters_of(queue), str(point)
    # The bound holds, beside a batch: the charge is right before any check.
    queue.put(feed.messages("ab"))
    assert len(queue) - in_batch(queue) <= 3, str(point)
    assert queue.queued_bytes == queue.stats(0)[0].bytes == len(queue) * MESSAGE_OVERHEAD, str(
        point
    )
    while queue:
        got.append(receiver.recv(timeout=0))
    account.deliver(got)
    for channel in "abc":
        queue.put([feed.message(channel)])
        account.deliver([receiver.recv(timeout=0)])
    assert account.accounted == feed.put, str(point)
    assert queue.queued_bytes == 0, str(point)


def overflown(overflow: str, batch: int) -> tuple[MessageQueue, Feed]:
    """Return a queue of three messages, so that gaps could be lost too."""
    queue, feed = message_queue(overflow, size=3 * MESSAGE_OVERHEAD, batch=batch), Feed()
    queue.put(feed.messages("abcabca"))
    return queue, feed


@pytest.mark.parametrize("overflow", POLICIES[:3])
@each_size("batch", short=[1, 512], full=[2], timeout=60)
class TestOfFullQueues:
    @pytest.mark.parametrize("way", WAYS)
    def test_messages_are_taken(
        self, overflow: str, batch: int, way: Callable[[Receiver], list[Message]]
    ) -> None:
        for point in points():
            queue, feed = overflown(overflow, batch)
            got = point(way, Receiver(queue)) or []
            assert bool(got) == (point.error is None)
            check_account(queue, feed, got, point)

    def test_a_loop_takes_them(self, overflow: str, batch: int) -> None:
        for point in points():
            queue, feed = overflown(overflow, batch)
            got: list[Message] = []
            point(loop, Receiver(queue), got, 3)
            check_account(queue, feed, got, point)

    @pytest.mark.parametrize("name", ["len", "bool", "bytes", "stats", "gap"])
    def test_it_is_looked_into(self, overflow: str, batch: int, name: str) -> None:
        looks: dict[str, Callable[[MessageQueue], Any]] = {
            "len": len,
            "bool": bool,
            "bytes": lambda queue: queue.queued_bytes,
            "stats": lambda queue: queue.stats(0),
            "gap": lambda queue: [queue.pending_gap(channel) for channel in "abc"],
        }
        for point in points():
            queue, feed = overflown(overflow, batch)
            got = take(queue, 1)
            point(looks[name], queue)
            check_account(queue, feed, got, point)

    def test_they_are_handed_out_and_then_taken_in_another_way(
        self, overflow: str, batch: int
    ) -> None:
        """An interrupted call leaves messages handed out; the next call may be of any kind."""
        for way in WAYS:
            for point in points():
                queue, feed = overflown(overflow, batch)
                got = point(all_there_are, Receiver(queue)) or []
                if queue:
                    got += way(Receiver(queue))
                check_account(queue, feed, got, point)


class TestOfEmptyQueues:
    @pytest.fixture(autouse=True)
    def no_slices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only a wake-up ends a wait."""
        monkeypatch.setattr(waitlist, "SLICE", 60.0)

    @pytest.mark.parametrize("overflow", POLICIES)
    @pytest.mark.parametrize("timeout", [0, 0.001])
    def test_it_is_polled(self, overflow: str, timeout: float) -> None:
        def poll(receiver: Receiver) -> None:
            with pytest.raises(WaitTimeout):
                receiver.recv(timeout)

        for point in points():
            queue, feed = message_queue(overflow, size=3 * MESSAGE_OVERHEAD), Feed()
            point(poll, Receiver(queue))
            check_account(queue, feed, [], point)

    @pytest.mark.parametrize("overflow", POLICIES)
    @pytest.mark.parametrize("way", [recv, call_next, two])
    def test_another_thread_puts(
        self, overflow: str, way: Callable[[Receiver], list[Message]]
    ) -> None:
        for point in points():
            queue, feed = message_queue(overflow, size=3 * MESSAGE_OVERHEAD), Feed()
            given_up = threading.Event()
            putter = Call(put_when_awaited, queue, feed.messages("ab"), given_up)
            got = point(way, Receiver(queue)) or []
            given_up.set()
            putter.result()
            while queue:
                got.append(Receiver(queue).recv(timeout=0))
            check_account(queue, feed, got, point)

    def test_an_interrupted_consumer_passes_its_wake_up_on(self) -> None:
        for point in points():
            queue, feed = message_queue(), Feed()
            given_up = threading.Event()
            other = Call(take_second, queue, given_up)
            putter = Call(put_when_awaited, queue, feed.messages("aa"), given_up, 2)
            got = point(recv, Receiver(queue)) or []
            given_up.set()
            putter.result()
            got += other.result()
            got += take(queue) if len(got) < 2 else []
            assert sorted(names(got)) == ["a1", "a2"], str(point)

    def test_others_that_wait_are_not_forgotten(self) -> None:
        for point in points():
            queue, feed = message_queue(), Feed()
            others = [Call(take, queue, 1, None) for _ in range(2)]
            until(lambda queue=queue: len(waiters_of(queue)) == 2)
            queue.put(feed.messages("aaa"))
            got = point(recv, Receiver(queue)) or []
            for other in others:
                got += other.result()
            got += take(queue) if len(got) < 3 else []
            assert sorted(names(got)) == ["a1", "a2", "a3"], str(point)

    def test_another_exception_from_a_signal_handler_forgets_no_waiter(self) -> None:
        queue, feed = message_queue(), Feed()
        deadline = Deadline(None)
        deadline.remaining = lambda: 1 / 0  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            queue.fill(1, deadline)
        assert not waiters_of(queue)
        queue.put(feed.messages("a"))
        assert names(take(queue)) == ["a1"]

    def test_a_lost_wake_up_is_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another interrupt may come while the first one is handled."""
        monkeypatch.setattr(waitlist, "SLICE", 0.01)
        queue, feed = message_queue(), Feed()
        dead = threading.Lock()
        dead.acquire()
        waiters_of(queue).append(dead)
        call = Call(take, queue, 1, None)
        until(lambda: len(waiters_of(queue)) == 2)
        queue.put(feed.messages("a"))
        assert names(call.result()) == ["a1"]


def put_when_awaited(
    queue: MessageQueue, messages: list[Message], given_up: threading.Event, waiting: int = 1
) -> None:
    until(lambda: len(waiters_of(queue)) >= waiting or given_up.is_set())
    queue.put(messages)


def take_second(queue: MessageQueue, given_up: threading.Event) -> list[Message]:
    """Begin to wait only when another thread waits."""
    until(lambda: waiters_of(queue) or given_up.is_set())
    return take(queue, 1, None)


class TestCallsFromWithin:
    """A signal handler or a finalizer makes a call while this thread holds the lock."""

    @pytest.mark.parametrize(
        "call",
        [
            lambda queue: queue.fill(1, Deadline(None)),
            lambda queue: queue.queued_bytes,
            lambda queue: queue.stats(0),
            lambda queue: queue.pending_gap("a"),
        ],
        ids=["fill", "queued_bytes", "stats", "pending_gap"],
    )
    def test_what_would_wait_for_itself_raises(self, call: Callable[[MessageQueue], Any]) -> None:
        queue, _ = overflown("drop_oldest", 1)
        with lock_of(queue), pytest.raises(ReentrantCall):
            call(queue)
        call(queue)

    def test_what_would_wait_for_another_part_of_the_client_raises(self) -> None:
        locks = Locks()
        queue, feed, other = (
            message_queue("error", batch=1024, locks=locks),
            Feed(),
            locks.new("a core"),
        )
        with other, pytest.raises(ReentrantCall):
            queue.fill(1, Deadline(None))
        queue.put(feed.messages("aa"))
        with other:
            assert names(take(queue, 1)) == ["a1"]
            assert len(queue) == 1
        assert not waiters_of(queue)

    @pytest.mark.parametrize("batch", [1, 512])
    def test_a_message_handed_out_is_taken_without_the_lock(self, batch: int) -> None:
        queue, feed = message_queue(batch=batch), Feed()
        queue.put(feed.messages("aa"))
        queue.fill(2, Deadline(0))
        with lock_of(queue):
            assert names([Receiver(queue).recv()]) == ["a1"]


class TestOfConflatedMessages:
    def test_one_handed_out_and_not_taken_is_still_replaced(self) -> None:
        queue, feed = message_queue("conflate"), Feed()
        queue.put(feed.messages("ab"))
        assert queue.fill(None, Deadline(0))
        queue.put(feed.messages("a"))
        assert len(queue) == 2
        assert queue.queued_bytes == 2 * MESSAGE_OVERHEAD
        a, b = take(queue)
        assert names([a, b]) == ["a2", "b1"]
        assert a.gap == Gap("conflate", 1, None)
        assert queue.dropped == 1

    def test_the_gap_that_it_carries_is_passed_on(self) -> None:
        queue, feed = message_queue("conflate"), Feed()
        queue.put(feed.messages("aaa"))
        assert queue.fill(1, Deadline(0))
        queue.put(feed.messages("a"))
        assert take(queue)[0].gap == Gap("conflate", 3, None)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs signals")
@pytest.mark.parametrize("batch", [1, 512])
@pytest.mark.parametrize("is_loop", [False, True], ids=["recv", "for"])
def test_real_signals_at_random_times(batch: int, is_loop: bool) -> None:
    queue, account, total = message_queue(batch=batch), Account(), 4000
    receiver, feed = Receiver(queue), Feed()
    main, over = threading.main_thread(), threading.Event()
    armed = False
    strikes = 0

    def strike(_: int, frame: Any) -> None:
        nonlocal armed, strikes
        if armed and PACKAGE in frame.f_code.co_filename:
            armed, strikes = False, strikes + 1
            raise KeyboardInterrupt

    def disturb() -> None:
        assert main.ident is not None
        while not over.wait(0.0002):
            signal.pthread_kill(main.ident, signal.SIGUSR1)

    def produce() -> None:
        for _ in range(total // 4):
            queue.put(feed.messages("abca"))
            over.wait(0.00005)

    before = signal.signal(signal.SIGUSR1, strike)
    calls = [Call(disturb), Call(produce)]
    try:
        got: list[Message] = []
        while len(got) < total:
            armed = True
            try:
                if is_loop:
                    for message in receiver:
                        got.append(message)
                        armed = True
                        if len(got) == total:
                            break
                else:
                    got.append(receiver.recv(timeout=10))
            except KeyboardInterrupt:
                pass
            armed = False
    finally:
        over.set()
        for call in calls:
            call.result()
        signal.signal(signal.SIGUSR1, before)
    account.deliver(got)
    assert account.accounted == feed.put
    assert strikes
