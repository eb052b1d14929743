"""Pacing: a reader lets the consumers that it has woken come first, within one bound."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from support.helpers import Call, until
from support.inside import waiters_of
from support.queues import Feed, message_queue, names, take
from wsclient.runtime.pacing import PACE, Handover, Pacer
from wsclient.runtime.queues import MessageQueue


@pytest.fixture
def pacer() -> Pacer:
    return Pacer()


def hold_up(queue: MessageQueue) -> None:
    """Make the queue's next put wake a consumer that does not come."""
    signal = threading.Lock()
    signal.acquire()
    waiters_of(queue).append(signal)


def waited(pacer: Pacer) -> float:
    started = time.monotonic()
    pacer.wait()
    return time.monotonic() - started


def test_a_wait_ends_when_all_woken_consumers_have_come(pacer: Pacer) -> None:
    feed, queues = Feed(), [message_queue(pacer=pacer) for _ in range(3)]
    for _ in range(50):
        calls = [Call(take, queue, 1, None) for queue in queues]
        until(lambda: all(waiters_of(queue) for queue in queues))
        for queue in queues:
            queue.put(feed.messages("a"))
        pacer.wait()
        got = [call.result() for call in calls]
        assert [len(messages) for messages in got] == [1, 1, 1]


def test_all_queues_together_have_one_bound(pacer: Pacer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsclient.runtime.pacing.PACE", 0.05)
    feed, queues = Feed(), [message_queue(pacer=pacer) for _ in range(20)]
    for queue in queues:
        hold_up(queue)
        queue.put(feed.messages("a"))
    assert 0.05 <= waited(pacer) < 0.5


def test_a_late_consumer_is_not_waited_for_until_one_has_come(
    pacer: Pacer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsclient.runtime.pacing.PACE", 0.05)
    feed, late = Feed(), message_queue(pacer=pacer)
    for is_late in (False, True):
        hold_up(late)
        late.put(feed.messages("a"))
        assert (waited(pacer) < 0.05) == is_late
    assert names(take(late)) == ["a1", "a2"]
    hold_up(late)
    late.put(feed.messages("a"))
    assert waited(pacer) >= 0.05


def test_a_late_consumer_delays_no_other(pacer: Pacer) -> None:
    feed, late, other = Feed(), message_queue(pacer=pacer), message_queue(pacer=pacer)
    hold_up(late)
    late.put(feed.messages("a"))
    pacer.wait()
    hold_up(late)
    late.put(feed.messages("a"))
    call = Call(take, other, 1, None)
    until(lambda: waiters_of(other))
    other.put(feed.messages("b"))
    pacer.wait()
    assert names(call.result()) == ["b1"]


def test_what_nobody_waits_for_costs_no_time(pacer: Pacer) -> None:
    feed, queue = Feed(), message_queue(pacer=pacer)
    for _ in range(100):
        queue.put(feed.messages("a"))
    assert waited(pacer) < PACE


def test_puts_without_a_wait_leave_nothing_behind(pacer: Pacer) -> None:
    """As when the watchdog puts a message: it does not pace."""
    feed, queue = Feed(), message_queue(pacer=pacer)
    for _ in range(100):
        hold_up(queue)
        queue.put(feed.messages("a"))
        take(queue)
    assert len(pacer.woken) == 1


def test_hand_overs_may_begin_and_end_while_a_reader_waits(pacer: Pacer) -> None:
    """The watchdog puts messages too, and their consumers may be quicker than the reader."""
    handovers = [Handover(pacer) for _ in range(4)]
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            pacer.wait()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        reader = Call(read)
        for _ in range(10_000):
            for handover in handovers:
                handover.begin()
            for handover in handovers:
                if handover.is_awaited:
                    handover.end()
        until(lambda: not any(handover.is_listed for handover in handovers))
    finally:
        sys.setswitchinterval(interval)
        is_over.set()
    reader.result()
