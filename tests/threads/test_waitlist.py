"""The wait list: one wake-up for each thing, none lost by an interrupt or a timeout."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque

import pytest

from support.helpers import Call, until
from support.interrupting import points
from wsclient.threads import waitlist
from wsclient.threads.pops import pops
from wsclient.threads.waiting import NEVER, Deadline
from wsclient.threads.waitlist import WaitList


class Things:
    """Things that several threads take, each waiting until there is one."""

    def __init__(self) -> None:
        self.things: deque[int] = deque()
        self.waiting = WaitList()
        self._next = pops(self.things.popleft)

    def put(self, thing: int) -> None:
        self.things.append(thing)
        self.waiting.wake()

    def take(self, timeout: float | None = None) -> int | None:
        deadline = Deadline(timeout)
        while True:
            with contextlib.suppress(IndexError):
                for thing in self._next:
                    return thing
            if not self.waiting.wait(lambda: bool(self.things), deadline):
                return None


@pytest.fixture(autouse=True)
def no_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a wake-up ends a wait."""
    monkeypatch.setattr(waitlist, "SLICE", 60.0)


def test_each_thing_wakes_one_thread() -> None:
    things = Things()
    calls = [Call(things.take) for _ in range(5)]
    until(lambda: len(things.waiting) == 5)
    for number in range(5):
        things.put(number)
    assert sorted(call.result() for call in calls) == [0, 1, 2, 3, 4]
    assert not things.waiting


def test_wake_all_makes_every_thread_check() -> None:
    is_over, waiting = False, WaitList()
    calls = [Call(waiting.wait, lambda: is_over, NEVER) for _ in range(4)]
    until(lambda: len(waiting) == 4)
    is_over = True
    waiting.wake_all()
    assert [call.result() for call in calls] == [True] * 4


def test_one_wake_up_reaches_all_that_wait_for_the_same() -> None:
    is_over, waiting = False, WaitList()
    calls = [Call(waiting.wait, lambda: is_over, NEVER) for _ in range(4)]
    until(lambda: len(waiting) == 4)
    is_over = True
    waiting.wake()
    assert [call.result() for call in calls] == [True] * 4


def test_what_came_before_the_check_needs_no_wake_up() -> None:
    assert WaitList().wait(lambda: True, NEVER)


def test_a_wait_ends_at_its_deadline_and_leaves_nothing_behind() -> None:
    waiting, started = WaitList(), time.monotonic()
    assert not waiting.wait(lambda: False, Deadline(0.05))
    assert 0.05 <= time.monotonic() - started < 5
    assert not waiting


def test_a_wait_is_cut_into_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost wake-up, after two interrupts in a row, is replaced by the next check."""
    monkeypatch.setattr(waitlist, "SLICE", 0.001)
    waiting, over = WaitList(), threading.Event()
    call = Call(waiting.wait, over.is_set, NEVER)
    until(lambda: waiting)
    over.set()
    assert call.result()


def test_a_thread_that_times_out_passes_its_wake_up_on() -> None:
    """Some give up all the time while others wait for ever: no thing is left lying."""
    things, total = Things(), 2000
    got: deque[int] = deque()

    def poll() -> None:
        while len(got) < total:
            if (thing := things.take(0.0002)) is not None:
                got.append(thing)

    def wait() -> None:
        while (thing := things.take()) is not None and thing >= 0:
            got.append(thing)

    pollers, waiters = [Call(poll) for _ in range(2)], [Call(wait) for _ in range(2)]
    for number in range(total):
        things.put(number)
    for poller in pollers:
        poller.result()
    for _ in waiters:
        things.put(-1)
    for waiter in waiters:
        waiter.result()
    assert sorted(got) == list(range(total))


def test_an_interrupted_thread_keeps_no_wake_up_for_itself() -> None:
    for point in points():
        things = Things()
        other = Call(things.take)
        until(lambda things=things: things.waiting)
        point(things.take, 0.001)
        things.put(1)
        assert other.result(5) == 1, str(point)


def test_an_exception_of_the_check_leaves_nothing_behind() -> None:
    waiting = WaitList()
    with pytest.raises(ZeroDivisionError):
        waiting.wait(lambda: bool(1 / 0), NEVER)
    assert not waiting
