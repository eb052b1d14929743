"""The message queue: bounds, overflow policies and their gaps, waiting."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.examples import examples
from support.helpers import Call, until
from support.inside import waiters_of
from support.making import message as make
from support.queues import POLICIES, Account, Feed, Receiver, message_queue, names, take
from wsclient import ClientClosed, Gap, Message, QueueOverflow, WaitTimeout, WSClientError
from wsclient.runtime.pacing import PACE, Pacer
from wsclient.runtime.queues import BATCH_SHARE, MESSAGE_OVERHEAD, MessageQueue
from wsclient.threads.waiting import Deadline


def charge(messages: list[Message]) -> int:
    return sum(len(m.raw) + MESSAGE_OVERHEAD for m in messages)


class Reference:
    """A simple model of the four overflow policies."""

    def __init__(
        self, overflow: str, messages: int | None, size: int | None, batch_size: int
    ) -> None:
        self.overflow = overflow
        self.max_messages = float("inf") if messages is None else messages
        self.max_bytes = float("inf") if size is None else size
        self.batch_size = batch_size
        if messages is not None:
            self.batch_size = max(1, min(batch_size, messages // BATCH_SHARE))
        self.batch: list[Message] = []
        self.queue: list[Message] = []
        self.dropped = 0
        self.failed = False

    @property
    def waiting(self) -> list[Message]:
        return self.batch + self.queue

    @property
    def over(self) -> bool:
        """Return whether the messages exceed a bound. A single message never does."""
        return len(self.queue) > 1 and (
            len(self.queue) > self.max_messages or charge(self.queue) > self.max_bytes
        )

    def put(self, message: Message) -> None:
        if self.failed:
            self.dropped += 1
            return
        place = len(self.queue)
        if self.overflow == "conflate":
            for i, queued in enumerate(self.queue):
                if queued.channel == message.channel:
                    place = i
                    self.dropped += 1
                    del self.queue[i]
                    break
        self.queue.insert(place, message)
        if self.over and self.overflow in ("drop_newest", "error"):
            self.failed = self.overflow == "error"
            self.dropped += 1
            self.queue.pop()
        while self.over and len(self.queue) > 1 and self.overflow in ("drop_oldest", "conflate"):
            self.dropped += 1
            self.queue.remove(next(m for m in self.queue if m is not message))

    def hand_out(self, maximum: int | None) -> None:
        wanted = len(self.waiting) if maximum is None else maximum
        while len(self.batch) < wanted and self.queue and self.overflow != "conflate":
            ahead, size = self.batch_size, charge(self.queue)
            if size > self.max_bytes / BATCH_SHARE:
                share = self.max_bytes / BATCH_SHARE * len(self.queue) / size
                ahead = min(ahead, int(share))  # by the average charge
            count = max(wanted - len(self.batch), ahead)
            self.batch, self.queue = self.batch + self.queue[:count], self.queue[count:]

    def take(self, maximum: int | None) -> list[Message]:
        self.hand_out(maximum)
        source = self.queue if self.overflow == "conflate" else self.batch
        taken = source[:maximum]
        del source[:maximum]
        return taken


puts = st.tuples(
    st.just("put"),
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 400), st.sampled_from((0, 0, 0, 2))),
        max_size=8,
    ),
)
takes = st.tuples(st.just("take"), st.none() | st.integers(1, 4))
receives = st.tuples(st.just("receive"), st.just(1))
#: A consumer is interrupted before it takes the messages handed out to it.
interrupted = st.tuples(st.just("interrupted"), st.none() | st.integers(1, 4))


class TestPolicies:
    @pytest.mark.parametrize("overflow", POLICIES)
    @given(
        max_messages=st.none() | st.integers(1, 5) | st.integers(16, 40),
        max_bytes=st.none() | st.integers(1, 3000),
        batch_size=st.integers(1, 5) | st.just(512),
        steps=st.lists(puts | takes | receives | interrupted, max_size=25),
    )
    @examples(150)
    def test_each_is_exact_and_accounts_for_every_message(
        self,
        overflow: str,
        max_messages: int | None,
        max_bytes: int | None,
        batch_size: int,
        steps: list[Any],
    ) -> None:
        queue = message_queue(overflow, max_messages, max_bytes, batch_size)
        reference = Reference(overflow, max_messages, max_bytes, batch_size)
        receiver, feed, account = Receiver(queue), Feed(), Account()

        def put(batch: list[tuple[str, int, int]]) -> None:
            messages = [feed.message(*item) for item in batch]
            failed_before = reference.failed
            for message in messages:
                reference.put(message)
            failure = queue.put(messages)
            assert isinstance(failure, QueueOverflow) == (reference.failed and not failed_before)
            if messages:
                assert not reference.over

        def taken(maximum: int | None, how: str = "take") -> list[Message]:
            expected = reference.take(maximum)
            if not expected:
                with pytest.raises(QueueOverflow if reference.failed else WaitTimeout):
                    take(queue, maximum)
                return []
            got = [receiver.recv(0)] if how == "receive" else take(queue, maximum)
            assert names(got) == names(expected)
            return got

        for step in steps:
            if step[0] == "put":
                put(step[1])
            elif step[0] != "interrupted":
                account.deliver(taken(step[1], step[0]))
            elif reference.waiting:
                assert queue.fill(step[1], Deadline(0))
                reference.hand_out(step[1])
            assert len(queue) == len(reference.waiting)
            assert queue.queued_bytes == charge(reference.waiting)
            assert queue.dropped == reference.dropped

        if reference.failed:
            return  # such a client has failed, and its failure replaces the gap
        if reference.waiting:
            account.deliver(taken(None))
        for channel in "abc":
            pending = queue.pending_gap(channel)
            owed = feed.put[channel] - account.accounted[channel]
            assert (pending.missed if pending else 0) == owed
            queue.put([feed.message(channel)])
            account.deliver(take(queue))
            assert account.accounted[channel] == feed.put[channel]
            assert queue.pending_gap(channel) is None

    def test_drop_oldest_marks_the_message_after_the_gap(self) -> None:
        queue, feed = message_queue("drop_oldest", 2), Feed()
        queue.put(feed.messages("aaba"))
        b, a = take(queue)
        assert names([b, a]) == ["b1", "a3"]
        assert b.gap is None
        assert a.gap == Gap("overflow", 2, None)

    def test_drop_newest_marks_the_next_one_let_in(self) -> None:
        queue, feed = message_queue("drop_newest", 2), Feed()
        queue.put(feed.messages("aaaa"))
        first, second = take(queue)
        assert (first.gap, second.gap) == (None, None)
        queue.put(feed.messages("a"))
        (third,) = take(queue)
        assert third.sequence == 5
        assert third.gap == Gap("overflow", 2, second.received_at)

    def test_conflate_keeps_the_place_of_the_replaced_message(self) -> None:
        queue, feed = message_queue("conflate"), Feed()
        queue.put(feed.messages("abcaa"))
        a, b, c = take(queue)
        assert names([a, b, c]) == ["a3", "b1", "c1"]
        assert a.gap == Gap("conflate", 2, None)

    def test_conflate_holds_its_bounds_when_a_bigger_message_replaces(self) -> None:
        queue, feed = message_queue("conflate", size=1000), Feed()
        queue.put([feed.message("a", 250), feed.message("b", 150)])
        queue.put([feed.message("b", 700)])
        assert queue.queued_bytes <= 1000
        (b,) = take(queue)
        assert names([b]) == ["b2"]
        queue.put([feed.message("a")])
        assert take(queue)[0].gap == Gap("overflow", 1, None)

    def test_error_fails_after_the_queued_ones(self) -> None:
        queue, feed = message_queue("error", 2), Feed()
        failure = queue.put(feed.messages("aaa"))
        assert isinstance(failure, QueueOverflow)
        assert names(take(queue, 1) + take(queue, 1)) == ["a1", "a2"]
        for _ in range(2):
            with pytest.raises(QueueOverflow, match="2 messages"):
                take(queue, timeout=None)

    @pytest.mark.parametrize("overflow", POLICIES)
    def test_one_message_larger_than_the_bound_is_let_in(self, overflow: str) -> None:
        queue, feed = message_queue(overflow, 10, 1000), Feed()
        queue.put([feed.message(size=5000)])
        assert len(queue) == 1
        assert queue.queued_bytes == 5000 + MESSAGE_OVERHEAD
        assert names(take(queue)) == ["a1"]
        assert queue.queued_bytes == 0

    def test_a_dropped_message_hands_its_own_gap_on(self) -> None:
        queue, feed = message_queue("drop_oldest", 1), Feed()
        lost = feed.message()
        lost.gap = Gap("reconnect", None, 7)
        queue.put([lost, feed.message()])
        assert take(queue)[0].gap == Gap("reconnect", None, 7)

    @pytest.mark.parametrize("overflow", POLICIES[:2])
    def test_a_dropped_duplicate_is_not_missed(self, overflow: str) -> None:
        queue, feed = message_queue(overflow, messages=1), Feed()
        first, doubled, after = feed.messages("aaa")
        doubled.gap = Gap("duplicate", 0, 1)
        if overflow == "drop_oldest":
            queue.put([doubled, after])
        else:
            queue.put([first, doubled])
            take(queue)
            queue.put([after])
        (message,) = take(queue)
        assert message is after
        assert message.gap == Gap("overflow", 0, 1)

    @pytest.mark.parametrize("overflow", POLICIES[:3])
    def test_the_last_message_of_a_lost_channel_is_never_dropped(self, overflow: str) -> None:
        queue, feed = message_queue(overflow, messages=2), Feed()
        lost = make("a", "lost", raw=b"", gap=Gap("rejected"))
        other = make("z", "lost", raw=b"", gap=Gap("rejected"))
        queue.put([*feed.messages("ab"), lost, *feed.messages("cd"), other, *feed.messages("ef")])
        taken = take(queue)
        assert [m for m in taken if m.type == "lost"] == [lost, other]
        assert queue.dropped == 8 - len(taken)
        assert (len(queue), queue.queued_bytes) == (0, 0)
        assert lost.gap == (
            Gap("rejected", None, None) if overflow != "drop_newest" else Gap("rejected")
        )

    def test_what_comes_after_a_failure_is_not_queued(self) -> None:
        for overflow in POLICIES:
            queue, feed = message_queue(overflow), Feed()
            queue.put(feed.messages("a"))
            queue.fail(WSClientError("over"))
            queue.put(feed.messages("b"))
            assert names(take(queue)) == ["a1"]
            assert queue.dropped == 1


def test_a_batch_may_come_of_several_puts() -> None:
    queue, feed = message_queue(batch=5), Feed()
    for _ in range(3):
        queue.put(feed.messages("aaa"))
    assert names(Receiver(queue).recv_batch(8, timeout=0)) == [f"a{n}" for n in range(1, 9)]
    assert names(take(queue)) == ["a9"]


class TestWaiting:
    def test_a_poll_of_an_empty_queue_times_out_at_once(self) -> None:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            take(message_queue(), timeout=0)
        assert time.monotonic() - started < 0.5

    def test_a_wait_ends_at_its_deadline(self) -> None:
        started = time.monotonic()
        with pytest.raises(WaitTimeout):
            take(message_queue(), timeout=0.05)
        assert 0.05 <= time.monotonic() - started < 1

    def test_put_wakes_one_who_waits(self) -> None:
        queue, feed = message_queue(), Feed()
        call = Call(take, queue, timeout=None)
        until(lambda: waiters_of(queue))
        queue.put(feed.messages("a"))
        assert names(call.result()) == ["a1"]

    def test_a_batch_wakes_as_many_as_it_can_serve(self) -> None:
        queue, feed = message_queue(), Feed()
        calls = [Call(take, queue, 1, None) for _ in range(8)]
        until(lambda: len(waiters_of(queue)) == 8)
        queue.put(feed.messages("aaaaaaaa"))
        assert sorted(names([call.result()[0] for call in calls])) == [f"a{n}" for n in range(1, 9)]

    def test_close_wakes_all_who_wait_within_50_ms(self) -> None:
        times = []
        for _ in range(3):
            queue = message_queue()
            calls = [Call(take, queue, timeout=None) for _ in range(8)]
            until(lambda queue=queue: len(waiters_of(queue)) == 8)
            started = time.monotonic()
            queue.close()
            assert [call.result() for call in calls] == [[]] * 8
            times.append(max(call.ended_at for call in calls) - started)
        assert min(times) < 0.05

    def test_close_returns_how_many_were_unread_and_drops_later_messages(self) -> None:
        queue, feed = message_queue(), Feed()
        queue.put(feed.messages("aab"))
        assert queue.close() == 3
        assert queue.put(feed.messages("a")) is None
        assert (len(queue), queue.queued_bytes) == (0, 0)
        assert take(queue, timeout=None) == []
        assert queue.close() == 0

    @pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "conflate", "error"])
    def test_a_finished_queue_takes_nothing_in_and_closes_when_it_is_found_empty(
        self, overflow: str
    ) -> None:
        queue, feed = message_queue(overflow=overflow), Feed()
        queue.put(feed.messages("ab"))
        queue.finish()
        assert queue.put(feed.messages("c")) is None
        assert queue.dropped == 0
        assert len(take(queue, 2, None)) == 2
        assert not queue.is_closed
        assert take(queue, timeout=None) == []
        assert queue.is_closed

    def test_finish_wakes_all_who_wait(self) -> None:
        queue = message_queue()
        calls = [Call(take, queue, timeout=None) for _ in range(8)]
        until(lambda: len(waiters_of(queue)) == 8)
        queue.finish()
        assert [call.result() for call in calls] == [[]] * 8

    def test_a_finished_queue_that_has_failed_raises_its_error(self) -> None:
        queue, feed = message_queue(), Feed()
        queue.put(feed.messages("a"))
        queue.fail(WSClientError("over"))
        queue.finish()
        assert len(take(queue, timeout=None)) == 1
        with pytest.raises(WSClientError, match="over"):
            take(queue, timeout=None)

    def test_fail_wakes_all_who_wait_with_errors_of_their_own(self) -> None:
        queue = message_queue()
        calls = [Call(take, queue, timeout=None) for _ in range(4)]
        until(lambda: len(waiters_of(queue)) == 4)
        cause = WSClientError("the cause")
        queue.fail(cause)
        errors = []
        for call in calls:
            with pytest.raises(WSClientError, match="the cause") as caught:
                call.result()
            errors.append(caught.value)
        assert len({id(error) for error in errors}) == 4
        assert all(error.__cause__ is cause for error in errors)

    def test_fail_comes_after_the_queued_ones_and_the_first_one_counts(self) -> None:
        queue, feed = message_queue(), Feed()
        queue.put(feed.messages("aa"))
        queue.fail(WSClientError("first"))
        queue.fail(WSClientError("second"))
        assert names(take(queue, 1, None) + take(queue, 1, None)) == ["a1", "a2"]
        with pytest.raises(WSClientError, match="first"):
            take(queue, timeout=None)

    def test_close_ends_what_failed(self) -> None:
        queue = message_queue()
        queue.fail(WSClientError("over"))
        queue.close()
        assert take(queue, timeout=None) == []


class TestManyThreads:
    @pytest.mark.parametrize("batch", [1, 512])
    def test_each_message_goes_to_exactly_one_in_order_and_no_wake_up_is_lost(
        self, batch: int
    ) -> None:
        """Some wait for ever, some time out often: neither may lose a wake-up for the other."""
        queue, total = message_queue(batch=batch), 6000
        receiver = Receiver(queue)
        got: list[list[Message]] = []

        def receive() -> list[Message]:
            mine: list[Message] = []
            with contextlib.suppress(ClientClosed):
                while True:
                    mine.append(receiver.recv())
            return mine

        def consume(timeout: float | None, maximum: int | None) -> list[Message]:
            mine: list[Message] = []
            while not queue.is_closed:
                try:
                    mine += take(queue, maximum, timeout)
                except WaitTimeout:
                    pass
            return mine

        def produce(channel: str) -> None:
            feed = Feed()
            left = total // 3
            while left:
                count = min(left, 1 + left % 7)
                queue.put(feed.messages(channel * count))
                left -= count

        consumers = [
            Call(consume, timeout, maximum)
            for timeout in (None, None, 0.0005, 0)
            for maximum in (1, 3)
        ]
        consumers += [Call(receive), Call(list, receiver)]
        producers = [Call(produce, channel) for channel in "abc"]
        for producer in producers:
            producer.result(20)
        until(lambda: not queue)
        queue.close()
        got = [consumer.result() for consumer in consumers]
        counts = Counter(name for mine in got for name in names(mine))
        assert len(counts) == total
        assert set(counts.values()) == {1}
        for mine in got:
            per_channel = defaultdict(list)
            for message in mine:
                per_channel[message.channel].append(message.sequence)
            assert all(numbers == sorted(numbers) for numbers in per_channel.values())

    @pytest.mark.parametrize("batch", [1, 512])
    def test_one_at_a_time_never_stalls(self, batch: int) -> None:
        """Each consumer waits for ever, so a single lost wake-up makes this hang."""
        queue, feed, rounds = message_queue(batch=batch), Feed(), 1500
        seen = threading.Semaphore(0)

        def consume() -> int:
            count = 0
            while take(queue, 1, None):
                count += 1
                seen.release()
            return count

        consumers = [Call(consume) for _ in range(6)]
        for _ in range(rounds):
            queue.put(feed.messages("a"))
            assert seen.acquire(timeout=10), "a wake-up was lost"
        queue.close()
        assert sum(consumer.result() for consumer in consumers) == rounds


def paced() -> tuple[MessageQueue, Feed, Pacer]:
    pacer = Pacer()
    return message_queue(pacer=pacer), Feed(), pacer


class TestPace:
    """The reader waits for the consumer that it woke."""

    def test_is_no_wait_when_nobody_was_woken(self) -> None:
        queue, feed, pacer = paced()
        started = time.monotonic()
        for _ in range(200):
            queue.put(feed.messages("a"))
            pacer.wait()
        assert time.monotonic() - started < 200 * PACE / 2

    def test_ends_when_the_consumer_comes(self) -> None:
        (queue, feed, pacer), rounds = paced(), 200
        consumer = Call(lambda: [take(queue, 1, None) for _ in range(rounds)])
        for _ in range(rounds):
            until(lambda: waiters_of(queue))
            queue.put(feed.messages("a"))
            pacer.wait()
        assert [m.sequence for (m,) in consumer.result()] == list(range(1, rounds + 1))

    def test_ends_in_time_when_the_consumer_does_not_come_and_waits_no_more(self) -> None:
        """The consumer is woken, and held up before it can take the message."""
        queue, feed, pacer = paced()
        started = time.monotonic()
        for _ in range(100):
            held_up = threading.Lock()
            held_up.acquire()
            waiters_of(queue).append(held_up)
            queue.put(feed.messages("a"))
            pacer.wait()
        assert time.monotonic() - started < 100 * PACE / 2
        assert len(take(queue)) == 100

    def test_close_ends_it(self) -> None:
        queue, feed, pacer = paced()
        consumer = Call(take, queue, 1, None)
        until(lambda: waiters_of(queue))
        queue.put(feed.messages("a"))
        queue.close()
        started = time.monotonic()
        pacer.wait()
        assert time.monotonic() - started < 1
        consumer.result()
