"""Queues with declared types: what fits comes in order, what does not is skipped and marked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.examples import examples
from support.helpers import Call, until
from support.inside import lock_of, waiters_of
from support.interrupting import points
from support.queues import POLICIES, Account, Feed, Receiver, message_queue, names, take
from wsclient import Gap, Message, ReentrantCall, WaitTimeout
from wsclient.runtime.gaps import Gaps
from wsclient.runtime.queues import DECODED_AT_ONCE, MESSAGE_OVERHEAD, MessageQueue
from wsclient.stream.declared import Types
from wsclient.threads.locks import Locks
from wsclient.threads.waiting import Deadline


class Tick(msgspec.Struct):
    n: int


#: More than are decoded at once.
MANY = 3 * DECODED_AT_ONCE // MESSAGE_OVERHEAD


class Ticks(Feed):
    """Source of numbered messages; those of capital letters do not fit."""

    def ticks(self, channels: Iterable[str]) -> list[Message]:
        return [self.tick(channel) for channel in channels]

    def tick(self, channel: str, skip: int = 0) -> Message:
        message = self.message(channel.lower(), skip=skip)
        number = str(message.sequence) if channel.isupper() else message.sequence
        message.raw = msgspec.json.encode({"n": number})
        return message


def typed(
    overflow: str = "drop_oldest",
    messages: int | None = None,
    size: int | None = None,
    kind: Any = Tick,
    **others: Any,
) -> MessageQueue:
    return message_queue(overflow, messages, size, 512, types=Types(kind), **others)


def marks(messages: list[Message]) -> list[str]:
    """Return each message with the reason and the number of its gap."""
    found = []
    for message in messages:
        gap = message.gap
        found.append(names([message])[0] + (f" {gap.reason} {gap.missed}" if gap else ""))
    return found


@pytest.mark.parametrize("overflow", POLICIES)
class TestOfEachPolicy:
    def test_what_fits_is_handed_out_with_its_data(self, overflow: str) -> None:
        queue, feed = typed(overflow), Ticks()
        queue.put(feed.ticks("abc"))
        taken = take(queue)
        assert marks(taken) == ["a1", "b1", "c1"]
        assert [message.data for message in taken] == [Tick(1)] * 3
        assert [message.kind for message in taken] == [Tick] * 3
        assert queue.queued_bytes == queue.invalid == 0

    def test_what_does_not_fit_is_skipped_and_marked_on_its_channels_next(
        self, overflow: str
    ) -> None:
        queue, feed = typed(overflow), Ticks()
        queue.put(feed.ticks("Ab"))
        assert marks(take(queue)) == ["b1"]
        assert queue.pending_gap("a") == Gap("invalid", 1, None)
        queue.put(feed.ticks("a"))
        assert marks(take(queue)) == ["a2 invalid 1"]
        assert queue.pending_gap("a") is None
        assert (queue.invalid, queue.dropped, queue.queued_bytes) == (1, 0, 0)

    def test_the_gap_that_a_misfit_carries_is_passed_on(self, overflow: str) -> None:
        queue, feed = typed(overflow), Ticks()
        queue.put([feed.tick("a")])
        take(queue)
        queue.put([feed.tick("A", skip=3)])
        with pytest.raises(WaitTimeout):
            take(queue)
        queue.put([feed.tick("a")])
        (message,) = take(queue)
        assert message.gap == Gap("sequence", 4, 1)

    def test_a_misfit_that_has_come_before_is_not_missed(self, overflow: str) -> None:
        queue, feed = typed(overflow), Ticks()
        repeated = feed.tick("A")
        repeated.gap = Gap("duplicate", 0, 1)
        queue.put([repeated, *feed.ticks("b")])
        assert names(take(queue)) == ["b1"]
        queue.put(feed.ticks("a"))
        (message,) = take(queue)
        assert message.gap is not None
        assert message.gap.missed == 0

    def test_if_all_are_misfits_a_call_ends_at_its_deadline(self, overflow: str) -> None:
        queue, feed = typed(overflow), Ticks()
        queue.put(feed.ticks("ABAB"))
        for call in (Receiver(queue).recv, Receiver(queue).recv_batch):
            started = time.monotonic()
            with pytest.raises(WaitTimeout):
                call(timeout=0.05)
            assert 0.05 <= time.monotonic() - started < 1
        assert queue.invalid == (2 if overflow == "conflate" else 4)

    def test_a_call_that_waits_skips_misfits_until_one_fits(self, overflow: str) -> None:
        for take_one in (
            lambda queue: Receiver(queue).recv(),
            lambda queue: Receiver(queue).recv_batch()[0],
            lambda queue: next(iter(Receiver(queue))),
        ):
            queue, feed = typed(overflow), Ticks()
            call = Call(take_one, queue)
            for expected in range(3):
                until(lambda queue=queue: waiters_of(queue))
                assert queue.invalid == expected
                queue.put(feed.ticks("A"))
                until(lambda queue=queue, n=expected: queue.invalid > n)
            queue.put(feed.ticks("a"))
            assert marks([call.result()]) == ["a4 invalid 3"]

    def test_a_poll_finds_a_message_behind_any_number_of_waiting_misfits(
        self, overflow: str
    ) -> None:
        queue, feed = typed(overflow), Ticks()
        channels = [f"A{n}" for n in range(MANY)]
        queue.put(feed.ticks([*channels, "z"]))
        assert names([Receiver(queue).recv(timeout=0)]) == ["z1"]
        assert queue.invalid == MANY

    def test_messages_that_were_there_at_the_end_come_before_the_failure(
        self, overflow: str
    ) -> None:
        queue, feed = typed(overflow), Ticks()
        queue.put(feed.ticks("AbC"))
        queue.fail(WaitTimeout("over"))
        assert names(take(queue)) == ["b1"]
        with pytest.raises(WaitTimeout, match="over"):
            take(queue, timeout=None)

    def test_what_a_type_raises_skips_the_message_and_ends_nothing(self, overflow: str) -> None:
        class Leaving(Tick):
            def __post_init__(self) -> None:
                if self.n == 2:
                    raise SystemExit

        queue, feed = typed(overflow, kind=Leaving), Ticks()
        got = []
        for channels in ("a", "ab", "ab"):
            queue.put(feed.ticks(channels))
            got += take(queue)
        assert marks(got) == ["a1", "b1", "a3 invalid 1"]

    @given(
        steps=st.lists(st.text("abcABC", max_size=8) | st.integers(1, 5) | st.none(), max_size=12),
        size=st.none() | st.integers(1, 6) | st.integers(16, 40),
    )
    @examples(150)
    def test_delivered_are_those_that_fit_and_the_rest_is_accounted_for(
        self, overflow: str, steps: list[str | int | None], size: int | None
    ) -> None:
        """Of all put: delivered in order, skipped, dropped, or still to be marked."""
        bound = None if overflow == "error" else size
        queue, feed, account = typed(overflow, bound), Ticks(), Account()
        put: list[str] = []
        got: list[Message] = []
        for step in [*steps, None]:
            if isinstance(step, str):
                messages = feed.ticks(step)
                put += [n for n, c in zip(names(messages), step, strict=True) if c.islower()]
                queue.put(messages)
                continue
            try:
                taken = take(queue, step)
            except WaitTimeout:
                taken = []
            account.deliver(taken)
            got += taken
        assert [message.data.n for message in got] == [message.sequence for message in got]
        if bound is None and overflow != "conflate":
            assert names(got) == put
            assert sum(feed.put.values()) == len(put) + queue.invalid
        for channel in "abc":
            pending = queue.pending_gap(channel)
            owed = feed.put[channel] - account.accounted[channel]
            assert (pending.missed if pending else 0) == owed
        assert (len(queue), queue.queued_bytes) == (0, 0)
        assert len(got) + queue.invalid + queue.dropped == sum(feed.put.values())


class TestGapsOfBothKinds:
    def test_misfits_before_and_after_dropped_ones_are_one_gap(self) -> None:
        queue, feed = typed("drop_oldest", 2), Ticks()
        queue.put(feed.ticks("A"))
        with pytest.raises(WaitTimeout):
            take(queue)
        queue.put(feed.ticks("aaAa"))  # of which two are dropped
        (message,) = take(queue)
        assert message.gap == Gap("overflow", 4, None)

    def test_with_drop_newest_the_misfit_at_the_head_comes_before_the_dropped_at_the_tail(
        self,
    ) -> None:
        queue, feed = typed("drop_newest", 2), Ticks()
        queue.put(feed.ticks("Aaa"))
        assert queue.pending_gap("a") == Gap("overflow", 1, 2)
        assert marks(take(queue)) == ["a2 invalid 1"]
        queue.put(feed.ticks("Aa"))
        (message,) = take(queue)
        assert message.gap == Gap("overflow", 2, 2)

    def test_all_that_is_pending_is_told_at_once(self) -> None:
        queue, feed = typed("drop_newest", 1), Ticks()
        queue.put(feed.ticks("Aa"))
        with pytest.raises(WaitTimeout):
            take(queue)
        assert queue.pending_gap("a") == Gap("overflow", 2, None)

    def test_a_conflated_one_before_a_misfit_counts_too(self) -> None:
        queue, feed = typed("conflate"), Ticks()
        queue.put(feed.ticks("aA"))
        with pytest.raises(WaitTimeout):
            take(queue)
        queue.put(feed.ticks("a"))
        assert marks(take(queue)) == ["a3 invalid 2"]


class Counting:
    """A declared function that counts the channels it is asked for, by a type of its own."""

    def __init__(self, also: Callable[[], object] = lambda: None) -> None:
        self.made = 0
        counting = self

        class Counted(Tick):
            def __post_init__(self) -> None:
                counting.made += 1
                also()

        self.kind = Counted


class TestDecoding:
    @pytest.mark.parametrize("overflow", ["conflate", "drop_oldest", "drop_newest"])
    def test_what_is_dropped_before_is_never_decoded(self, overflow: str) -> None:
        counting = Counting()
        queue, feed = typed(overflow, 1, kind=counting.kind), Ticks()
        queue.put(feed.ticks("a" * 50))
        assert len(take(queue)) == 1
        assert counting.made == 1

    def test_a_conflated_queue_decodes_only_what_is_wanted(self) -> None:
        counting = Counting()
        queue, feed = typed("conflate", kind=counting.kind), Ticks()
        queue.put(feed.ticks("abcdef"))
        assert names(take(queue, 1)) == ["a1"]
        assert counting.made == 1

    def test_each_message_is_decoded_once(self) -> None:
        counting = Counting()
        queue, feed = typed(kind=counting.kind), Ticks()
        queue.put(feed.ticks("ab" * MANY))
        receiver = Receiver(queue)
        for message in [receiver.recv(), *receiver.recv_batch(7), *receiver.recv_batch()]:
            assert message.data is message.data
        assert counting.made == 2 * MANY

    def test_only_some_are_decoded_at_once(self) -> None:
        counting = Counting()
        queue, feed = typed(kind=counting.kind), Ticks()
        queue.put(feed.ticks("a" * MANY))
        Receiver(queue).recv()
        assert 1 < counting.made <= MANY // 2

    def test_a_batch_has_all_that_were_waiting_and_not_what_comes_meanwhile(self) -> None:
        counting = Counting(lambda: queue.put(feed.ticks("b")))
        queue, feed = typed(kind=counting.kind), Ticks()
        queue.put(feed.ticks("a" * MANY))
        got = Receiver(queue).recv_batch()
        assert names(got)[:MANY] == [f"a{n}" for n in range(1, MANY + 1)]
        assert len(got) < 2 * MANY

    def test_endless_misfits_do_not_delay_a_deadline(self) -> None:
        feed = Ticks()

        class Endless(Tick):
            def __post_init__(self) -> None:
                queue.put(feed.ticks("a"))
                raise ValueError

        queue = typed(kind=Endless)
        queue.put(feed.ticks("a"))
        with pytest.raises(WaitTimeout):
            Receiver(queue).recv(timeout=0.05)
        assert queue.invalid > 1

    def test_each_channel_has_its_type_and_others_are_plain(self) -> None:
        asked: list[str] = []

        def choose(channel: str) -> Any:
            asked.append(channel)
            return {"a": Tick, "b": dict[str, int]}.get(channel)

        queue, feed = typed(kind=choose), Ticks()
        queue.put(feed.ticks("abcABC"))
        data = [message.data for message in take(queue)]
        assert data == [Tick(1), {"n": 1}, {"n": 1}, {"n": "2"}]
        assert asked == ["a", "b", "c"]
        queue.forget("a")
        queue.put(feed.ticks("a"))
        take(queue)
        assert asked == ["a", "b", "c", "a"]

    def test_the_last_message_of_a_lost_channel_is_delivered(self) -> None:
        queue = typed()
        lost = Message("a", "lost", gap=Gap("rejected"))
        queue.put([lost])
        assert take(queue) == [lost]
        assert lost.data is None

    def test_no_lock_is_held_while_code_of_the_user_runs(self) -> None:
        held: list[bool] = []
        counting = Counting(lambda: held.append(lock_of(queue)._is_owned()))
        queue, feed = typed(kind=counting.kind), Ticks()
        queue.put(feed.ticks("a"))
        take(queue)
        assert held == [False]

    def test_a_call_from_within_a_locked_section_does_not_run_code_of_the_user(self) -> None:
        counting, locks = Counting(), Locks()
        queue, feed = typed(kind=counting.kind, locks=locks), Ticks()
        queue.put(feed.ticks("a"))
        for lock in (lock_of(queue), locks.new("another part")):
            with lock, pytest.raises(ReentrantCall):
                queue.fill(1, Deadline(0))
        assert counting.made == 0
        assert names(take(queue)) == ["a1"]

    def test_the_code_of_the_user_may_close_the_queue(self) -> None:
        counting = Counting(lambda: queue.close())
        queue, feed = typed(kind=counting.kind), Ticks()
        queue.put(feed.ticks("aA"))
        assert take(queue) == []
        assert queue.invalid == 0

    def test_a_close_during_the_decoding_ends_the_call(self) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def block() -> None:
            begun.set()
            go_on.wait(10)

        counting = Counting(block)
        queue, feed = typed(kind=counting.kind), Ticks()
        queue.put(feed.ticks("a"))
        call = Call(take, queue, timeout=None)
        begun.wait(10)
        assert queue.close() == 1
        go_on.set()
        assert call.result() == []

    def test_a_rouse_ends_a_call_that_finds_only_misfits(self) -> None:
        feed = Ticks()

        class Endless(Tick):
            def __post_init__(self) -> None:
                queue.put(feed.ticks("a"))
                if self.n == 5:
                    queue.rouse()
                raise ValueError

        queue = typed(kind=Endless)
        queue.put(feed.ticks("a"))
        assert queue.fill(1, Deadline(None))
        assert queue.invalid >= 4

    def test_a_second_consumer_is_served_while_the_first_decodes(self) -> None:
        """Both decode the same message; it is handed out once, with the data of the faster."""
        begun, go_on = threading.Event(), threading.Event()
        main = threading.current_thread()

        def block() -> None:
            if threading.current_thread() is not main:
                begun.set()
                go_on.wait(10)

        counting = Counting(block)
        queue, feed = typed(kind=counting.kind), Ticks()
        queue.put(feed.ticks("a"))
        slow = Call(take, queue, 1, None)
        begun.wait(10)
        (message,) = take(queue, 1)
        data = message.data
        queue.put(feed.ticks("a"))
        go_on.set()
        assert names(slow.result()) == ["a2"]
        assert message.data is data

    @pytest.mark.parametrize("overflow", ["drop_oldest", "conflate"])
    def test_consumers_at_once_get_each_message_once(self, overflow: str) -> None:
        queue, feed, total = typed(overflow), Ticks(), 3000
        receiver, got = Receiver(queue), []

        def consume() -> list[Message]:
            return list(receiver)

        consumers = [Call(consume) for _ in range(3)]
        for n in range(total // 3):
            queue.put(feed.ticks("abC" if n % 2 else "aBc"))
        until(lambda: not queue)
        queue.close()
        got = [message for consumer in consumers for message in consumer.result()]
        assert len(set(map(id, got))) == len(got)
        assert all(message.data.n == message.sequence for message in got)
        missed = sum(m.gap.missed or 0 for m in got if m.gap is not None)
        pending = [queue.pending_gap(channel) for channel in "abc"]
        assert len(got) + missed + sum(gap.missed or 0 for gap in pending if gap) == total
        assert len(got) + queue.invalid + queue.dropped == total


def test_misfits_are_reported_by_the_call_that_finds_them() -> None:
    reports: list[tuple[int, str]] = []

    def report(gaps: Gaps) -> None:
        assert not lock_of(queue)._is_owned()
        assert gaps.newest_misfit is not None
        channel, misfit = gaps.newest_misfit
        assert "does not fit its declared type (ValidationError" in misfit.text
        reports.append((gaps.misfits - gaps.reported, channel))
        gaps.reported = gaps.misfits

    queue, feed = typed(report=report), Ticks()
    queue.put(feed.ticks("aABb"))
    assert names(take(queue)) == ["a1", "b2"]
    assert reports == [(2, "b")]
    queue.put(feed.ticks("A"))
    with pytest.raises(WaitTimeout):
        take(queue)
    assert reports[1:] == [(1, "a")]


@pytest.mark.parametrize("overflow", POLICIES[:3])
@pytest.mark.parametrize(
    "way",
    [
        lambda receiver: [receiver.recv()],
        lambda receiver: receiver.recv_batch(2),
        lambda receiver: receiver.recv_batch(),
        lambda receiver: [next(receiver)],
    ],
    ids=["recv", "two", "all", "next"],
)
@pytest.mark.parametrize("put", ["AabBab", "abABc", "ABabcA"])
def test_an_interrupt_at_any_point_loses_nothing_and_counts_nothing_twice(
    overflow: str, put: str, way: Callable[[Receiver], list[Message]]
) -> None:
    refused: set[int] = set()
    for point in points():
        queue, feed = typed(overflow, size=5 * (MESSAGE_OVERHEAD + 9)), Ticks()
        queue.put(feed.ticks(put))
        receiver, account = Receiver(queue), Account()
        got = point(way, receiver) or []
        assert bool(got) == (point.error is None), str(point)
        assert not lock_of(queue)._is_owned(), str(point)
        assert not waiters_of(queue), str(point)
        while queue:
            try:
                got.append(receiver.recv(timeout=0))
            except WaitTimeout:
                break
        account.deliver(got)
        for channel in "abc":
            queue.put(feed.ticks(channel))
            account.deliver([receiver.recv(timeout=0)])
        assert account.accounted == feed.put, str(point)
        assert all(message.data.n == message.sequence for message in got), str(point)
        assert queue.queued_bytes == 0, str(point)
        refused.add(queue.invalid)
    assert len(refused) == 1
